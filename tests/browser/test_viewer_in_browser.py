"""The image viewer in a real browser: exact pixels and windows, without messages to the server."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.images import View, open_image, open_pixels
from shpeft.runs import RunFolder
from tests.helpers.command_line import TINY
from tests.helpers.dicom_files import PATIENT, dicom_bytes, dicom_of

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect

from tests.browser.steps import FILES, OpenPage, answered, assert_no_name, show_saliency_map

pytestmark = pytest.mark.browser

Pixels = npt.NDArray[Any]
Diagnose = Callable[[bytes], tuple[Page, list[Any]]]

RNG = np.random.default_rng(0)
CT = dicom_bytes(
    dicom_of(
        RNG.integers(-1024, 3000, (3, 180, 240), np.int16),
        RescaleSlope=1.25,
        RescaleIntercept=-7.5,
        WindowCenter=40,
        WindowWidth=400,
        PixelPaddingValue=500,
        PixelPaddingRangeLimit=510,
        PixelSpacing=[2.0, 0.5],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
)
CANVAS_PIXELS = """canvas => {
    const { width, height } = canvas;
    const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let text = "";
    for (let at = 0; at < all.length; at += 32768) text += String.fromCharCode(...all.subarray(at, at + 32768));
    return [height, width, btoa(text)];
}"""


@pytest.fixture(scope="module")
def run(runs: Path) -> str:
    """The name of a finished tiny run."""
    folder = RunFolder.create(runs / "viewing", RunConfig.parse(yaml.safe_load(TINY)))
    pipeline.run(folder.config, folder)
    return folder.name


@pytest.fixture
def diagnose(run: str, address: str, open_page: OpenPage, tmp_path: Path) -> Diagnose:
    """Upload a file with a patient's name; return the page and the messages that it sends to the server."""

    def upload(data: bytes) -> tuple[Page, list[Any]]:
        sent: list[Any] = []
        page = open_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.goto(f"{address}/diagnose?run={run}")
        expect(page.get_by_text("neither an image nor its")).to_be_visible(timeout=60_000)
        path = tmp_path / "MUELLER_Anna_1961"
        path.write_bytes(data)
        page.locator(FILES).first.set_input_files(path)
        answered(page)
        expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
        for field in ("Center", "Width"):  # filled when the viewer has the pixels
            expect(page.locator(".viewer").get_by_label(field)).not_to_have_value("", timeout=60_000)
        before = -1
        while len(sent) > before:  # until the map, which a fragment asks for every second, is there
            before = len(sent)
            page.wait_for_timeout(2000)
        return page, sent

    return upload


