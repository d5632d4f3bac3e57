"""Make the README's screenshots: drive the app through its default run and look at every page.

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

from tests.browser.driver import QUIET, executable, serving  # noqa: E402

RUN = "fundus"
KEPT = ("train", "importance", "overlap", "evaluate", "diagnose")
"""What the documentation shows; the others are for looking at."""

MINUTES = 10
"""How long the default run may take."""


def settled(page: Page) -> None:
    """Wait until the page is drawn to its end and its charts stand still."""
    page.get_by_text("Research use only").first.wait_for()
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")
    page.wait_for_timeout(1000)


def train(page: Page, shot) -> None:
    """Start the default run, catch it with half of its curves, and wait for the end."""
    start = page.get_by_role("button", name="Start fine-tuning")
    start.wait_for()
    settled(page)
    shot("start")
    name = page.get_by_label("Name of the run (optional)")
    name.fill(RUN)
    name.press("Enter")
    start.click()
    page.get_by_text(re.compile("Epoch 6 of")).wait_for(timeout=MINUTES * 60_000)
    page.wait_for_timeout(1000)
    shot("train")
    page.get_by_text("Finished", exact=True).wait_for(timeout=MINUTES * 60_000)
    settled(page)
    shot("result")


def look(page: Page, address: str, shot) -> None:
    """Every other page, with a cell of the heatmap chosen and a test image explained."""
    page.goto(f"{address}/importance?run={RUN}")
    settled(page)
    cells = page.locator(".heatmaplayer image").first.bounding_box()
    page.mouse.click(cells["x"] + cells["width"] / 8, cells["y"] + cells["height"] / 2)
    settled(page)
    shot("importance")
    page.goto(f"{address}/overlap?run={RUN}")
    settled(page)
    shot("overlap")
    page.goto(f"{address}/diagnose?run={RUN}")
    settled(page)
    page.get_by_text("A test image of this run").click()
    number = page.get_by_role("spinbutton", name=re.compile("Which of the"))
    number.fill("2")
    number.press("Enter")
    settled(page)
    page.get_by_text("Show where the score is sensitive").click()
    make, drawn = page.get_by_role("button", name=re.compile("Make the map")), page.get_by_text("not where disease is")
    make.or_(drawn).first.wait_for()
    if make.count():  # what takes longer than some seconds waits until it is asked for
        make.click()
    drawn.wait_for()
    settled(page)
    shot("diagnose")
    page.goto(f"{address}/evaluate?run={RUN}")
    settled(page)
    shot("evaluate")
    page.goto(f"{address}/runs?run={RUN}")
    settled(page)
    shot("runs")


def main() -> None:
    """Start a server of its own and write the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "assets")
    options.add_argument("--dark", action="store_true")
    options.add_argument("--all", action="store_true", help="every state of every page")
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=QUIET)
        scheme = "dark" if chosen.dark else "light"
        context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(90_000)
        page = context.new_page()

        def shot(name: str) -> None:
            if name not in KEPT and not chosen.all:
                return
            path = chosen.out / f"screenshot_{name}{'_dark' if chosen.dark else ''}.png"
            page.screenshot(path=path)
            print(path)

        page.goto(address)
        train(page, shot)
        look(page, address, shot)
        browser.close()


if __name__ == "__main__":
    main()
