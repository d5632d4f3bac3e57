"""Pages that everybody can use: WCAG 2.1 A and AA as far as axe-core can tell, in every state, light and dark."""

import re

import pytest

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
