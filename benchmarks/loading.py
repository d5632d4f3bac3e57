"""Open a folder of images and read all of them at a model's size: without the cache, the first time, and again."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import arguments, interleaved, publish, table
from PIL import Image

from shpeft.datasets import batches, load_dataset, pixel_batches
from shpeft.datasets.cache import VARIABLE, clear_cache, usage
from shpeft.images import InputTransform

CLASSES = ("a", "b")


def draw(root: Path, count: int, side: int, kind: str) -> int:
    """Write different images of two classes, smooth shapes with noise; return their total bytes."""
    total = 0
    for number in range(count):
        rng = np.random.default_rng([side, number])
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
        values = np.clip(smooth + rng.integers(-12, 13, (side, side, 1)), 0, 255).astype(np.uint8)
        path = root / CLASSES[number % 2] / f"{number // 2 // 1000}" / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, quality=90)
        total += path.stat().st_size
    return total


def read(root: Path, transform: InputTransform | None, cache: bool = True) -> list[torch.Tensor]:
    """Open the folder and read every image of every split with empty caches in memory."""
    pixel_batches.CACHE.clear()
    data = load_dataset(root, cache=cache)
    if transform is None:
        return []
    return [images for split in data.splits for images, _ in batches(split, transform, 64)]


def arms(root: Path, transform: InputTransform | None) -> dict[str, Callable[[], object]]:
    """Return the three ways of loading, in the order that fills the cache for the last."""

    def first() -> None:
        clear_cache()
        read(root, transform)

    return {
        "without the cache": lambda: read(root, transform, cache=False),
        "first time": first,
        "again": lambda: read(root, transform),
    }


def measure(root: Path, title: str, transform: InputTransform | None, repeats: int) -> list[list[object]]:
    """Return the rows of one folder, after checking that the cache gives the same bits."""
    plain = read(root, transform, cache=False)
    for _ in range(2):  # while the cache fills, and once it is full
        if not all(map(torch.equal, plain, read(root, transform))):
            raise SystemExit("The cache gives other pixels, so its time is meaningless.")
    del plain
    timings = interleaved(arms(root, transform), repeats, warmup=0)
    base = timings["without the cache"].median
    held = usage().bytes / 2**20
    rows: list[list[object]] = [
        [f"{title}, {name}", f"{timing.median:.2f}", f"{timing.median / base:.3f}", ""]
        for name, timing in timings.items()
    ]
    rows[-1][-1] = f"{held:,.1f} MiB"
    return rows


def main() -> None:
    """Draw the images, measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="JPEGs")
    parser.add_argument("--side", type=int, default=512, help="their side in pixels")
    parser.add_argument("--size", type=int, default=112, help="side in pixels at which they are read")
    parser.add_argument("--files", type=int, default=100_000, help="PNGs of 32 px in a folder that is only opened")
    options = parser.parse_args()
    transform = InputTransform(options.size, (0.5,) * 3, (0.5,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = str(Path(folder) / "cache")
        jpegs, pngs = Path(folder) / "jpegs", Path(folder) / "pngs"
        size = draw(jpegs, options.images, options.side, "jpg") / options.images / 1024
        draw(pngs, options.files, 32, "png")
        title = f"{options.images:,} JPEGs of {options.side} px, opened and read at {options.size} px"
        rows = measure(jpegs, title, transform, options.repeats)
        clear_cache()
        rows += measure(pngs, f"{options.files:,} PNGs of 32 px, opened", None, options.repeats)
    body = (
        f"JPEGs of {size:.0f} KiB on average, in the operating system's memory; {options.repeats} turns, medians. "
        "Checked before timing: the cache gives the same bits as reading without it. Opening decodes each image once, "
        "to check it and to hash its pixels; reading decodes and resizes it. *Again* is the time of a later run.\n\n"
    )
    publish("Loading images", body + table(("folder", "seconds", "× without", "cache"), rows), options.write)


if __name__ == "__main__":
    main()
