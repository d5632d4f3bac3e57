"""Time that the app takes to show a page and to respond while a run trains on the same processor.

A real browser measures from outside, on the same computer. *First paint* is when it paints the first text, *notice*
when the app's notice appears, *drawn* when nothing on the page changes any more, charts included. A response is timed
from the click or key press to the last change of the page; where the page goes on to work in the background, to what
was asked for: the list, the answer.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from harness import arguments, publish, table
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shpeft.support.headless_browser import find_browser
from tests.browser.driver import QUIET, new_context, serving
from tests.browser.steps import answered as diagnosed
from tests.browser.steps import discard, show_saliency_map, start_on_phantoms

WATCH = """
window.watched = {changed: 0, notice: null, acted: null, sent: true, received: true};
window.begin = () => { watched.acted = null; watched.sent = watched.received = false; watched.before = at(); };
window.at = () => [...document.querySelectorAll('[data-testid=stCaptionContainer]')].map(caption =>
    caption.innerText.trim()).find(text => /^\\d+ of \\d+$/.test(text));
window.state = () => document.querySelector('[data-test-script-state]')?.dataset.testScriptState;
new MutationObserver(() => {
    watched.changed = performance.now();
    if (watched.notice === null && document.body?.innerText.includes('Research use only'))
        watched.notice = watched.changed;
}).observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
for (const kind of ['pointerdown', 'keydown'])
    document.addEventListener(kind, () => { watched.acted ??= performance.now(); }, true);
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
    if (!this.heard) this.addEventListener('message', () => { watched.received ||= watched.sent; });
    this.heard = true;
    watched.sent ||= watched.acted !== null;
    return send.call(this, data);
};
"""
"""Records when the page last changed, first showed the notice and was touched, and whether a message to the server and
one from it followed. The page's own running state is not enough: of a quick response it shows the end only."""

STILL = """() => watched.notice !== null && watched.received && state() === 'notRunning'
    && performance.now() - watched.changed > 400"""
"""Whether nothing has changed for 400 ms: the page is drawn. Cursors and spinners are not animated by changes."""

LISTED = """() => document.querySelector("[class*='st-key-open-'] button") !== null"""
"""Whether the list of cases is drawn; its answers are made in the background."""

OPENED = """() => at() !== undefined && at() !== watched.before
    && document.querySelector('h1')?.closest('[data-stale]')?.dataset.stale === 'false'"""
"""Whether another case of the list has its headline; the one of the case before is stale until then."""

MINUTE = 60_000
FIRST, TRAINING = "first", "training"
Act = Callable[[Page], None]


def option(label: str, *values: str) -> Act:
    """Select the first value that is not selected; the click on the value is timed."""

    def select(page: Page) -> None:
        box = page.get_by_role("combobox", name=re.compile(label)).first
        before = box.input_value()
        value = next(value for value in values if value != before)
        box.click()
        box.fill(value)
        choice = page.get_by_role("option", name=value).first
        choice.wait_for()
        page.evaluate("begin()")
        choice.click()

    return select


def clicked(text: str) -> Act:
    """Click on the element with exactly this text."""
    return lambda page: page.get_by_text(text, exact=True).first.click()


ACTS: dict[str, dict[str, Act]] = {
    "train": {
        "a preset": clicked("Fast"),
        "the budget": lambda page: page.get_by_role("slider", name=re.compile("^How much")).press("ArrowRight"),
    },
    "importance": {
        "another quantity": clicked("Mean score"),
        "another score": clicked("Task-specific"),
        "one matrix": option("Matrix", "attn.qkv"),
    },
    "overlap": {"to Importance": lambda page: page.get_by_role("link", name="Importance", exact=True).click()},
    "evaluate": {
        "the class that must not be missed": option("Class", "exudates", "haemorrhages"),
        "images of a cell": option("Images of", "healthy, predicted healthy"),
    },
    "diagnose": {
        "test images": clicked("Test images"),
        "an image": lambda page: page.locator("[class*='st-key-open-'] button").first.click(),
        "the next image": lambda page: page.get_by_role("button", name=re.compile("^Next")).click(),
    },
    "runs": {"to Overlap": lambda page: page.get_by_role("link", name="Overlap", exact=True).click()},
}

PREPARE: dict[tuple[str, str], Sequence[Act]] = {
    ("train", "a preset"): [clicked("Advanced")],
    ("train", "the budget"): [lambda page: page.get_by_role("tab", name="Weights to train", exact=True).click()],
    ("evaluate", "images of a cell"): [lambda page: page.get_by_role("tab", name="Confusion matrix").click()],
}
"""What opens the part of a page in which an action is; the browser does it alone."""

ASKED_FOR = {
    ("diagnose", "test images"): LISTED,
    ("diagnose", "an image"): OPENED,
    ("diagnose", "the next image"): OPENED,
}
"""What an action asks for, where the page goes on to work in the background."""


def still(page: Page) -> None:
    """Wait until the page is drawn."""
    page.wait_for_function(STILL, polling=20, timeout=2 * MINUTE)


def opened(browser: Browser, address: str) -> Page:
    """Open a page in a browser session of its own."""
    context = new_context(browser, address, viewport={"width": 1400, "height": 900})
    context.set_default_timeout(MINUTE)
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(address)
    return page


