"""How soon a fresh start is ready to fine-tune: the default dataset opened and the embedded backbone built.

The library is timed from the start of a Python process until the model has answered for one image of the dataset; the
app from the start of its server until its button to start a run can be clicked in a real browser.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import arguments, publish, table

ROOT = Path(__file__).resolve().parents[1]

READY = """
from shpeft import create_backbone, load_dataset
from shpeft.config import RunConfig
config = RunConfig()
data = load_dataset(**config.dataset.model_dump(), seed=config.seed)
chosen = config.backbone.model_dump(include={"name", "weights", "image_size"})
backbone = create_backbone(**chosen, classes=data.classes)
backbone(backbone.transform(data.test.image(0)))
"""


def library() -> float:
    """Seconds of a process that ends when it is ready."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", READY], check=True, cwd=ROOT)
    return time.perf_counter() - start


def app() -> float:
    """Seconds until a run can be started in the browser, which is open already."""
    from playwright.sync_api import expect, sync_playwright

    sys.path.insert(0, str(ROOT))
    from tests.browser.driver import QUIET, executable, serving

    with sync_playwright() as driver, tempfile.TemporaryDirectory() as runs:
        browser = driver.chromium.launch(executable_path=executable(), args=QUIET)
        page = browser.new_page()
        start = time.perf_counter()
        with serving(Path(runs)) as address:
            page.goto(address)
            expect(page.get_by_role("button", name="Start fine-tuning")).to_be_enabled(timeout=120_000)
            seconds = time.perf_counter() - start
            browser.close()
    return seconds


def measure(repeats: int, with_app: bool) -> str:
    """The section's text; the two take turns."""
    load = os.getloadavg()[0]
    arms = {"library": library} | ({"app, in a browser": app} if with_app else {})
    seconds = {name: list[float]() for name in arms}
    for turn in range(repeats):
        for name, arm in arms.items():
            seconds[name].append(arm())
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
    rows = [[name, f"{median(found):.1f}", f"{max(found):.1f}"] for name, found in seconds.items()]
    return (
        f"Seconds, medians of {repeats}; nothing is loaded before. Other processes kept the {os.cpu_count()} cores "
        f"under a load of {load:.1f} when the measuring began.\n\n" + table(("ready", "median", "slowest"), rows)
    )


def main() -> None:
    """Read the options, measure, print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--library-only", action="store_true", help="leave the app out, which needs a browser")
    options = parser.parse_args()
    publish("Ready after a start", measure(options.repeats, not options.library_only), options.write)


if __name__ == "__main__":
    main()
