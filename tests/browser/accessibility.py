"""Accessibility checks of a page with axe-core, and of its charts."""

from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.steps import A_WHILE

OPTIONS: dict[str, Any] = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "rules": {"heading-order": {"enabled": True}, "page-has-heading-one": {"enabled": True}},
    "resultTypes": ["violations"],
}
COLORS: dict[str, Any] = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}
"""What depends on the color scheme; the rest is the same in the dark."""

FAINT = """() => {
    const part = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(c => part(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const back = light(getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor);
    const faint = ink => Math.max(ink / back, back / ink) < 4.5;
    return [...document.querySelectorAll(".js-plotly-plot text:not(.textpoint text)")]
        .filter(word => faint(light(getComputedStyle(word).fill))).map(word => word.textContent);
}"""
"""Words in charts with a contrast below 4.5:1, except on colored cells; axe-core does not check SVG."""


def faults(page: Page) -> list[str]:
    """Return a line for each violation that axe-core reports and for each faint word or chart without a name."""
    lines = []
    checks: list[tuple[Literal["light", "dark"], dict[str, Any]]] = [("light", OPTIONS), ("dark", COLORS)]
    for scheme, options in checks:
        page.emulate_media(color_scheme=scheme)
        expect(page.get_by_test_id("stApp")).to_have_css("color-scheme", scheme, timeout=A_WHILE)
        page.wait_for_timeout(300)  # colors fade
        for rule in Axe().run(page, options=options).response["violations"]:
            lines += [f"{scheme} {rule['id']} {node['target']} {node['html'][:200]}" for node in rule["nodes"]]
        lines += [f"{scheme} faint in a chart: {word}" for word in page.evaluate(FAINT)]
    for chart in page.get_by_test_id("stPlotlyChart").all():
        if chart.get_attribute("role") != "figure" or not chart.get_attribute("aria-label"):
            lines.append(f"a chart without an alternative: {chart.inner_text()[:100]}")
    return lines
