import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, InputTransform, open_image, open_pixels, reading

RED = (200, 30, 10)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def close(image: Image.Image, color: Any, tolerance: int = 0) -> bool:
    assert image.mode == "RGB"
    return bool(np.abs(np.asarray(image).astype(int) - color).max() <= tolerance)


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "JPEG", 3),
        ("CMYK", "JPEG", 6),
        ("P", "GIF", 12),
        ("RGB", "WEBP", 12),
        ("P", "PNG", 12),
        ("RGB", "BMP", 0),
        ("P", "BMP", 12),
        ("RGB", "TIFF", 0),
        ("P", "TIFF", 12),
        ("CMYK", "TIFF", 6),
        ("YCbCr", "TIFF", 6),
        ("YCbCr", "JPEG", 6),
        ("RGB", "PPM", 0),
        ("RGB", "JPEG2000", 0),
    ],
)
def test_modes_and_formats_become_rgb(mode: str, kind: str, tolerance: int) -> None:
    image = Image.new("RGB", (9, 7), RED)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    assert close(open_image(encoded(image, kind)), RED, tolerance)


def test_every_kind_of_source(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), RED)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), BytesIO(path.read_bytes()), image):
        assert close(open_image(source), RED)


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (4, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_unreadable_exif_is_ignored(kind: str) -> None:
    image = Image.new("RGB", (6, 4), RED)
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"):
        assert close(open_image(encoded(image, kind, exif=exif)), RED, 12)
        assert open_image(encoded(image, kind, exif=exif)).size == (6, 4)


def test_the_orientation_of_a_tiff_is_applied_once() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for dtype, factor in ((np.uint8, 1), (np.uint16, 51)):
        data = encoded(Image.fromarray(values.astype(dtype)), "TIFF", tiffinfo={274: 6})
        assert np.asarray(open_image(data))[..., 0].tolist() == (factor * np.rot90(values, -1)).tolist()


def test_1_bit_gray() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.asarray(open_image(encoded(image, kind)))[..., 0].tolist() == [[255, 0]]


def test_a_chosen_page_of_a_tiff() -> None:
    pages = [Image.new("L", (4, 4), gray) for gray in (10, 20, 30)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for frame, shade in ((0, 10), (1, 20), (2, 30)):
        assert close(open_image(data, Decoding(frame=frame)), shade)
    with pytest.raises(UnreadableImage, match=r"has 3 frames, and no frame was chosen. Choose one.*--frame 0"):
        open_image(data)
    assert (open_pixels(data).frame, open_pixels(data).frames) == (0, 3)  # a viewer lets the user choose
    with pytest.raises(UnreadableImage, match="has 3 frames, counted from 0; frame 3"):
        open_image(data, Decoding(frame=3))
    assert close(open_image(encoded(pages[1]), Decoding(frame=3)), 20)  # an ordinary image has one


def test_transparency_is_composited_on_black() -> None:
    half = (100, 15, 5)
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert close(open_image(encoded(Image.new("RGBA", (3, 3), (*RED, 0)), kind, **options)), 0)
        assert close(open_image(encoded(Image.new("RGBA", (3, 3), (*RED, 128)), kind, **options)), half, 2)
    assert close(open_image(encoded(Image.new("LA", (3, 3), (100, 255)))), 100)
    assert close(open_image(Image.new("LA", (3, 3), (100, 128)).convert("La")), 50, 1)


@pytest.mark.parametrize(("mode", "color", "clear"), [("L", 100, 100), ("RGB", RED, RED), ("1", 1, 255), ("P", 1, 1)])
def test_a_transparent_color_becomes_black(mode: str, color: Any, clear: Any) -> None:
    image = Image.new(mode, (3, 3), color)
    if mode == "P":
        image.putpalette([0, 0, 0, *RED])
    assert close(open_image(encoded(image, transparency=clear)), 0)


def test_a_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *RED])
    image.putpixel((1, 0), 1)
    assert np.asarray(open_image(encoded(image, transparency=bytes([0, 255])))).tolist() == [[[0, 0, 0], list(RED)]]


def test_an_animation_needs_a_frame() -> None:
    frames = [Image.new("RGB", (5, 5), color) for color in (RED, (0, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert close(open_image(data, Decoding(frame=0)), RED, 12)
    with pytest.raises(UnreadableImage, match="has 2 frames"):
        open_image(data)


def test_a_reduced_copy_is_no_frame() -> None:
    """A second page that TIFF marks as a smaller copy of the first, as microscopes and image editors write it."""
    file = BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file) as writer:
        for shade, kind in ((10, 0), (200, 1)):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[254] = kind
            Image.new("L", (4, 4), shade).save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    assert open_pixels(file.getvalue()).frames == 2
    assert close(open_image(file.getvalue()), 10)


def test_damage_is_named(tmp_path: Path) -> None:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noisy, "JPEG")
    for name, data in {"cut.jpg": whole[: len(whole) // 2], "text.png": b"hello", "empty.png": b""}.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UnreadableImage, match=name):
            open_image(path)
    with pytest.raises(UnreadableImage, match="no such file"):
        open_image(tmp_path / "missing.png")
    with pytest.raises(UnreadableImage, match="the uploaded file"):
        open_image(b"hello")


def test_formats_that_run_code_are_refused() -> None:
    with pytest.raises(UnreadableImage):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")


def test_bombs_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (300, 300)))
    monkeypatch.setattr(reading, "MAX_PIXELS", 80_000)
    with pytest.raises(UnreadableImage, match="300 x 300"):
        open_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(UnreadableImage, match="million pixels"):
        open_image(data)


def test_pages_after_the_first_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("L", (10, 10)), Image.new("L", (300, 300))]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    monkeypatch.setattr(reading, "MAX_PIXELS", 80_000)
    assert open_image(data, Decoding(frame=0)).size == (10, 10)
    with pytest.raises(UnreadableImage, match="300 x 300"):
        open_image(data, Decoding(frame=1))


TRANSFORM = InputTransform(8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), "bilinear")


def test_the_whole_image_is_squashed_to_the_square() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :5, 0] = 255  # only at the left edge, which a central crop would lose
    image[:, -5:, 1] = 255
    pixels = TRANSFORM.pixels(Image.fromarray(image))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 8, 8)
    assert pixels[0, 0, 0] > 200
    assert pixels[1, 0, -1] > 200
    assert pixels[:, 0, 4].sum() == 0


def test_normalization_by_hand() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8)
    normal = TRANSFORM.normalize(pixels)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal[:, 0, 0], torch.tensor([-2.5, (0.2 - 0.4) / 0.25, (1 - 0.3) / 0.5]))
    assert torch.equal(TRANSFORM.normalize(pixels[None, None])[0, 0], normal)


def test_calling_a_transform_runs_both_steps() -> None:
    image = Image.new("RGB", (20, 10), RED)
    assert torch.equal(TRANSFORM(image), TRANSFORM.normalize(TRANSFORM.pixels(image))[None])


def test_a_transform_survives_json_and_pickle_and_is_hashable() -> None:
    again = InputTransform.from_dict(TRANSFORM.to_dict() | {"mean": list(TRANSFORM.mean)})
    assert again == TRANSFORM == pickle.loads(pickle.dumps(TRANSFORM))
    assert hash(again) == hash(TRANSFORM)
