"""Names of classes, runs and columns that are Markdown: every page shows them as text, and fetches nothing."""

import csv
from pathlib import Path

import pytest

from shpeft.config import RunConfig
from shpeft.pipeline import run
from shpeft.runs import RunFolder
from shpeft.support.markdown import JOINER
from tests.helpers.image_folders import write_picture

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect

from tests.browser.steps import A_WHILE, OpenPage, ready

pytestmark = pytest.mark.browser

CLASSES = (
    "![x](http://evil.example/a.png) $e=mc^2$",
    "<img src=http://evil.example/b.png> :red[alarm] :material/delete: :tada:",
)
RUN = "hostile"
NOTES = "<script>alert(1)</script> [a](http://evil.example) **bold**"
PAGES = ("home", "diagnose", "train", "runs", "evaluate", "importance", "overlap", "attribution")

FOREIGN = """() => [...document.querySelectorAll('img, a, iframe, script, video, audio, link, source')]
    .map(node => node.src || node.href || '').filter(address => String(address).includes('evil'))"""
MARKUP = "[data-testid=stMarkdown] .katex, .stMarkdownColoredText, [role=img][aria-label='delete icon']"


@pytest.fixture(scope="module")
def hostile(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a finished run whose class names are Markdown."""
    images = tmp_path_factory.mktemp("hostile")
    with (images / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for index in range(40):
            rows.writerow([write_picture(images / f"{index}.png", index).name, CLASSES[index % 2]])
    raw = {
        "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        "dataset": {"source": str(images / "labels.csv")},
        "selection": {"budget": 40, "images": 8},
        "training": {"epochs": 1, "batch_size": 8},
        "decision": {"must_not_miss": CLASSES[0]},
        "device": "cpu",
    }
    config = RunConfig.parse(raw)
    folder = RunFolder.create(runs / RUN, config)
    run(config, folder)
    folder.notes.write(NOTES)
    return folder.name


def shown(page: Page) -> str:
    """Return the text of a page, closed parts included."""
    return (page.text_content("body") or "").replace(JOINER, "")


def test_every_page_shows_names_as_text(hostile: str, open_page: OpenPage) -> None:
    """The fixture ``open_page`` fails for any request to another host."""
    page = open_page("/_stcore/health")
    address = page.url.removesuffix("/_stcore/health")
    named = set()
    for name in PAGES:
        page.goto(f"{address}/{name}?run={hostile}")
        expect(page.get_by_role("heading", level=1).first).to_be_visible(timeout=A_WHILE)
        ready(page)
        assert page.evaluate(FOREIGN) == [], name
        assert page.locator(MARKUP).count() == 0, name
        text = shown(page)
        named |= {position for position, shown in enumerate(CLASSES) if shown in text}
    assert named == {0, 1}


def test_a_diagnosis_shows_names_as_text(hostile: str, open_page: OpenPage) -> None:
    page = open_page(f"/diagnose?run={hostile}")
    ready(page)
    page.get_by_text("Test images", exact=True).click()
    page.locator(".st-key-open-0 button").click()
    expect(page.get_by_text("Your finding")).to_be_visible(timeout=A_WHILE)
    ready(page)
    assert page.evaluate(FOREIGN) == []
    assert page.locator(MARKUP).count() == 0
    text = shown(page)
    assert all(name in text for name in CLASSES)
