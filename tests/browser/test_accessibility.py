"""Pages that everybody can use: WCAG 2.1 A and AA as far as axe-core can tell, in every state, light and dark."""

import io
import re
import shutil
import zipfile

import pytest
from PIL import Image

from shpeft.runs import RunFolder, delete_run, deleted_runs

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
from tests.browser.steps import A_WHILE, ask_for_the_map, choose, ready  # noqa: E402

pytestmark = pytest.mark.browser

PAGES = ("Train", "Importance", "Overlap", "Evaluate", "Diagnose", "Batch", "Runs", "Compare")
OPTIONS = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "rules": {"heading-order": {"enabled": True}, "page-has-heading-one": {"enabled": True}},
    "resultTypes": ["violations"],
}
FAINT = """() => {
    const part = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(c => part(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const back = light(getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor);
    const faint = ink => Math.max(ink / back, back / ink) < 4.5;
    return [...document.querySelectorAll(".js-plotly-plot text:not(.textpoint text)")]
        .filter(word => faint(light(getComputedStyle(word).fill))).map(word => word.textContent);
}"""
"""The words in charts, but for those on coloured cells, with a contrast below 4.5:1: axe-core does not look at SVG."""


def faults(page) -> list[str]:
    """What axe-core finds, and what is faint or nameless in charts, light and dark; one line each."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        expect(page.get_by_test_id("stApp")).to_have_css("color-scheme", scheme)
        page.wait_for_timeout(300)  # colours fade over
        for rule in Axe().run(page, options=OPTIONS).response["violations"]:
            found += [f"{scheme} {rule['id']} {node['target']} {node['html'][:200]}" for node in rule["nodes"]]
        found += [f"{scheme} faint in a chart: {word}" for word in page.evaluate(FAINT)]
    for chart in page.get_by_test_id("stPlotlyChart").all():
        if chart.get_attribute("role") != "figure" or not chart.get_attribute("aria-label"):
            found.append(f"a chart without an alternative: {chart.inner_text()[:100]}")
    return found


def go(page, name: str) -> None:
    """To another page by its link."""
    page.get_by_role("link", name=name, exact=True).click()
    expect(page).to_have_title(f"{name} · shpeft")
    ready(page)


def test_pages_without_a_run(open_page):
    page = open_page()
    ready(page)
    page.get_by_text("Advanced").click()
    expect(page.get_by_text("Images for scoring")).to_be_visible()
    assert faults(page) == []
    for name in PAGES[1:]:
        go(page, name)
        assert faults(page) == [], name


def test_pages_of_a_finished_run(trained, open_page):
    page = open_page(f"/?run={trained}")
    for name in PAGES:
        go(page, name)
        expect(page).to_have_url(re.compile(f"run={trained}"))  # the run stays chosen from page to page
        if name == "Evaluate":
            choose(page, "The class that is looked for", "exudates")
            expect(page.get_by_text("On the validation images.", exact=True)).to_be_visible(timeout=A_WHILE)
            ready(page)
            choose(page, "Images of", "healthy, taken for healthy")
            expect(page.locator("img[alt^='a test image of healthy']").first).to_be_visible(timeout=A_WHILE)
        for summary in page.locator("details:not([open]) > summary").all()[::-1]:
            summary.click()
        ready(page)
        assert faults(page) == [], name


def test_a_diagnosed_and_explained_image(trained, open_page):
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    page.get_by_text("A test image of this run").click()
    expect(page.get_by_text("Prediction")).to_be_visible(timeout=A_WHILE)
    ready(page)
    page.get_by_text("Share the change of the score out").click()
    expect(page.get_by_text(re.compile("add up to"))).to_be_visible(timeout=A_WHILE)
    ask_for_the_map(page)
    ready(page)
    assert faults(page) == []


@pytest.fixture
def several(trained, runs):
    """The run, a copy of it, and another in the trash; at the end there is the run alone."""
    for name in ("again", "thrown_away"):
        shutil.copytree(runs / trained, runs / name, ignore=shutil.ignore_patterns("batches"))
    thrown_away = delete_run(RunFolder.open(runs / "thrown_away"))
    yield (trained, "again")
    shutil.rmtree(runs / "again")
    shutil.rmtree(thrown_away.path)
    assert thrown_away not in deleted_runs(runs)


def test_several_runs_and_the_trash(several, open_page):
    page = open_page(f"/overlap?run={several[0]}")
    ready(page)
    page.get_by_text("Several runs", exact=True).click()
    expect(page.get_by_text("Weights that every run chose")).to_be_visible(timeout=A_WHILE)
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
    expect(page.get_by_role("button", name="Delete them for good")).to_be_visible()
    assert faults(page) == []


def test_a_batch_under_way(trained, open_page):
    image, data = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "maroon").save(image, "PNG")
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.png", image.getvalue() + str(number).encode())  # no two are the same file
    page = open_page(f"/batch?run={trained}")
    ready(page)
    page.locator("input[type=file]").set_input_files(
        {"name": "images.zip", "mimeType": "application/zip", "buffer": data.getvalue()}
    )
    page.get_by_role("button", name="Diagnose all").click()
    stop = page.get_by_role("button", name="Stop")
    expect(page.get_by_text(re.compile("Diagnosing: .* of 1,000"))).to_be_visible(timeout=A_WHILE)
    assert faults(page) == []
    stop.click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible(timeout=3_000)
    expect(page.get_by_text("rows are there and stay as they are.")).to_be_visible(timeout=A_WHILE)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the results").click()
    expect(page.get_by_text("No batch has been started")).to_be_visible(timeout=A_WHILE)
