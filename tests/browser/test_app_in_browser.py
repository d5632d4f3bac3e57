"""The main job in a real browser: train on a phantom, look at the weights, evaluate, diagnose."""

import json
import re

import pytest
from PIL import Image

from shpeft.datasets import load_dataset

expect = pytest.importorskip("playwright.sync_api").expect
from tests.browser.steps import (  # noqa: E402
    A_WHILE,
    NOTICE,
    PHANTOM,
    ask_for_the_map,
    choose,
    discard,
    nobody_is_named,
    ready,
)

pytestmark = pytest.mark.browser


def test_the_result_says_what_was_trained_and_leads_on(trained, open_page):
    page = open_page(f"/?run={trained}")
    ready(page)
    expect(
        page.get_by_text(re.compile(r"Tested on 30 images .* of [\d,]+ backbone weights were trained"))
    ).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    page.get_by_role("link", name="Which weights matter").click()
    expect(page).to_have_url(re.compile(f"/importance.*run={trained}"))


def test_a_click_on_the_heatmap_shows_that_matrix(trained, open_page):
    page = open_page(f"/importance?run={trained}")
    ready(page)
    plot = page.locator(".js-plotly-plot").first
    expect(plot.locator(".heatmaplayer image")).to_be_attached()
    expect(page.get_by_text("Chosen weights", exact=True)).to_have_count(1)
    cells = plot.locator(".heatmaplayer image").bounding_box()
    columns = plot.evaluate("plot => new Set(plot.data[0].x).size")
    page.mouse.click(cells["x"] + cells["width"] / columns / 2, cells["y"] + cells["height"] / 2)
    expect(page.get_by_text(re.compile(r"^[\d,]+ of [\d,]+$"))).to_be_visible()
    chosen = page.get_by_role("combobox", name=re.compile("Matrix")).input_value()
    assert chosen in plot.evaluate("plot => plot.data.flatMap(trace => (trace.customdata || []).flat())")
    expect(page.locator(".js-plotly-plot")).to_have_count(5)  # with its histogram, two of heads, rows × columns


def test_a_click_on_the_confusion_matrix_shows_its_images(trained, open_page):
    page = open_page(f"/evaluate?run={trained}")
    ready(page)
    expect(page.get_by_role("heading", name="When should it rather not answer?")).to_be_visible()
    plot = page.locator(".js-plotly-plot").filter(has=page.locator(".heatmaplayer image"))
    plot.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    cells = plot.locator(".heatmaplayer image").bounding_box()
    healthy = cells["x"] + cells["width"] / 6, cells["y"] + cells["height"] / 6
    page.mouse.click(*healthy)
    expect(page.get_by_text(re.compile(r"\d+ test images; below each"))).to_be_visible(timeout=A_WHILE)
    shown = page.get_by_role("combobox", name="Images of")
    expect(shown).to_have_value("healthy, taken for healthy")
    expect(page.locator("img[alt^='a test image of healthy']").first).to_be_visible()
    choose(page, "Images of", "healthy, taken for exudates")  # the click does not speak up again
    ready(page)
    expect(shown).to_have_value("healthy, taken for exudates")
    page.wait_for_timeout(1000)  # clicks close together are one double click
    page.mouse.dblclick(*healthy)  # takes the selection back
    page.wait_for_timeout(1500)
    ready(page)
    expect(shown).to_have_value("healthy, taken for exudates")
    page.mouse.click(*healthy)
    expect(shown).to_have_value("healthy, taken for healthy")


def test_an_upload_is_diagnosed_and_its_name_appears_nowhere(trained, open_page, tmp_path):
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    image = load_dataset(PHANTOM).test.image(0)
    path = tmp_path / "MUELLER_Anna_1961.png"
    image.save(path)
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("Prediction")).to_be_visible()
    expect(page.get_by_text(re.compile(r"exudates: \d+\.\d%"))).to_be_visible()

    ask_for_the_map(page)
    expect(page.get_by_text("Where the score is sensitive, not where disease is.")).to_be_visible(timeout=60_000)
    nobody_is_named(page, "MUELLER")

    with page.expect_download() as download:
        page.get_by_role("button", name="Diagnosis (JSON)").click()
    assert "MUELLER" not in download.value.suggested_filename
    found = json.loads(download.value.path().read_text())
    assert found["notice"] == NOTICE
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Overlay (PNG)").click()
    assert Image.open(download.value.path()).size == image.size


def test_a_test_image_is_explained_by_its_pixels_and_by_the_trained_weights(trained, open_page):
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    page.get_by_text("A test image of this run").click()
    page.get_by_text("Share the change of the score out").click()
    expect(page.get_by_text(re.compile(r"add up to [+-][\d.]+; the residual is"))).to_be_visible(timeout=60_000)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    page.get_by_role("slider", name="Strength λ").press("ArrowLeft")
    expect(page.get_by_text("At λ = 0.9")).to_be_visible()

    method = page.get_by_role("combobox", name=re.compile("Method"))
    page.get_by_text("Show where the score is sensitive").click()
    expect(method).to_be_enabled()
    choose(page, "Method", "Occlusion")  # whose check is too long to be made without being asked for
    expect(page.get_by_text("How far the logit moves when a square is covered")).to_be_visible()
    ready(page)  # before, the buttons of the first method's map may still stand there
    check = page.get_by_role("button", name=re.compile(r"Check this map \(about .*\)"))
    make = page.get_by_role("button", name=re.compile("Make the map"))
    expect(make.or_(check).first).to_be_visible(timeout=60_000)
    if make.count():  # on a slow computer even the map waits until it is asked for
        make.click()
    check.click(timeout=120_000)
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").click()
    expect(check).to_be_visible(timeout=3_000)
    choose(page, "Method", "Input")
    expect(page.get_by_text("That reaction times how far the pixel is")).to_be_visible()  # the new method's sentence
    ready(page)
    badge = page.get_by_text(re.compile("This map (passes|fails)"))
    for asked in (make, check):  # on a slow computer each waits until it is asked for
        expect(make.or_(check).or_(badge).first).to_be_visible(timeout=60_000)
        if asked.count():
            asked.click()
            expect(asked).to_have_count(0, timeout=60_000)
    expect(badge).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("(passes|fails) the randomisation check"))).to_be_visible()


def test_a_file_that_is_no_image_gives_a_sentence(trained, open_page, tmp_path):
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    path = tmp_path / "MUELLER.txt"
    path.write_text("no image")
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("The uploaded file cannot be read as an image")).to_be_visible()
    expect(page.get_by_text("bug")).to_have_count(0)
    nobody_is_named(page, "MUELLER")


def test_a_run_is_discarded_brought_back_and_resumed(open_page):
    page = open_page()
    start = page.get_by_role("button", name="Start fine-tuning")
    expect(start).to_be_visible(timeout=60_000)
    ready(page)
    page.get_by_label("Name of the run (optional)").fill("stopped")
    page.get_by_label("Name of the run (optional)").press("Enter")
    start.click()
    discard(page, "stopped")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Cancelled before it was finished.")).to_be_visible(timeout=A_WHILE)
    page.get_by_role("button", name="Resume").click()
    discard(page, "stopped")
