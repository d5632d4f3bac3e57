"""What people do in the app, as far as several tests do it."""

import re

from playwright.sync_api import Page, expect

NOTICE = "Research use only, not a medical device."
PHANTOM = "phantom:fundus?n=90&size=64"
A_WHILE = 60_000
"""Milliseconds that anything may take on a computer that does other things as well."""


def ready(page: Page) -> None:
    """Wait until the page is drawn to its end."""
    expect(page.get_by_text(NOTICE).first).to_be_visible(timeout=A_WHILE)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached(timeout=A_WHILE)


def nobody_is_named(page: Page, *names: str) -> None:
    """Wait until the page is drawn to its end: then no name stands in its text or in an attribute.

    Before, the hidden chip of an uploaded file may still hold the file's name, until Streamlit removes it.
    """
    ready(page)
    nowhere = "names => names.every(name => !document.documentElement.outerHTML.includes(name))"
    page.wait_for_function(nowhere, arg=list(names), timeout=A_WHILE)


def choose(page: Page, label: str, value: str) -> None:
    """Choose in a list: open it, type a part of what is wanted, click on it."""
    box = page.get_by_role("combobox", name=re.compile(label)).first
    box.click()
    box.fill(value)
    page.get_by_role("option", name=value).first.click()


def start(page: Page, name: str, epochs: int) -> None:
    """Start a run from the form, whose images are chosen, and wait until it is under way."""
    button = page.get_by_role("button", name="Start fine-tuning")
    expect(button).to_be_visible(timeout=A_WHILE)
    page.get_by_label("Epochs", exact=True).fill(str(epochs))
    field = page.get_by_label("Name of the run (optional)")
    field.fill(name)
    field.press("Enter")
    ready(page)
    button.click()
    expect(page).to_have_url(re.compile(f"run={name}"), timeout=A_WHILE)
    expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=A_WHILE)


def start_on_phantoms(page: Page, name: str, epochs: int) -> None:
    """Start a run on a few small generated images."""
    ready(page)
    source = page.get_by_role("combobox", name=re.compile("Dataset"))
    source.fill(PHANTOM)  # none of the list
    source.press("Enter")
    expect(page.get_by_text("test is a third of 90")).to_be_visible(timeout=A_WHILE)
    start(page, name, epochs)


def discard(page: Page, name: str) -> None:
    """Stop the run that the page looks at and put it into the trash; the page answers at once."""
    button = page.get_by_role("button", name="Discard")
    expect(button).to_be_visible(timeout=A_WHILE)
    button.click()
    gone = page.get_by_text(f"The run {name} is in the trash.")
    expect(page.get_by_text("Stopping: the run goes into the trash.").or_(gone).first).to_be_visible(timeout=3_000)
    expect(gone).to_be_visible(timeout=A_WHILE)


def ask_for_the_map(page: Page) -> None:
    """Lay the saliency map over the image; on a slow computer it waits until it is asked for."""
    page.get_by_text("Show where the score is sensitive").click()
    make, drawn = page.get_by_role("button", name=re.compile("Make the map")), page.get_by_text("not where disease is")
    expect(make.or_(drawn).first).to_be_visible(timeout=A_WHILE)
    if make.count():
        make.click()
    expect(drawn.first).to_be_visible(timeout=2 * A_WHILE)
