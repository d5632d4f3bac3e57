"""Text, calipers and colored marks in the pixels: found on drawn images, and not where there are none."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from shpeft.datasets import load_dataset
from shpeft.images.burnt_in import BurntIn, Mark, find_marks, outlined
from tests.conftest import shared
from tests.helpers.dicom_files import dicom_of

MARKED = (
    *("benign/benign_202_", "benign/benign_14_", "malignant/malignant_207_", "malignant/malignant_53_"),
    *("benign/benign_141_", "benign/benign_2_", "benign/benign_367_", "benign/benign_199_", "benign/benign_326_"),
    *("malignant/malignant_182_", "benign/benign_221_", "malignant/malignant_198_", "malignant/malignant_208_"),
)
"""Training images of breast ultrasound with text or calipers, by eye: all of 48 that were drawn at random."""

UNMARKED = (
    *("benign/benign_391_", "benign/benign_67_", "benign/benign_133_", "normal/normal_97_", "malignant/malignant_179_"),
    *("benign/benign_169_", "benign/benign_430_", "benign/benign_139_", "benign/benign_26_", "benign/benign_162_"),
    *("benign/benign_87_", "benign/benign_166_", "benign/benign_90_", "benign/benign_187_", "benign/benign_68_"),
    *("malignant/malignant_203_", "benign/benign_135_", "benign/benign_132_", "malignant/malignant_192_"),
)
"""Others of the 48, without any."""

FAMILIES = ("fundus", "chest_xray", "ultrasound", "mri", "dermoscopy", "histology")


def background(side: int, seed: int = 0) -> Image.Image:
    """Return smooth noise in gray, darker than half."""
    noise = np.random.default_rng(seed).random((side // 8, side // 8)) * 110
    return Image.fromarray(noise.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def with_text(image: Image.Image, text: str, height: int, fill: object = "white") -> Image.Image:
    """Return a copy with a text of about this height, in pixels of a capital letter."""
    copy = image.copy()
    font = ImageFont.load_default(height * 1.4)
    ImageDraw.Draw(copy).text((copy.width // 5, copy.height // 3), text, fill=fill, font=font)  # type: ignore[arg-type]
    return copy


def with_cross(image: Image.Image, x: int, y: int, arm: int) -> None:
    draw = ImageDraw.Draw(image)
    draw.line((x - arm, y, x + arm, y), fill=(230, 230, 230))
    draw.line((x, y - arm, x, y + arm), fill=(230, 230, 230))


def kinds(image: Image.Image) -> set[str]:
    return {mark.kind for mark in find_marks(image)}


@pytest.mark.parametrize("height", [10, 16, 28, 40])
@pytest.mark.parametrize("text", ["RT AXILLA", "ID 4711", "12:45"])
def test_white_text_is_found_where_it_is(text: str, height: int) -> None:
    marks = find_marks(with_text(background(512), text, height))
    assert {mark.kind for mark in marks} == {"text"}
    for left, top, _, bottom in (mark.box for mark in marks):
        assert left > 512 // 5 - 5
        assert 512 // 3 - 5 < top < bottom < 512 // 3 + 2 * height


def test_text_is_found_in_a_large_image_in_its_own_pixels() -> None:
    marks = find_marks(with_text(background(2400), "PORTABLE", 60))
    assert 2400 // 5 - 20 < marks[0].box[0] < 2400 // 2


def test_dark_text_on_a_light_image_is_found() -> None:
    light = Image.eval(background(300), lambda value: 255 - value)
    assert kinds(with_text(light, "SCALE 10 MM", 14, "black")) == {"text"}
    assert kinds(light) == set()


def test_text_survives_jpeg_and_a_little_blur(tmp_path: object) -> None:
    blurred = with_text(background(400), "LEFT BREAST", 16).filter(ImageFilter.GaussianBlur(0.7))
    blurred.save(f"{tmp_path}/x.jpg", quality=75)
    assert kinds(Image.open(f"{tmp_path}/x.jpg")) == {"text"}


@pytest.mark.parametrize("arm", [4, 5, 7])
def test_a_pair_of_crosses_is_a_caliper_and_a_single_one_is_not(arm: int) -> None:
    image = background(256)
    with_cross(image, 80, 90, arm)
    assert kinds(image) == set()
    with_cross(image, 170, 140, arm)
    assert kinds(image) == {"calipers"}


def test_color_in_a_gray_image_is_a_mark_and_in_a_colored_one_it_is_not() -> None:
    gray = background(200)
    ImageDraw.Draw(gray).rectangle((20, 30, 29, 34), fill=(240, 220, 20))
    (mark,) = find_marks(gray)
    assert mark.kind == "color"
    assert mark.box == (19, 29, 31, 36)
    assert kinds(load_dataset("phantom:dermoscopy?n=12&size=128").test.image(0)) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_phantoms_have_no_marks(family: str) -> None:
    test = load_dataset(f"phantom:{family}?n=45&size=224").test
    alarms = [position for position in range(len(test)) if find_marks(test.image(position))]
    assert len(alarms) <= 1


def test_real_images_of_ultrasound() -> None:
    folder = shared("data", "busi_ultrasound", "train")
    marked, unmarked = ([bool(find_marks(Image.open(folder / f"{n}.jpg"))) for n in ns] for ns in (MARKED, UNMARKED))
    assert sum(marked) >= 10
    assert sum(unmarked) == 0


@pytest.mark.parametrize("image", [Image.new("L", (1, 1)), Image.new("RGB", (15, 400)), Image.new("L", (64, 64), 255)])
def test_tiny_and_flat_images_have_none(image: Image.Image) -> None:
    assert find_marks(image) == ()


def test_sentences_say_what_is_visible_and_what_the_file_says() -> None:
    text, caliper = Mark("text", (0, 0, 9, 9)), Mark("calipers", (0, 0, 9, 9))
    assert BurntIn(()).sentence == BurntIn((), False).sentence == ""
    assert BurntIn((text,)).sentence.startswith("Text is visible")
    assert BurntIn((text, caliper)).sentence.startswith("Text or markers are visible")
    assert BurntIn((caliper,)).sentence.startswith("Calipers are visible")
    assert BurntIn((), True).sentence == "The file says that text is burnt into the image. Check that it shows no name."
    assert BurntIn((text,), False).sentence.endswith("The file says that no text is burnt in.")


def test_frames_are_drawn_on_a_copy() -> None:
    image = Image.new("L", (60, 60))
    framed = outlined(image, (Mark("text", (20, 20, 40, 30)),))
    assert framed.getpixel((18, 25)) == (255, 60, 60)
    assert image.getextrema() == (0, 0)


@pytest.mark.parametrize(("tag", "stated"), [("YES", True), ("NO", False), ("", None), ("perhaps so", None)])
def test_the_tag_of_a_dicom_file_is_read(tag: str, stated: bool | None) -> None:
    pytest.importorskip("pydicom")
    import io

    from shpeft.images import open_pixels

    buffer = io.BytesIO()
    data = dicom_of(np.zeros((32, 32), np.uint16), **({"BurnedInAnnotation": tag} if tag else {}))
    data.save_as(buffer, enforce_file_format=True)
    assert open_pixels(buffer.getvalue()).facts.burnt_in is stated