def shown(page: Page) -> tuple[float, float, float]:
    """Return the seconds from the visit to the first paint, to the notice, and to the whole page."""
    still(page)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    notice, drawn = page.evaluate("[watched.notice, watched.changed]")
    return paint / 1000, notice / 1000, drawn / 1000


def answered(page: Page, act: Act, asked_for: str | None = None) -> float:
    """Return the seconds from an action to what it asks for, by default to the last change that it causes."""
    page.evaluate("begin()")
    act(page)
    if asked_for is not None:
        page.wait_for_function(asked_for, polling=20, timeout=2 * MINUTE)
        seconds = page.evaluate("performance.now() - watched.acted") / 1000
        still(page)
        return seconds
    still(page)
    return page.evaluate("watched.changed - watched.acted") / 1000


def cold(driver: Playwright, repeats: int) -> tuple[list[tuple[float, float, float]], list[tuple[float, float]]]:
    """Time the first visit to a new server with an empty browser cache, and what *Try it* then shows.

    Returns:
        for each turn the seconds of the page, and those from the visit to the answer and to the map beside the image.
    """
    times, tries = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
            browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
            times.append(shown(opened(browser, address)))
            browser.close()
        with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
            browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
            page = opened(browser, address)
            began = page.evaluate("performance.timeOrigin") / 1000
            page.get_by_role("button", name="Try it").click()
            diagnosed(page)
            answer = time.time() - began
            show_saliency_map(page)
            tries.append((answer, time.time() - began))
            browser.close()
    return times, tries


def busy(browser: Browser, address: str, repeats: int) -> tuple[dict[str, list], dict[tuple[str, str], list[float]]]:
    """Time every page in new sessions, and each action on it, while a run trains."""
    pages: dict[str, list] = {page: [] for page in ACTS}
    acts: dict[tuple[str, str], list[float]] = {(page, act): [] for page in ACTS for act in ACTS[page]}
    for turn in range(repeats + 1):
        for name, actions in ACTS.items():
            url = f"{address}/{name}?run={FIRST}" if name != "train" else f"{address}/train"  # the form
            page = opened(browser, url)
            times, answers = shown(page), {}
            for act, do in actions.items():
                for prepare in PREPARE.get((name, act), ()):
                    prepare(page)
                answers[act] = answered(page, do, ASKED_FOR.get((name, act)))
            if turn:  # the first turn loads what stays in memory
                pages[name].append(times)
                for act, seconds in answers.items():
                    acts[name, act].append(seconds)
            page.context.close()
        print(f"turn {turn} of {repeats}", file=sys.stderr)
    return pages, acts


def discarded(browser: Browser, address: str, repeats: int) -> list[float]:
    """Return the seconds from a click on Discard to the message that the run is in the trash."""
    times = []
    for turn in range(repeats):
        name = f"{TRAINING}{turn or ''}"
        page = opened(browser, f"{address}/train?run={name}" if turn == 0 else f"{address}/train")
        if turn:
            still(page)
            start_on_phantoms(page, name, 1000)
            page.get_by_text(re.compile("Epoch 1 of")).wait_for()
        page.evaluate("begin()")
        discard(page, name)
        times.append(page.evaluate("performance.now() - watched.acted") / 1000)
        page.context.close()
    return times


def measure(repeats: int) -> str:
    """Return the section's text."""
    busy_already = os.getloadavg()[0]
    with sync_playwright() as driver:
        first, tries = cold(driver, repeats)
        with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
            browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
            page = opened(browser, f"{address}/train")
            still(page)
            start_on_phantoms(page, FIRST, 1)
            page.get_by_text("Finished", exact=True).wait_for(timeout=3 * MINUTE)
            page.get_by_role("button", name="New run").click()
            still(page)
            start_on_phantoms(page, TRAINING, 1000)
            page.context.close()
            pages, acts = busy(browser, address, repeats)
            stops = discarded(browser, address, repeats)
            browser.close()
    rows = [["the first visit after a start, nothing trains", *_three(first)]]
    rows += [[f"{name}, while a run trains", *_three(times)] for name, times in pages.items()]
    tried = ("from the first visit after a start to a sample's answer", "and to its map, two clicks at most")
    answers = [
        [what, f"{median(t):.2f}", f"{max(t):.2f}"] for what, t in zip(tried, zip(*tries, strict=True), strict=True)
    ]
    answers += [[f"{name}: {act}", f"{median(t):.2f}", f"{max(t):.2f}"] for (name, act), t in acts.items()]
    answers.append(["Train: Discard, until the run is in the trash", f"{median(stops):.2f}", f"{max(stops):.2f}"])
    return (
        f"Seconds, medians of {repeats}. The run fine-tunes the embedded backbone. When the measurement began, other "
        f"processes put a load of {busy_already:.1f} on the {os.cpu_count()} cores. Each page is opened in a browser "
        "session of its own; except in the first line, the server has already loaded what it loads once.\n\n"
        + table(("page", "first paint", "notice", "drawn"), rows)
        + "\n\n"
        + table(("response to", "median", "slowest"), answers)
    )


def _three(times: Sequence[tuple[float, float, float]]) -> list[str]:
    return [f"{median(column):.2f}" for column in zip(*times, strict=True)]


def main() -> None:
    """Read the options, measure and print."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    publish("The app while a run trains", measure(options.repeats), options.write)


if __name__ == "__main__":
    main()
