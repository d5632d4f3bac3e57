"""Accessible pages: WCAG 2.1 A and AA as far as axe-core checks it, in every state, light and dark."""

import io
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from shpeft.runs import RunFolder, delete_run, deleted_runs

pytest.importorskip("playwright.sync_api")
pytest.importorskip("axe_playwright_python.sync_playwright")
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults
from tests.browser.steps import (
    A_WHILE,
    FILES,
    THREE_SCREENS,
    OpenPage,
    attribute_to_weights,
    choose,
    height,
    open_test_image,
    ready,
    show_saliency_map,
)

pytestmark = pytest.mark.browser

PAGES = ("Train", "Importance", "Overlap", "Evaluate", "Diagnose", "Runs", "Compare", "Attribution")


def go(page: Page, name: str) -> None:
    """Go to another page by its link."""
    page.get_by_role("link", name=name, exact=True).click()
    expect(page).to_have_title(f"{name} · shpeft")
    ready(page)


def test_pages_without_a_run(open_page: OpenPage) -> None:
    page = open_page()
    ready(page)
    assert faults(page) == []
    go(page, "Train")
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_role("tab", name="Weights to train").click()
    expect(page.get_by_text("Images for scoring")).to_be_visible()
    assert faults(page) == []
    for name in PAGES[1:]:
        go(page, name)
        assert faults(page) == [], name


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_finished_run_is_accessible_and_short(name: str, trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/?run={trained}")
    go(page, name)
    expect(page).to_have_url(re.compile(f"run={trained}"))  # the run stays selected from page to page
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0)  # charts are drawn last
    assert height(page) <= THREE_SCREENS
    if name == "Evaluate":
        page.get_by_role("combobox", name=re.compile("Class")).first.scroll_into_view_if_needed()
        choose(page, "Class", "exudates")
        expect(page.get_by_text("On the validation images.", exact=True)).to_be_visible(timeout=A_WHILE)
        ready(page)
        page.get_by_role("tab", name="Confusion matrix").click()
        choose(page, "Images of", "healthy, predicted healthy")
        expect(page.locator("img[alt^='a test image of healthy']").first).to_be_visible(timeout=A_WHILE)
    tabs = page.get_by_role("tab")
    for number in range(max(1, tabs.count())):
        if tabs.count():
            tabs.nth(number).click()
            ready(page)
        open_all(page)
        assert faults(page) == [], number
    if name == "Evaluate":  # other tests use the run as it was
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("button", name="Undo")).to_have_count(0, timeout=A_WHILE)


def open_all(page: Page) -> None:
    """Open what is folded on the page; an open part may hold others."""
    closed = page.locator("details:not([open]) > summary").filter(visible=True)
    while closed.count():
        closed.first.click()
        page.wait_for_timeout(300)
    ready(page)


def test_a_diagnosed_and_explained_image(trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    open_test_image(page)
    ready(page)
    show_saliency_map(page)
    ready(page)
    assert faults(page) == []
    page.get_by_role("button", name="Model and images").click()
    ready(page)
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All images").click()
    expect(page.get_by_text("List with my findings")).to_be_visible(timeout=A_WHILE)
    ready(page)
    assert faults(page) == []
    go(page, "Attribution")
    attribute_to_weights(page)
    ready(page)
    assert faults(page) == []


@pytest.fixture
def several(trained: str, runs: Path) -> Iterator[tuple[str, str]]:
    """The run, a copy of it, and another copy in the trash, for one test."""
    for name in ("again", "deleted"):
        shutil.copytree(runs / trained, runs / name, ignore=shutil.ignore_patterns("batches"))
    deleted = delete_run(RunFolder.open(runs / "deleted"))
    yield (trained, "again")
    shutil.rmtree(runs / "again")
    shutil.rmtree(deleted.path)
    assert deleted not in deleted_runs(runs)


def test_several_runs_and_the_trash(several: tuple[str, str], open_page: OpenPage) -> None:
    page = open_page(f"/overlap?run={several[0]}")
    ready(page)
    page.get_by_text("Several runs", exact=True).click()
    expect(page.get_by_text("Weights selected by every run")).to_be_visible(timeout=A_WHILE)
    ready(page)
    assert faults(page) == []
    go(page, "Runs")
    page.get_by_text(re.compile(r"Trash \(\d+\)")).click()
    table = page.get_by_test_id("stDataFrame").first
    for line in (1, 2):
        table.click(position={"x": 18, "y": 18 + 35 * line})
        ready(page)
    expect(page.get_by_text("2 runs compared")).to_be_visible(timeout=A_WHILE)
    page.get_by_role("button", name="Empty the trash").click()
    expect(page.get_by_role("button", name="Delete for good")).to_be_visible()
    assert faults(page) == []


def test_a_running_list(trained: str, open_page: OpenPage) -> None:
    image, data = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "maroon").save(image, "PNG")
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.png", image.getvalue() + str(number).encode())  # every file is different
    page = open_page(f"/batch?run={trained}")
    ready(page)
    page.locator(FILES).first.set_input_files(
        {"name": "images.zip", "mimeType": "application/zip", "buffer": data.getvalue()}
    )
    page.get_by_role("button", name="Diagnose all 1,000 images").click()
    stop = page.get_by_role("button", name="Stop")
    expect(page.get_by_text(re.compile("Diagnosing: .* of 1,000"))).to_be_visible(timeout=A_WHILE)
    assert faults(page) == []
    stop.click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible(timeout=3_000)
    expect(page.get_by_text("rows are done and saved.")).to_be_visible(timeout=A_WHILE)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete results").click()
    expect(page.get_by_text("neither an image nor its")).to_be_visible(timeout=A_WHILE)
