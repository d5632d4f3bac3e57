"""Diagnose a folder to a CSV: images a second at several batch sizes, of images of ordinary and of slide-like size."""

import resource
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness import arguments, interleaved, publish, table
from loading import draw

from shpeft.batch import diagnose_batch, open_source
from shpeft.pipeline import LoadedRun, load_run
from shpeft.runs import example_run


def diagnosed(loaded: LoadedRun, images: Path, out: Path, batch_size: int) -> None:
    """Diagnose every image of a folder to a new CSV."""
    out.unlink(missing_ok=True)
    with open_source([images]) as source:
        result = diagnose_batch(loaded, source, out, batch_size=batch_size)
    if result.unreadable:
        raise SystemExit(f"{len(result.unreadable)} images cannot be read, so the times are meaningless.")


def measure(
    loaded: LoadedRun, root: Path, side: int, count: int, sizes: Sequence[int], repeats: int
) -> list[list[str]]:
    """Return a row for each batch size; images of ``side`` × ``side`` pixels."""
    images = root / str(side)
    draw(images, count, side, "jpg")
    arms: dict[str, Callable[[], None]] = {
        str(size): partial(diagnosed, loaded, images, root / f"{side}-{size}.csv", size) for size in sizes
    }
    timings = interleaved(arms, repeats)
    alone = timings[str(sizes[0])].median
    return [
        [f"{count:,} JPEGs of {side:,} px", size, f"{count / timing.median:.1f}", f"{timing.median / alone:.2f}"]
        for size, timing in timings.items()
    ]


def main() -> None:
    """Draw the images, measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="JPEGs of 512 px")
    parser.add_argument("--large", type=int, default=16, help="JPEGs of 4,000 px")
    parser.add_argument("--side", type=int, default=4000, help="side of the large ones in pixels")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1, 8, 32], help="batch sizes, the first to compare with"
    )
    options = parser.parse_args()
    example = example_run()
    assert example is not None
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, load_run(example) as loaded:
        for side, count in ((512, options.images), (options.side, options.large)):
            rows += measure(loaded, Path(folder), side, count, options.sizes, options.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    body = (
        f"The example's model, on {loaded.backbone.device.type}; {options.repeats} turns, medians. Each image is "
        "decoded, searched for burnt-in text, judged and written to a row; where a batch has several images, threads "
        f"read the next ones. The whole process took {peak:.1f} GiB of memory at most.\n\n"
    )
    header = ("folder", "batch", "images a second", "× time of the first")
    publish("Throughput of diagnose --csv", body + table(header, rows), options.write)


if __name__ == "__main__":
    main()
