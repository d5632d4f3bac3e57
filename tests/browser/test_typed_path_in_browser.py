"""A path says what it holds while it is typed, without Enter."""

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from tests.browser.steps import A_WHILE, OpenPage, ready
from tests.helpers.image_folders import build_folder

pytestmark = pytest.mark.browser


def test_the_sentence_follows_the_typing(open_page: OpenPage, tmp_path: Path) -> None:
    build_folder(tmp_path / "images", {"ill": 8, "well": 8})
    page = open_page("/train")
    ready(page)
    page.get_by_text("Folder", exact=True).click()
    ready(page)
    field = page.get_by_label("Folder or table", exact=True)
    alert = page.get_by_test_id("stAlert").first
    field.press_sequentially(f"{tmp_path}/ima")
    expect(alert).to_contain_text("begin so: images", timeout=A_WHILE)
    field.press_sequentially("egs")
    expect(alert).to_contain_text(re.compile("There is no file or folder .*Similar in .*: images"), timeout=A_WHILE)
    for _ in "egs":
        field.press("Backspace")
    field.press_sequentially("ges")
    expect(alert).to_contain_text("16 images of 2 classes: ill (8), well (8)", timeout=A_WHILE)
    expect(page.locator("img[alt^='a training image']").first).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=A_WHILE)
    expect(field).to_be_focused()
    field.press("Backspace")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled(timeout=A_WHILE)
