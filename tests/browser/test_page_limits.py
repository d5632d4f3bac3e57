"""Pages stay short: three screens on a desktop, and the result on the first screen of a phone."""

import re

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Locator, expect

from tests.browser.driver import new_context
from tests.browser.steps import (
    A_WHILE,
    SCREEN,
    THREE_SCREENS,
    OpenPage,
    height,
    open_test_image,
    ready,
    show_saliency_map,
)

pytestmark = pytest.mark.browser


def test_a_diagnosis_and_its_explanation_take_three_screens(open_page: OpenPage) -> None:
    page = open_page("/diagnose?run=example")
    open_test_image(page)
    show_saliency_map(page)
    ready(page)
    assert height(page) <= THREE_SCREENS


def test_the_advanced_settings_take_three_screens(open_page: OpenPage) -> None:
    page = open_page("/train")
    ready(page)
    page.get_by_text("Advanced", exact=True).click()
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_text(["Reading the images", "Model", "Weights to train", "Training", "Run"])
    for tab in tabs.all():
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        ready(page)
        assert height(page) <= THREE_SCREENS, tab.inner_text()


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