def screen(page: Page) -> Pixels:
    """Return the stage, RGB (H, W, 3)."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    height, width, data = page.locator(".viewer canvas").evaluate(CANVAS_PIXELS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]


def middle(page: Page, expected: Pixels) -> Pixels | None:
    """Return the part of the stage that a centered image of this size covers; None if more of it is covered."""
    shown = screen(page)
    height, width = expected.shape[:2]
    top, left = (round((room - side) / 2) for room, side in zip(shown.shape, (height, width), strict=False))
    return None if shown[:top].any() else shown[top : top + height, left : left + width]


def assert_shown(page: Page, expected: Pixels) -> None:
    """Assert that every image pixel is one stage pixel, exactly."""
    expected = expected if expected.ndim == 3 else expected[..., None].repeat(3, -1)
    for _ in range(100):  # on a busy computer a key or a click is not yet drawn
        shown = middle(page, expected)
        if shown is not None and np.array_equal(shown, expected):
            return
        page.wait_for_timeout(100)
    raise AssertionError("the stage shows something else")


def test_windows_are_exact_and_computed_in_the_browser(diagnose: Diagnose) -> None:
    page, sent = diagnose(CT)
    pixels = open_pixels(CT)
    viewer = page.locator(".viewer")
    center, width = viewer.get_by_label("Center"), viewer.get_by_label("Width")
    expect(center).to_have_value("40")
    expect(width).to_have_value("400")
    before = len(sent)

    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, pixels.to_uint8())
    viewer.get_by_label("Window", exact=True).select_option("CT lung")
    assert_shown(page, pixels.to_uint8(View(-1350, 150)))
    viewer.get_by_label("Window", exact=True).select_option("All values")
    assert_shown(page, pixels.to_uint8(pixels.full_range))
    center.fill("123.4")
    width.fill("777")
    assert_shown(page, pixels.to_uint8(View(123.4 - 777 / 2, 123.4 + 777 / 2)))
    units = pixels.values * 1.25 - 7.5
    gray = np.round(255 * np.clip((units - (123.4 - 777 / 2)) / 777, 0, 1))  # computed independently
    gray[(pixels.values >= 500) & (pixels.values <= 510)] = 0
    assert_shown(page, gray.astype(np.uint8))
    viewer.get_by_role("button", name="Invert").click()
    assert_shown(page, np.where((pixels.values >= 500) & (pixels.values <= 510), 0, 255 - gray).astype(np.uint8))
    viewer.get_by_role("button", name="Reset").click()
    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, pixels.to_uint8())

    stage = viewer.locator("canvas")
    stage.focus()
    for key in ("+", "-", "0", "i", "i", "Shift+ArrowRight", "ArrowLeft"):
        stage.press(key)
    assert float(width.input_value()) > 400
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 130, steps=3)
    page.mouse.up()
    assert float(center.input_value()) > 40
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert viewer.get_by_label("Window", exact=True).input_value() == "other"
    assert len(sent) == before, "a message went to the server"


def test_frames_are_loaded_one_at_a_time(diagnose: Diagnose) -> None:
    page, _ = diagnose(CT)
    viewer = page.locator(".viewer")
    viewer.get_by_role("button", name="100 %").click()
    expect(viewer.get_by_label("Frame is")).to_have_text("2 of 3")
    viewer.get_by_label("Frame", exact=True).press("ArrowRight")
    expect(page.get_by_text("This is frame 3. The diagnosis is of frame 2.")).to_be_visible()
    frames = np.frombuffer(CT[-3 * 180 * 240 * 2 :], "<i2").reshape(3, 180, 240)
    units = np.where((frames >= 500) & (frames <= 510), np.nan, frames * 1.25 - 7.5)
    gray = np.nan_to_num(np.round(255 * np.clip((units + 160) / 399, 0, 1)))
    assert_shown(page, gray[2].astype(np.uint8))
    page.get_by_role("button", name="Diagnose frame 3").click()
    expect(page.get_by_text("This is frame 3.")).to_have_count(0)
    viewer.locator("canvas").press("PageUp")
    expect(page.get_by_text("This is frame 2. The diagnosis is of frame 3.")).to_be_visible()
    assert_shown(page, gray[1].astype(np.uint8))


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 3)], ids=["gray", "color"])
def test_8_bit_pixels_are_shown_unchanged(diagnose: Diagnose, shape: tuple[int, ...], tmp_path: Path) -> None:
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
    viewer.get_by_role("button", name="100 %").click()
    assert_shown(page, np.asarray(open_image(path)))
    assert_no_name(page, "MUELLER")
    assert "MUELLER" not in viewer.inner_html()


def test_every_control_can_be_reached_and_has_a_name(diagnose: Diagnose) -> None:
    page, _ = diagnose(CT)
    assert_no_name(page, PATIENT)
    assert PATIENT not in page.locator(".viewer").inner_html()
    show_saliency_map(page)
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=60_000)
    expect(page.locator(".viewer").get_by_label("Overlay")).not_to_be_checked()  # the image stays clean
    plain = screen(page)
    page.locator(".viewer").get_by_label("Overlay").check()
    marked = screen(page)
    assert (marked != plain).any()
    assert (plain[..., :1] == plain).all()  # without blue

    page.locator(".viewer canvas").focus()
    reached = []
    for _ in range(32):
        reached.append(page.evaluate("() => document.activeElement.shadowRoot?.activeElement?.outerHTML.slice(0, 60)"))
        page.keyboard.press("Tab")
    controls = page.locator(".viewer").locator("canvas, button, input:visible, select, summary")
    for i in range(controls.count()):
        control = controls.nth(i)
        tag = control.evaluate("e => e.outerHTML.slice(0, 60)")
        same_group = control.get_attribute("name") == "drag"  # Tab reaches only the selected radio button
        assert same_group or tag in reached, tag
        name = control.evaluate("e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent")
        assert name.strip(), tag


def dragged(page: Page, by: tuple[float, float], button: str = "left") -> None:
    """Drag from the middle of the stage."""
    box = page.locator(".viewer canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] // 2, box["y"] + box["height"] // 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)  # type: ignore[arg-type]
    page.mouse.move(x + by[0], y + by[1], steps=4)
    page.mouse.up(button=button)  # type: ignore[arg-type]


def letters(page: Page) -> list[str]:
    """Return the letters at the right, the left, the bottom and the top."""
    return page.locator(".viewer svg .letter").all_text_contents()


def test_turns_and_flips_move_pixels_and_letters(diagnose: Diagnose) -> None:
    page, _ = diagnose(CT)
    viewer, gray = page.locator(".viewer"), open_pixels(CT).to_uint8()
    stage = viewer.locator("canvas")
    stage.focus()
    for key, expected, at in (
        ("r", np.rot90(gray, -1), ["A", "P", "L", "R"]),
        ("h", np.rot90(gray, -1)[:, ::-1], ["P", "A", "L", "R"]),
        ("v", np.rot90(gray, -1)[::-1, ::-1], ["P", "A", "R", "L"]),
        ("l", np.rot90(np.rot90(gray, -1)[::-1, ::-1]), ["R", "L", "A", "P"]),
        (" ", gray, ["L", "R", "P", "A"]),
    ):
        stage.press(key)
        viewer.get_by_role("button", name="100 %").click()
        assert_shown(page, expected)
        assert letters(page) == at, key
        stage.focus()


def test_measurements_are_in_mm_and_values_in_hounsfield_units(diagnose: Diagnose) -> None:
    page, sent = diagnose(CT)
    viewer, pixels = page.locator(".viewer"), open_pixels(CT)
    viewer.get_by_role("button", name="100 %").click()
    before = len(sent)
    ratio = page.evaluate("devicePixelRatio")
    viewer.get_by_label("ruler").check()
    dragged(page, (60, 0))
    viewer.locator("canvas").press("r")  # lengths turn with the image: its rows are 2 mm apart
    viewer.get_by_role("button", name="100 %").click()
    assert viewer.locator("svg .measured").all_text_contents() == [f"{60 * ratio * 0.5:.1f} mm"]
    dragged(page, (60, 0))
    assert viewer.locator("svg .measured").all_text_contents()[1] == f"{60 * ratio * 2:.1f} mm"
    viewer.locator("canvas").press(" ")
    viewer.locator("canvas").press("Delete")
    expect(viewer.locator("svg .measured")).to_have_count(0)

    viewer.get_by_role("button", name="100 %").click()
    viewer.get_by_label("ellipse").check()
    dragged(page, (40, 30))
    (measured,) = viewer.locator("svg .measured").all_text_contents()
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    left, top = (round((side * ratio - size) / 2) for side, size in ((box["width"], 240), (box["height"], 180)))
    x, y = box["width"] // 2 * ratio - left + 20 * ratio, box["height"] // 2 * ratio - top + 15 * ratio
    rows, columns = np.mgrid[:180, :240] + 0.5
    inside = ((columns - x) / (20 * ratio)) ** 2 + ((rows - y) / (15 * ratio)) ** 2 <= 1
    values = pixels.units(pixels.values)[inside]
    values = values[np.isfinite(values)]
    area = np.pi / 4 * 40 * ratio * 0.5 * 30 * ratio * 2
    numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*", measured)]
    assert numbers == pytest.approx([area, values.mean(), values.std(), values.min(), values.max()], abs=0.06)
    assert re.sub(r"-?\d+\.?\d*", "#", measured) == "# mm²; mean # ± #, # to # HU"

    page.mouse.move(box["x"] + (left + 10.5) / ratio, box["y"] + (top + 20.5) / ratio)
    value = pixels.units(pixels.values)[20, 10]
    expect(viewer.locator(".probe")).to_have_text(f"10, 20: {'blank' if np.isnan(value) else f'{value:g}'} HU")
    expect(viewer.locator("svg .scale")).to_contain_text("mm")
    assert len(sent) == before, "a message went to the server"


def test_buttons_and_wheel_follow_the_conventions(diagnose: Diagnose) -> None:
    page, _ = diagnose(CT)
    viewer = page.locator(".viewer")
    center, zoom = viewer.get_by_label("Center"), viewer.get_by_label("Zoom is")
    viewer.get_by_role("button", name="100 %").click()
    dragged(page, (0, -200), "right")
    expect(zoom).to_have_text("400 %")
    assert center.input_value() == "40"
    corner = screen(page)
    dragged(page, (-30, 0), "middle")
    assert (screen(page) != corner).any()
    assert center.input_value() == "40"
    dragged(page, (0, 30))
    assert float(center.input_value()) > 40
    viewer.locator("canvas").press("2")  # the second window of the list
    expect(center).to_have_value("40")
    page.mouse.wheel(0, 120)
    expect(viewer.get_by_label("Frame is")).to_have_text("3 of 3")
    viewer.locator("canvas").press("ArrowUp")
    expect(viewer.get_by_label("Frame is")).to_have_text("2 of 3")


def test_an_image_without_a_spacing_is_measured_in_pixels(diagnose: Diagnose, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(RNG.integers(0, 256, (90, 120), np.uint8)).save(path)
    page, _ = diagnose(path.read_bytes())
    viewer = page.locator(".viewer")
    assert viewer.locator("svg .scale").text_content() == "no spacing"
    assert letters(page) == []
    viewer.get_by_role("button", name="100 %").click()
    viewer.get_by_label("ruler").check()
    dragged(page, (30, 0))
    ratio = page.evaluate("devicePixelRatio")
    assert viewer.locator("svg .measured").all_text_contents() == [f"{30 * ratio:.1f} pixels, no spacing"]
