"""Take the README's screenshots: train a run on a phantom, and open every page with the example.

python tools/screenshots.py [--out assets] [--dark] [--all]
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shpeft.support.headless_browser import find_browser  # noqa: E402
from tests.browser.driver import QUIET, new_context, serving  # noqa: E402

RUN, EXAMPLE = "fundus", "example"
SOURCE = "phantom:fundus?n=240&size=160"
"""The images of the example."""

DOCUMENTED = ("train", "importance", "overlap", "evaluate", "diagnose")
"""The screenshots of the documentation; the others are taken with ``--all``."""

MINUTES = 10
"""The longest time that the default run may take."""


def settled(page: Page) -> None:
    """Wait until the page and its charts are drawn."""
    page.get_by_text("Research use only").first.wait_for()
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")
    page.wait_for_timeout(1000)


def train(page: Page, shot) -> None:
    """Start a run, take a screenshot of its curves halfway, and wait for the end."""
    settled(page)
    page.get_by_text("Drawn images", exact=True).click()
    source = page.get_by_role("combobox", name=re.compile("Dataset"))
    source.fill(SOURCE)
    source.press("Enter")
    page.get_by_text("80 held out for the test").wait_for()
    button = page.get_by_role("button", name="Start", exact=True)
    settled(page)
    shot("start")
    name = page.get_by_label("Name of the run (optional)")
    name.fill(RUN)
    name.press("Enter")
    button.click()
    page.get_by_text(re.compile("Epoch 6 of")).wait_for(timeout=MINUTES * 60_000)
    page.wait_for_timeout(1000)
    shot("train")
    page.get_by_text("Finished", exact=True).wait_for(timeout=MINUTES * 60_000)
    settled(page)
    shot("result")


def look(page: Page, address: str, shot) -> None:
    """Open every other page, with a selected cell of the heatmap and an explained test image."""
    page.goto(f"{address}/importance?run={EXAMPLE}")
    settled(page)
    cells = page.locator(".heatmaplayer image").first.bounding_box()
    page.mouse.click(cells["x"] + cells["width"] / 8, cells["y"] + cells["height"] / 2)
    settled(page)
    shot("importance")
    page.goto(f"{address}/overlap?run={EXAMPLE}")
    settled(page)
    shot("overlap")
    page.goto(f"{address}/diagnose?run={EXAMPLE}")
    settled(page)
    page.get_by_text("Test images", exact=True).click()
    page.get_by_text("List with my findings").wait_for()
    settled(page)
    shot("worklist")
    page.goto(address)
    settled(page)
    shot("home")
    page.get_by_role("button", name="Try it").click()
    explain = page.get_by_role("button", name=re.compile("Explain"))
    explained = page.get_by_text("not where disease is").or_(page.get_by_text("No map is shown"))
    explain.or_(explained).first.wait_for()
    if explain.count():  # slow maps are made on request only
        explain.click()
    explained.first.wait_for()
    settled(page)
    shot("diagnose")
    page.goto(f"{address}/evaluate?run={EXAMPLE}")
    settled(page)
    shot("evaluate")
    page.goto(f"{address}/runs?run={RUN}")
    settled(page)
    shot("runs")


def main() -> None:
    """Start a server and write the screenshots."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "assets")
    options.add_argument("--dark", action="store_true")
    options.add_argument("--all", action="store_true", help="every state of every page")
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
        scheme = "dark" if chosen.dark else "light"
        context = new_context(browser, address, viewport={"width": 1400, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(90_000)
        page = context.new_page()

        def shot(name: str) -> None:
            if name not in DOCUMENTED and not chosen.all:
                return
            path = chosen.out / f"screenshot_{name}{'_dark' if chosen.dark else ''}.png"
            page.screenshot(path=path)
            print(path)

        page.goto(f"{address}/train")
        train(page, shot)
        look(page, address, shot)
        browser.close()


if __name__ == "__main__":
    main()
