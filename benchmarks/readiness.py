"""Time from a fresh start until fine-tuning can begin: the default dataset is open and the embedded backbone is built.

The library is timed from the start of a Python process to the first prediction for an image of the dataset; the app
from the start of its server until the button that starts a run can be clicked in a real browser.
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
from shpeft.config.schema import RunConfig
config = RunConfig()
data = load_dataset(**config.dataset.model_dump(), seed=config.seed)
chosen = config.backbone.model_dump(include={"name", "weights", "image_size"})
backbone = create_backbone(**chosen, classes=data.classes)
backbone(backbone.transform(data.test.image(0)))
"""


def library() -> float:
    """Return the seconds of a process that ends when it is ready."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", READY], check=True, cwd=ROOT)
    return time.perf_counter() - began


def app() -> float:
    """Return the seconds until a run can be started in a browser that is already open."""
    from playwright.sync_api import expect, sync_playwright

    sys.path.insert(0, str(ROOT))
    from shpeft.support.headless_browser import find_browser
    from tests.browser.driver import QUIET, new_context, serving

    with sync_playwright() as driver, tempfile.TemporaryDirectory() as runs:
        browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
        began = time.perf_counter()
        with serving(Path(runs)) as address:
            page = new_context(browser, address).new_page()
            page.goto(address)
            expect(page.get_by_role("button", name="Start fine-tuning")).to_be_enabled(timeout=120_000)
            seconds = time.perf_counter() - began
            browser.close()
    return seconds


def measure(repeats: int, with_app: bool) -> str:
    """Return the section's text; library and app are timed in turns."""
    load = os.getloadavg()[0]
    arms = {"library": library} | ({"app, in a browser": app} if with_app else {})
    seconds = {name: list[float]() for name in arms}
    for turn in range(repeats):
        for name, arm in arms.items():
            seconds[name].append(arm())
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
    rows = [[name, f"{median(times):.1f}", f"{max(times):.1f}"] for name, times in seconds.items()]
    return (
        f"Seconds, medians of {repeats}; nothing is loaded in advance. When the measurement began, other processes put "
        f"a load of {load:.1f} on the {os.cpu_count()} cores.\n\n" + table(("ready", "median", "slowest"), rows)
    )


def main() -> None:
    """Read the options, measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--library-only", action="store_true", help="skip the app, which needs a browser")
    options = parser.parse_args()
    publish("Ready after a start", measure(options.repeats, not options.library_only), options.write)


if __name__ == "__main__":
    main()
