"""The main workflow in a real browser: train on a phantom, inspect the weights, evaluate, diagnose."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.runs import RunFolder, delete_run, empty_trash

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from tests.browser.steps import (
    A_WHILE,
    FILES,
    FOLDER,
    NOTICE,
    PHANTOM,
    OpenPage,
    answered,
    assert_no_name,
    attribute_to_weights,
    choose,
    discard,
    open_test_image,
    ready,
    show_saliency_map,
)

pytestmark = pytest.mark.browser


def test_two_clicks_lead_to_a_diagnosed_and_explained_sample(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("heading", name="haemorrhages: positive")).to_be_visible(timeout=A_WHILE)
    show_saliency_map(page)
    expect(page.get_by_text("2 of 48")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_text("3 of 48")).to_be_visible(timeout=A_WHILE)


def test_own_images_become_a_model_in_six_clicks_and_nothing_typed(
    open_page: OpenPage, tmp_path: Path, runs: Path
) -> None:
    train = load_dataset(PHANTOM).train
    for position, label in enumerate(train.labels):
        path = tmp_path / "eyes" / train.classes[label] / f"MUELLER_{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        train.image(position).save(path)
    page = open_page()
    page.get_by_role("button", name="Teach it my images").click()  # 1
    ready(page)
    page.locator(FOLDER).first.set_input_files(tmp_path / "eyes")  # 2 and 3, with the system's dialog
    expect(page.get_by_text("deleted with the run")).to_be_visible(timeout=A_WHILE)
    expect(page.locator("img[alt^='a training image of class exudates']").first).to_be_visible(timeout=A_WHILE)
    assert_no_name(page, "MUELLER")
    page.get_by_text("haemorrhages", exact=True).click()  # 4
    ready(page)
    page.get_by_role("button", name="Start", exact=True).click()  # 5
    expect(page.get_by_text("Running", exact=True)).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_role("heading", name=re.compile(r"^Finds \d+ of \d+ haemorrhages"))).to_be_visible(
        timeout=240_000
    )
    name = page.url.partition("run=")[2]
    run = RunFolder.open(runs / name)
    assert run.config.decision.must_not_miss == "haemorrhages"
    assert list((runs / ".uploads").iterdir())
    delete_run(run)
    empty_trash(runs)
    assert list((runs / ".uploads").iterdir()) == []


def test_the_result_says_what_was_trained_and_links_to_the_next_pages(trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/?run={trained}")
    ready(page)
    expect(
        page.get_by_text(re.compile(r"Tested on 30 held-out images; .* of [\d,]+ backbone weights were trained"))
    ).to_be_visible()
    expect(
        page.get_by_role("heading", name=re.compile(r"Finds \d+ of \d+ .*, by the most probable class\."))
    ).to_be_visible()
    page.get_by_text("Training, epoch by epoch").click()
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    page.get_by_role("link", name="Which weights matter").click()
    expect(page).to_have_url(re.compile(f"/importance.*run={trained}"))


def test_a_click_on_the_heatmap_shows_that_matrix(trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/importance?run={trained}")
    ready(page)
    plot = page.locator(".js-plotly-plot").first
    expect(plot.locator(".heatmaplayer image")).to_be_attached()
    expect(page.get_by_text("Selected weights", exact=True)).to_have_count(1)
    plot.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    cells = plot.locator(".heatmaplayer image").bounding_box()
    assert cells is not None
    columns = plot.evaluate("plot => new Set(plot.data[0].x).size")
    page.mouse.click(cells["x"] + cells["width"] / columns / 2, cells["y"] + cells["height"] / 2)
    expect(page.get_by_text(re.compile(r"^[\d,]+ of [\d,]+$"))).to_be_visible()
    chosen = page.get_by_role("combobox", name=re.compile("Matrix")).input_value()
    assert chosen in plot.evaluate("plot => plot.data.flatMap(trace => (trace.customdata || []).flat())")
    expect(page.locator(".js-plotly-plot")).to_have_count(5)  # with its histogram, two of heads, rows × columns


def test_a_click_on_the_confusion_matrix_shows_its_images(trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/evaluate?run={trained}")
    ready(page)
    page.get_by_role("tab", name="Confusion matrix").click()
    plot = page.locator(".js-plotly-plot").filter(has=page.locator(".heatmaplayer image"))
    plot.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    cells = plot.locator(".heatmaplayer image").bounding_box()
    assert cells is not None
    healthy = cells["x"] + cells["width"] / 6, cells["y"] + cells["height"] / 6
    page.mouse.click(*healthy)
    expect(page.get_by_text(re.compile(r"\d+ test images with the uncalibrated"))).to_be_visible(timeout=A_WHILE)
    shown = page.get_by_role("combobox", name="Images of")
    expect(shown).to_have_value("healthy, predicted healthy")
    expect(page.locator("img[alt^='a test image of healthy']").first).to_be_visible()
    choose(page, "Images of", "healthy, predicted exudates")  # the old click does not come back
    ready(page)
    expect(shown).to_have_value("healthy, predicted exudates")
    page.wait_for_timeout(1000)  # otherwise both clicks are one double click
    page.mouse.dblclick(*healthy)  # clears the selection
    page.wait_for_timeout(1500)
    ready(page)
    expect(shown).to_have_value("healthy, predicted exudates")
    page.mouse.click(*healthy)
    expect(shown).to_have_value("healthy, predicted healthy")


def test_an_upload_is_diagnosed_and_its_name_appears_nowhere(trained: str, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    image = load_dataset(PHANTOM).test.image(0)
    path = tmp_path / "MUELLER_Anna_1961.png"
    image.save(path)
    page.locator(FILES).first.set_input_files(path)
    answered(page)

    show_saliency_map(page)
    assert_no_name(page, "MUELLER")

    with page.expect_download() as download:
        page.get_by_role("button", name="Diagnosis (JSON)").click()
    assert "MUELLER" not in download.value.suggested_filename
    diagnosis = json.loads(download.value.path().read_text())
    assert diagnosis["notice"] == NOTICE
    assert sum(diagnosis["probabilities"].values()) == pytest.approx(1)
    if page.get_by_text("No map is shown").count():
        return
    with page.expect_download() as download:
        page.get_by_role("button", name="Overlay (PNG)").click()
    with Image.open(download.value.path()) as saved:
        assert saved.size == image.size


def test_a_test_image_is_explained_by_pixels_and_by_trained_weights(trained: str, open_page: OpenPage) -> None:
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    open_test_image(page)
    show_saliency_map(page)
    page.get_by_text("Method and checks of the map").click()
    choose(page, "Method", "Occlusion")  # takes too long to start by itself
    expect(page.get_by_text("Change of the logit when a square is covered")).to_be_visible()
    explain = page.get_by_role("button", name=re.compile(r"Explain \(about .*\)"))
    explain.click(timeout=120_000)
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").click()
    expect(explain).to_be_visible(timeout=3_000)
    choose(page, "Method", "Input")
    expect(page.get_by_text("The gradient times the pixel")).to_be_visible()  # the sentence of the new method
    ready(page)
    show_saliency_map(page)

    page.goto(page.url.replace("/diagnose", "/attribution"))
    ready(page)
    page.get_by_text("Test images", exact=True).click()
    attribute_to_weights(page)
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=A_WHILE)
    page.get_by_role("slider", name="Strength λ").press("ArrowLeft")
    expect(page.get_by_text("At λ = 0.9")).to_be_visible()


def test_a_file_that_is_not_an_image_gives_a_sentence(trained: str, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    path = tmp_path / "MUELLER.txt"
    path.write_text("no image")
    page.locator(FILES).first.set_input_files(path)
    expect(page.get_by_text("The uploaded file cannot be read as an image")).to_be_visible()
    expect(page.get_by_text("bug")).to_have_count(0)
    assert_no_name(page, "MUELLER")


def test_a_run_is_discarded_restored_and_resumed(open_page: OpenPage) -> None:
    page = open_page("/train")
    ready(page)
    page.get_by_text("Drawn images", exact=True).click()
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled(timeout=60_000)
    ready(page)
    page.get_by_label("Name of the run (optional)").fill("stopped")
    page.get_by_label("Name of the run (optional)").press("Enter")
    button.click()
    discard(page, "stopped")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Cancelled before it was finished.")).to_be_visible(timeout=A_WHILE)
    page.get_by_role("button", name="Resume").click()
    discard(page, "stopped")
