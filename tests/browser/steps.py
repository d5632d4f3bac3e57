"""Steps in the app that several tests share."""

import re
from collections.abc import Callable
from contextlib import suppress

from playwright.sync_api import Page, TimeoutError, expect

from tests.browser.driver import A_WHILE as A_WHILE

OpenPage = Callable[..., Page]
"""The fixture that opens a path of the app in a new browser session."""

NOTICE = "Research use only, not a medical device."
ATTRIBUTED = re.compile(r"add up to [+-][\d.]+; the residual is")
PHANTOM = "phantom:fundus?n=90&size=64"
FILES, FOLDER = "input[type=file]:not([webkitdirectory])", "input[type=file][webkitdirectory]"
"""Where files and where a folder can be dropped; which is drawn first depends on what has been loaded."""

SCREEN = 900
THREE_SCREENS = 3 * SCREEN
"""How long a page may be, in pixels."""


def ready(page: Page) -> None:
    """Wait until the page is completely drawn."""
    expect(page.get_by_text(NOTICE).first).to_be_visible(timeout=A_WHILE)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached(timeout=A_WHILE)


def height(page: Page) -> int:
    """Return the height of everything that the page shows, in pixels."""
    pixels: int = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    return pixels


def assert_no_name(page: Page, *names: str) -> None:
    """Wait until no name is in the page's text or attributes.

    The hidden chip of an uploaded file has the file's name until Streamlit removes it.
    """
    ready(page)
    absent = "names => names.every(name => !document.documentElement.outerHTML.includes(name))"
    page.wait_for_function(absent, arg=list(names), timeout=A_WHILE)


def choose(page: Page, label: str, value: str) -> None:
    """Choose from a list: open it, type a part of the value, click the option; again if a redraw closed the list."""
    box = page.get_by_role("combobox", name=re.compile(label)).first
    option = page.get_by_role("option", name=value).first
    for timeout in (10_000, 10_000, 30_000):
        ready(page)
        box.click()
        box.fill(value)
        with suppress(TimeoutError):
            option.click(timeout=timeout)
            return
    raise AssertionError(f"the list {label} offers no {value}")


def start_run(page: Page, name: str, epochs: int) -> None:
    """Start a run from the form, with its images already chosen, and wait until it is running."""
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled(timeout=A_WHILE)
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_role("tab", name="Training", exact=True).click()
    page.get_by_label("Epochs", exact=True).fill(str(epochs))
    page.get_by_label("Name of the run (optional)").fill(name)
    button.click()  # the name is not entered yet: leaving its field draws the page again, and the click must survive
    expect(page).to_have_url(re.compile(f"run={name}"), timeout=A_WHILE)
    expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=A_WHILE)


def start_on_phantoms(page: Page, name: str, epochs: int) -> None:
    """Start a run on a few small phantoms."""
    ready(page)
    page.get_by_text("Drawn images", exact=True).click()
    source = page.get_by_role("combobox", name=re.compile("Dataset"))
    source.fill(PHANTOM)  # not in the list
    source.press("Enter")
    expect(page.get_by_text("30 held out for the test")).to_be_visible(timeout=A_WHILE)
    start_run(page, name, epochs)


def discard(page: Page, name: str) -> None:
    """Discard the run of the page; the page reacts at once."""
    button = page.get_by_role("button", name="Discard")
    expect(button).to_be_visible(timeout=A_WHILE)
    button.click()
    gone = page.get_by_text(f"The run {name} is in the trash.")
    expect(page.get_by_text("Stopping. The run moves to the trash.").or_(gone).first).to_be_visible(timeout=10_000)
    expect(gone).to_be_visible(timeout=A_WHILE)


def answered(page: Page) -> None:
    """Wait until the case on the page is diagnosed, with an answer or without one."""
    without = page.get_by_text("What the model would say: not an answer")
    expect(page.get_by_text("Probability of each class").or_(without).first).to_be_visible(timeout=A_WHILE)


def open_test_image(page: Page) -> None:
    """Open the first of the run's test images on the Diagnose page."""
    page.get_by_text("Test images", exact=True).click()
    first = page.locator("[class*='st-key-open-'] button").first
    expect(first).to_be_visible(timeout=A_WHILE)
    first.click()
    answered(page)


def attribute_to_weights(page: Page) -> None:
    """Wait for the attribution to the trained weights; on a slow computer it needs a click."""
    begin, shown = page.get_by_role("button", name=re.compile("^Attribute")), page.get_by_text(ATTRIBUTED)
    expect(begin.or_(shown).first).to_be_visible(timeout=A_WHILE)
    if begin.count():
        begin.click()
    expect(shown).to_be_visible(timeout=2 * A_WHILE)


def show_saliency_map(page: Page) -> None:
    """Wait for the map beside the image; on a slow computer it needs a click. A map that is withheld says so."""
    explain, drawn = page.get_by_role("button", name=re.compile("Explain")), page.get_by_text("not where disease is")
    withheld = page.get_by_text("No map is shown")
    expect(explain.or_(drawn).or_(withheld).first).to_be_visible(timeout=A_WHILE)
    if explain.count():
        explain.click()
    expect(drawn.or_(withheld).first).to_be_visible(timeout=2 * A_WHILE)
