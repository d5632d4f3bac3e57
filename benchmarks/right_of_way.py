"""An answer and a map while a run trains on the same processor: with the right of way, and without it.

Both arms take turns in one process with the training, as the app does.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness import arguments, interleaved, publish, table

from shpeft.config.schema import RunConfig
from shpeft.datasets import load_dataset
from shpeft.diagnosis import diagnose
from shpeft.explanation.saliency import explain_and_check
from shpeft.jobs import JobManager
from shpeft.pipeline import load_run
from shpeft.runs import example_run


def measure(source: str, repeats: int) -> str:
    """Return the section's text."""
    example = example_run()
    assert example is not None
    image = load_dataset(example.config.dataset.source).test.image(0)
    config = RunConfig.parse({"dataset": {"source": source}, "training": {"epochs": 1000}})
    with load_run(example) as loaded, tempfile.TemporaryDirectory() as runs:
        inputs, manager = loaded.backbone.transform(image), JobManager(Path(runs))

        def answer() -> None:
            diagnose(loaded.backbone, image, reliability=loaded.reliability, ood_detector=loaded.ood_detector)

        def checked_map() -> None:
            explain_and_check(loaded.backbone, inputs, loaded.backbone.classes[0])

        def claiming(work: Callable[[], None]) -> Callable[[], None]:
            def claimed() -> None:
                with manager.right_of_way.claimed():
                    work()

            return claimed

        load, name = os.getloadavg()[0], manager.submit(config, "training")
        while not any(report.epoch for report in manager.snapshot(name).history):
            time.sleep(0.1)
        arms = {"answer": answer, "answer, claimed": claiming(answer)}
        arms |= {"map": checked_map, "map, claimed": claiming(checked_map)}
        timed = interleaved(arms, repeats)
        manager.discard(name)
        manager.shutdown()
    rows = []
    for what, title in (("answer", "the answer"), ("map", "the map with its checks")):
        plain, claimed = timed[what], timed[f"{what}, claimed"]
        ratios = [b / a for a, b in zip(plain.seconds, claimed.seconds, strict=True)]
        rows.append([title, f"{plain.median:.2f}", f"{claimed.median:.2f}", f"{median(ratios):.2f}"])
    return (
        f"Seconds, medians of {repeats} turns, and the median of the ratios within a turn. Other processes put a "
        f"load of {load:.1f} on the {os.cpu_count()} cores when the measurement began.\n\n"
        + table(("embedded backbone", "without", "with the right of way", "ratio"), rows)
    )


def main() -> None:
    """Read the options, measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", default="phantom:fundus?n=90&size=64", help="what the run trains on")
    options = parser.parse_args()
    publish("The right of way while a run trains", measure(options.data, options.repeats), options.write)


if __name__ == "__main__":
    main()
