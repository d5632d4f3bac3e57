"""How long the app takes to show a page and to answer, while a run trains on the same processor.

A real browser looks on from outside, on the same computer. *First paint* is when it paints its first words, *notice*
when the app's own words stand there, *drawn* when nothing on the page changes any more, charts included. An answer is
timed from the click or key press to the last change of the page.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from harness import arguments, publish, table
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.browser.driver import QUIET, executable, serving
from tests.browser.steps import discard, start_on_phantoms

WATCH = """
window.watched = {changed: 0, notice: null, acted: null, asked: true, told: true};
window.begin = () => { watched.acted = null; watched.asked = watched.told = false; };
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
    if (!this.heard) this.addEventListener('message', () => { watched.told ||= watched.asked; });
    this.heard = true;
    watched.asked ||= watched.acted !== null;
    return send.call(this, data);
};
"""
"""Notes when the page last changed, had the notice first and was touched, and whether the server was asked and told
something since then. The page's own word that it runs is not enough: of a quick answer it shows the end alone."""

STILL = """() => watched.notice !== null && watched.told && state() === 'notRunning'
    && performance.now() - watched.changed > 400"""
"""Whether nothing has changed for 400 ms: the page is drawn. Cursors and spinners are not animated by changes."""

MINUTE = 60_000
FIRST, TRAINING = "first", "training"
Act = Callable[[Page], None]


def option(label: str, value: str) -> Act:
    """Choose in a list; the click on the choice is what is timed."""

    def choosing(page: Page) -> None:
        box = page.get_by_role("combobox", name=re.compile(label)).first
        box.click()
        box.fill(value)
        wanted = page.get_by_role("option", name=value).first
        wanted.wait_for()
        page.evaluate("begin()")
        wanted.click()

    return choosing


def clicked(words: str) -> Act:
    """Click on what has exactly these words."""
    return lambda page: page.get_by_text(words, exact=True).first.click()


def next_image(page: Page) -> None:
    """The next one of the run's test images."""
    number = page.get_by_role("spinbutton", name=re.compile("Which of the")).first
    number.fill(str(int(number.input_value()) % 30 + 1))
    page.evaluate("begin()")
    number.press("Enter")


ACTS: dict[str, dict[str, Act]] = {
    "train": {
        "the budget": lambda page: page.get_by_role("slider").first.press("ArrowRight"),
        "a preset": clicked("Fast"),
    },
    "importance": {
        "another quantity": clicked("Mean score"),
        "another score": clicked("Task-specific"),
        "one matrix": option("Matrix", "blocks.0.attn.qkv"),
    },
    "overlap": {"to Importance": lambda page: page.get_by_role("link", name="Importance", exact=True).click()},
    "evaluate": {
        "another class": clicked("healthy"),
        "images of a cell": option("Images of", "healthy, taken for healthy"),
        "the class looked for": option("The class that is looked for", "exudates"),
    },
    "diagnose": {
        "a test image": clicked("A test image of this run"),
        "the next image": next_image,
    },
    "runs": {"to Overlap": lambda page: page.get_by_role("link", name="Overlap", exact=True).click()},
}


def still(page: Page) -> None:
    """Wait until the page is drawn."""
    page.wait_for_function(STILL, polling=20, timeout=2 * MINUTE)


def opened(browser: Browser, address: str) -> Page:
    """A page in a session of its own, drawn."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(MINUTE)
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(address)
    return page


def shown(page: Page) -> tuple[float, float, float]:
    """Seconds from the visit to the first paint, to the notice, and to the whole page."""
    still(page)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    notice, drawn = page.evaluate("[watched.notice, watched.changed]")
    return paint / 1000, notice / 1000, drawn / 1000


def answered(page: Page, act: Act) -> float:
    """Seconds from the act to the last change that it made."""
    page.evaluate("begin()")
    act(page)
    still(page)
    return page.evaluate("watched.changed - watched.acted") / 1000


def cold(driver: Playwright, repeats: int) -> list[tuple[float, float, float]]:
    """A server that has just been started, and a browser without a cache."""
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
            browser = driver.chromium.launch(executable_path=executable(), args=QUIET)
            found.append(shown(opened(browser, address)))
            browser.close()
    return found


def busy(browser: Browser, address: str, repeats: int) -> tuple[dict[str, list], dict[tuple[str, str], list[float]]]:
    """Every page in new sessions while a run trains: when it is shown, and how long each act takes."""
    pages: dict[str, list] = {page: [] for page in ACTS}
    acts: dict[tuple[str, str], list[float]] = {(page, act): [] for page in ACTS for act in ACTS[page]}
    for turn in range(repeats + 1):
        for name, wanted in ACTS.items():
            place = f"{address}/{name}?run={FIRST}" if name != "train" else address  # there, the form
            page = opened(browser, place)
            times = shown(page)
            answers = {act: answered(page, do) for act, do in wanted.items()}
            if turn:  # the first turn loads what stays loaded
                pages[name].append(times)
                for act, seconds in answers.items():
                    acts[name, act].append(seconds)
            page.context.close()
        print(f"turn {turn} of {repeats}", file=sys.stderr)
    return pages, acts


def discarded(browser: Browser, address: str, repeats: int) -> list[float]:
    """Seconds from a click on Discard to the word that the run is in the trash."""
    found = []
    for turn in range(repeats):
        name = f"{TRAINING}{turn or ''}"
        page = opened(browser, f"{address}/?run={name}") if turn == 0 else opened(browser, address)
        if turn:
            still(page)
            start_on_phantoms(page, name, 1000)
            page.get_by_text(re.compile("Epoch 1 of")).wait_for()
        page.evaluate("begin()")
        discard(page, name)
        found.append(page.evaluate("performance.now() - watched.acted") / 1000)
        page.context.close()
    return found


def measure(repeats: int) -> str:
    """The section's text."""
    busy_already = os.getloadavg()[0]
    with sync_playwright() as driver:
        first = cold(driver, repeats)
        with tempfile.TemporaryDirectory() as runs, serving(Path(runs)) as address:
            browser = driver.chromium.launch(executable_path=executable(), args=QUIET)
            page = opened(browser, address)
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
    answers = [[f"{name}: {act}", f"{median(t):.2f}", f"{max(t):.2f}"] for (name, act), t in acts.items()]
    answers.append(["Train: Discard, until the run is in the trash", f"{median(stops):.2f}", f"{max(stops):.2f}"])
    return (
        f"Seconds, medians of {repeats}. The run fine-tunes the embedded backbone. Other processes kept the "
        f"{os.cpu_count()} cores under a load of {busy_already:.1f} when the measuring began. A page is opened in a "
        "browser session of its own; what a server loads once, it has loaded, except in the first line.\n\n"
        + table(("page", "first paint", "notice", "drawn"), rows)
        + "\n\n"
        + table(("answer to", "median", "slowest"), answers)
    )


def _three(times: Sequence[tuple[float, float, float]]) -> list[str]:
    return [f"{median(column):.2f}" for column in zip(*times, strict=True)]


def main() -> None:
    """Read the options, measure, print."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    publish("The app while a run trains", measure(options.repeats), options.write)


if __name__ == "__main__":
    main()
