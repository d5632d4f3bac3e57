"""The image viewer in a real browser: exact pixels and exact windows, without a word to the server."""

import base64

import numpy as np
import pytest
import yaml
from PIL import Image

from shpeft import pipeline
from shpeft.config import RunConfig
from shpeft.images import View, open_image, open_pixels
from shpeft.runs import RunFolder
from tests.commands import TINY
from tests.dicom_files import PATIENT, made, written

expect = pytest.importorskip("playwright.sync_api").expect

from tests.browser.steps import ask_for_the_map, nobody_is_named  # noqa: E402

pytestmark = pytest.mark.browser

RNG = np.random.default_rng(0)
CT = written(
    made(
        RNG.integers(-1024, 3000, (3, 180, 240), np.int16),
        RescaleSlope=1.25,
        RescaleIntercept=-7.5,
        WindowCenter=40,
        WindowWidth=400,
        PixelPaddingValue=500,
        PixelPaddingRangeLimit=510,
    )
)
GREYS = """canvas => {
    const { width, height } = canvas;
    const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let text = "";
    for (let at = 0; at < all.length; at += 32768) text += String.fromCharCode(...all.subarray(at, at + 32768));
    return [height, width, btoa(text)];
}"""


@pytest.fixture(scope="module")
def run(runs) -> str:
    folder = RunFolder.create(runs / "viewing", RunConfig.parse(yaml.safe_load(TINY)))
    pipeline.run(folder.config, folder)
    return folder.name


@pytest.fixture
def diagnose(run, address, open_page, tmp_path):
    """Open the page and give it a file, whose name is a patient's; the page, and what it sends to the server."""

    def give(data: bytes):
        sent = []
        page = open_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.goto(f"{address}/diagnose?run={run}")
        expect(page.get_by_text("Upload an image, or take")).to_be_visible(timeout=60_000)
        path = tmp_path / "MUELLER_Anna_1961"
        path.write_bytes(data)
        page.locator("input[type=file]").set_input_files(path)
        expect(page.get_by_text("Prediction")).to_be_visible(timeout=60_000)
        expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
        for field in ("Centre", "Width"):  # which the viewer fills when it has the pixels
            expect(page.locator(".viewer").get_by_label(field)).not_to_have_value("", timeout=60_000)
        return page, sent

    return give


