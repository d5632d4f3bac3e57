"""How fast the app opens a CT series of 300 slices from a folder, and how fast the viewer goes through its slices.

A real browser measures from outside, on the same computer. *Open* is the time from the path in its field to the middle
slice in the viewer, of a page that has been opened. *Slices a second* is measured over 100 slices, of which each is
asked for as soon as the one before is drawn; on the way back, the browser still has them.
"""

import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from harness import arguments, publish, table
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.runs import RunFolder
from shpeft.support.headless_browser import find_browser
from tests.browser.driver import QUIET, new_context, serving
from tests.browser.scrolling import SIDE, SLICES, opened, scrolled, write_ct
from tests.helpers.command_line import TINY


def measure(repeats: int) -> str:
    """Return the section's text."""
    load, rows = os.getloadavg()[0], list[tuple[float, float, float]]()
    with tempfile.TemporaryDirectory() as ct, tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
        write_ct(Path(ct))
        folder = RunFolder.create(Path(runs) / "runs" / "tiny", RunConfig.parse(yaml.safe_load(TINY)))
        pipeline.run(folder.config, folder)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
            for turn in range(repeats + 1):
                page = new_context(browser, address, viewport={"width": 1400, "height": 900}).new_page()
                opens, before = opened(page, address, folder.name, Path(ct)), scrolled(page)
                page.get_by_role("button", name="Diagnose the").click()
                page.get_by_role("button", name="Stop").wait_for()
                times = opens, before, scrolled(page)
                if turn:  # the first turn loads what stays in memory
                    rows.append(times)
                page.context.close()
                print(f"turn {turn} of {repeats}", file=sys.stderr)
            browser.close()
    columns = [*zip(*rows, strict=True)]
    return (
        f"{SLICES} slices of {SIDE} × {SIDE} pixels with 16 bits, uncompressed, in a folder; medians of {repeats}. "
        f"When the measurement began, other processes put a load of {load:.1f} on the {os.cpu_count()} cores.\n\n"
        + table(
            ("", "median", "slowest"),
            [
                ("seconds to open", f"{median(columns[0]):.2f}", f"{max(columns[0]):.2f}"),
                *(
                    (f"slices a second, {when}", f"{median(speeds):.0f}", f"{min(speeds):.0f}")
                    for when, speeds in zip(
                        ("onwards, reading alone", "back, while the model answers"), columns[1:], strict=True
                    )
                ),
            ],
        )
    )


def main() -> None:
    """Read the options, measure and print."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    publish("A series of 300 slices in the viewer", measure(options.repeats), options.write)


if __name__ == "__main__":
    main()
