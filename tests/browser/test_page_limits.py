"""Pages stay short: three screens on a desktop, and the result on the first screen of a phone."""

import re

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.driver import new_context
from tests.browser.steps import A_WHILE, OpenPage, open_test_image, ready, show_saliency_map

pytestmark = pytest.mark.browser

SCREEN = 900
"""Height of a screen in pixels."""

PAGES = ("train", "runs", "evaluate", "importance", "overlap", "attribution", "compare")


def height(page: Page) -> int:
    """Return the height of everything that the page shows, in pixels."""
    pixels: int = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    return pixels


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_longer_than_three_screens(name: str, trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/{name}?run={trained}" if name != "compare" else "/compare")
    ready(page)
    page.wait_for_timeout(1000)  # charts are drawn last
    assert height(page) <= 3 * SCREEN


def test_a_diagnosis_and_its_explanation_take_three_screens(open_page: OpenPage) -> None:
    page = open_page("/diagnose?run=example")
    open_test_image(page)
    show_saliency_map(page)
    ready(page)
    assert height(page) <= 3 * SCREEN


@pytest.mark.parametrize("tab", ["Reading the images", "Model", "Weights to train", "Training", "Run"])
def test_the_advanced_settings_take_three_screens(tab: str, open_page: OpenPage) -> None:
    page = open_page("/train")
    ready(page)
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_role("tab", name=tab, exact=True).click()
    ready(page)
    assert height(page) <= 3 * SCREEN


def on_first_screen(part: Locator) -> None:
    expect(part).to_be_visible(timeout=A_WHILE)
    box = part.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= SCREEN


def test_the_answer_and_the_result_are_on_the_first_screen_of_a_phone(
    trained: str, chromium: Browser, address: str
) -> None:
    context = new_context(chromium, address, viewport={"width": 420, "height": SCREEN})
    page = context.new_page()
    page.goto(f"{address}/diagnose?run=example")
    open_test_image(page)
    on_first_screen(page.get_by_role("heading", level=1).first)
    page.goto(f"{address}/train?run={trained}")
    on_first_screen(page.get_by_text(re.compile("^Finds ")).first)
    context.close()