def screen(page) -> np.ndarray:
    """The stage, RGB (H, W, 3)."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    height, width, data = page.locator(".viewer canvas").evaluate(GREYS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]


def middle(page, expected: np.ndarray, scale: int = 1) -> np.ndarray:
    """The part of the stage where an image of this size lies when it is centred."""
    shown = screen(page)
    height, width = (side * scale for side in expected.shape[:2])
    top, left = (round((room - side) / 2) for room, side in zip(shown.shape, (height, width), strict=False))
    assert not shown[:top].any()
    return shown[top : top + height, left : left + width]


def assert_shown(page, expected: np.ndarray) -> None:
    """To the bit, one pixel of the image on one of the stage."""
    expected = expected if expected.ndim == 3 else expected[..., None].repeat(3, -1)
    assert np.array_equal(middle(page, expected), expected)


def test_windows_are_exact_and_made_in_the_browser(diagnose):
    page, sent = diagnose(CT)
    pixels = open_pixels(CT)
    viewer = page.locator(".viewer")
    centre, width = viewer.get_by_label("Centre"), viewer.get_by_label("Width")
    expect(centre).to_have_value("40")
    expect(width).to_have_value("400")
    before = len(sent)

    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, pixels.shown())
    viewer.get_by_label("Window", exact=True).select_option("CT lung")
    assert_shown(page, pixels.shown(View(-1350, 150)))
    viewer.get_by_label("Window", exact=True).select_option("All values")
    assert_shown(page, pixels.shown(pixels.whole))
    centre.fill("123.4")
    width.fill("777")
    assert_shown(page, pixels.shown(View(123.4 - 777 / 2, 123.4 + 777 / 2)))
    units = pixels.values * 1.25 - 7.5
    grey = np.round(255 * np.clip((units - (123.4 - 777 / 2)) / 777, 0, 1))  # the same without the library
    grey[(pixels.values >= 500) & (pixels.values <= 510)] = 0
    assert_shown(page, grey.astype(np.uint8))
    viewer.get_by_role("button", name="Invert").click()
    assert_shown(page, np.where((pixels.values >= 500) & (pixels.values <= 510), 0, 255 - grey).astype(np.uint8))
    viewer.get_by_role("button", name="Reset").click()
    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, pixels.shown())

    stage = viewer.locator("canvas")
    stage.focus()
    for key in ("+", "-", "0", "i", "i", "Shift+ArrowRight", "ArrowLeft"):
        stage.press(key)
    assert float(width.input_value()) > 400
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 130, steps=3)
    page.mouse.up()
    assert float(centre.input_value()) > 40
    page.mouse.wheel(0, -300)
    assert viewer.get_by_label("Window", exact=True).input_value() == "other"
    assert len(sent) == before, "something went to the server"


def test_frames_come_one_at_a_time(diagnose):
    page, _ = diagnose(CT)
    viewer = page.locator(".viewer")
    viewer.get_by_role("button", name="100 %").click()
    expect(viewer.get_by_label("Frame is")).to_have_text("2 of 3")
    viewer.get_by_label("Frame", exact=True).press("ArrowRight")
    expect(page.get_by_text("This is frame 3. What is said of the image is about frame 2.")).to_be_visible()
    frames = np.frombuffer(CT[-3 * 180 * 240 * 2 :], "<i2").reshape(3, 180, 240)
    units = np.where((frames >= 500) & (frames <= 510), np.nan, frames * 1.25 - 7.5)
    grey = np.nan_to_num(np.round(255 * np.clip((units + 160) / 399, 0, 1)))
    assert_shown(page, grey[2].astype(np.uint8))
    page.get_by_role("button", name="Diagnose frame 3").click()
    expect(page.get_by_text("This is frame 3.")).to_have_count(0)
    viewer.locator("canvas").press("PageUp")
    expect(page.get_by_text("This is frame 2. What is said of the image is about frame 3.")).to_be_visible()
    assert_shown(page, grey[1].astype(np.uint8))


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 3)], ids=["grey", "colour"])
def test_pixels_of_8_bits_are_shown_as_they_are(diagnose, shape, tmp_path):
    values = RNG.integers(0, 256, shape, np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(values).save(path)
    page, _ = diagnose(path.read_bytes())
    viewer = page.locator(".viewer")
    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, values)
    viewer.locator("canvas").focus()
    page.keyboard.press("+")
    for _ in range(4):
        page.keyboard.press("-")
    page.keyboard.press("1")
    assert_shown(page, np.asarray(open_image(path)))
    nobody_is_named(page, "MUELLER")
    assert "MUELLER" not in viewer.inner_html()


def test_every_control_can_be_reached_and_has_a_name(diagnose):
    page, _ = diagnose(CT)
    nobody_is_named(page, PATIENT)
    assert PATIENT not in page.locator(".viewer").inner_html()
    expect(page.locator(".viewer .map")).to_be_hidden()
    ask_for_the_map(page)
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Where the score is sensitive, not where disease is.")).to_be_visible()
    marked = screen(page)
    page.locator(".viewer").get_by_label("Overlay").uncheck()
    plain = screen(page)
    assert (marked != plain).any()
    assert (plain[..., :1] == plain).all()  # no blue is left

    page.locator(".viewer canvas").focus()
    reached = []
    for _ in range(20):
        reached.append(page.evaluate("() => document.activeElement.shadowRoot?.activeElement?.outerHTML.slice(0, 60)"))
        page.keyboard.press("Tab")
    wanted = page.locator(".viewer").locator("canvas, button, input:visible, select, summary")
    for i in range(wanted.count()):
        control = wanted.nth(i)
        start = control.evaluate("e => e.outerHTML.slice(0, 60)")
        same_group = control.get_attribute("name") == "drag"  # of radio buttons, Tab reaches the chosen one
        assert same_group or start in reached, start
        name = control.evaluate("e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent")
        assert name.strip(), start
