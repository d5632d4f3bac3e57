"""The importance map in a browser: the budget is dragged without the server, a click opens a matrix, keys suffice."""

import re

from playwright.sync_api import Page, expect

from shpeft.runs import example_run
from tests.browser.steps import A_WHILE, OpenPage, ready


def lit(page: Page) -> int:
    """Return the number of pixels that are lit."""
    script = """canvases => canvases.reduce((sum, canvas) => sum + canvas.getContext('2d')
        .getImageData(0, 0, canvas.width, canvas.height).data.filter((a, i) => i % 4 == 3 && a).length, 0)"""
    count: int = page.locator(".weight-map canvas").evaluate_all(script)
    return count


def test_the_budget_is_dragged_live_and_a_matrix_is_opened_by_click_and_by_key(
    open_page: OpenPage,
) -> None:
    run = example_run()
    assert run is not None
    infos = run.scores.weight_infos()
    page = open_page("/importance?run=example")
    ready(page)
    boxes, slider = page.locator(".weight-map button"), page.get_by_role("slider", name="Budget")
    expect(boxes).to_have_count(len(infos))
    own = run.scores.support()
    first = infos[0].name.removesuffix(".weight")
    selected = len(own.indices.get(infos[0].name, ()))
    expect(boxes.first).to_have_accessible_name(f"{first}: {selected:,} of {infos[0].numel:,} weights selected")
    expect(page.locator(".weight-map .shown")).to_have_text(re.compile(f"^{own.k:,} weights"))

    page.get_by_role("button", name="Type a budget").click()
    before = lit(page)
    slider.evaluate("s => { s.value = s.max; s.dispatchEvent(new Event('input', { bubbles: true })) }")
    expect(page.locator(".weight-map .shown")).not_to_have_text(re.compile(f"^{own.k:,} weights"))
    assert lit(page) > before
    expect(page.get_by_role("spinbutton", name="Budget in weights")).to_have_value(
        str(own.k)
    )  # the server has not heard of it
    slider.focus()
    slider.press("ArrowLeft")  # released: the page follows
    expect(page.get_by_role("spinbutton", name="Budget in weights")).not_to_have_value(str(own.k), timeout=A_WHILE)
    expect(page.get_by_text(f"(the run trained {own.k:,})")).to_be_visible(timeout=A_WHILE)

    boxes.nth(1).click()
    expect(page.get_by_role("combobox", name="Matrix")).to_have_value(infos[1].name, timeout=A_WHILE)
    ready(page)
    expect(boxes.nth(1)).to_have_attribute("aria-pressed", "true")
    boxes.nth(1).focus()
    page.keyboard.press("ArrowRight")  # of a few blocks, each is a row
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Matrix")).to_have_value(infos[2].name, timeout=A_WHILE)
