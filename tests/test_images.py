import pickle
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from shpeft.errors import ConfigError, UnreadableImage
from shpeft.images import Decoding, InputTransform, open_image, reading

RED = (200, 30, 10)


def encoded(image, kind="PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def close(image, colour, tolerance=0):
    assert image.mode == "RGB"
    return np.abs(np.asarray(image).astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "JPEG", 3),
        ("CMYK", "JPEG", 6),
        ("P", "GIF", 12),
        ("RGB", "WEBP", 12),
        ("P", "PNG", 12),
    ],
)
def test_modes_and_formats_become_rgb(mode, kind, tolerance):
    image = Image.new("RGB", (9, 7), RED)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    assert close(open_image(encoded(image, kind)), RED, tolerance)


def test_every_kind_of_source(tmp_path):
    image = Image.new("RGB", (4, 4), RED)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), BytesIO(path.read_bytes()), image):
        assert close(open_image(source), RED)


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (4, 6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_wide_grey_values_are_scaled_by_their_own_range(dtype):
    values = np.array([[1000, 1500], [2000, 3000]], dtype=dtype)
    opened = open_image(encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(opened)[..., 0].tolist() == [[0, 64], [128, 255]]


def test_a_window_shows_what_lies_in_it():
    values = np.array([[-1000, -160], [40, 3000]], dtype=np.int32)
    data = encoded(Image.fromarray(values), "TIFF")
    for window in ("-160:240", "abdomen"):
        assert np.asarray(open_image(data, Decoding(window)))[..., 0].tolist() == [[0, 0], [128, 255]]
    with pytest.raises(ConfigError, match=r"There is no window 'abdomn'.*Did you mean abdomen"):
        Decoding("abdomn")
    with pytest.raises(ConfigError, match="is empty"):
        Decoding("5:5")


def test_a_chosen_page_of_a_tiff():
    pages = [Image.new("L", (4, 4), grey) for grey in (10, 20, 30)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for frame, shade in ((None, 10), (1, 20), (2, 30)):
        assert close(open_image(data, Decoding(frame=frame)), shade)
    with pytest.raises(UnreadableImage, match="has 3 frames, counted from 0; frame 3"):
        open_image(data, Decoding(frame=3))
    assert close(open_image(encoded(pages[1]), Decoding(frame=3)), 20)  # an ordinary image has one


def test_flat_or_broken_float_values_do_not_fail():
    assert close(open_image(encoded(Image.fromarray(np.full((3, 3), 700, np.uint16)), "PNG")), 0)
    assert close(open_image(encoded(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF")), 0)


def test_transparency_is_laid_on_black():
    assert close(open_image(encoded(Image.new("RGBA", (3, 3), (*RED, 0)))), 0)
    assert close(open_image(encoded(Image.new("LA", (3, 3), (100, 255)))), 100)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (5, 5), colour) for colour in (RED, (0, 0, 255))]
    assert close(open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), RED, 12)


def test_damage_is_named(tmp_path):
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


def test_formats_that_run_code_are_refused():
    with pytest.raises(UnreadableImage):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")


def test_bombs_are_refused_before_decoding(monkeypatch):
    data = encoded(Image.new("L", (300, 300)))
    monkeypatch.setattr(reading, "MAX_PIXELS", 80_000)
    with pytest.raises(UnreadableImage, match="300 x 300"):
        open_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(UnreadableImage, match="million pixels"):
        open_image(data)


TRANSFORM = InputTransform(8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), "bilinear")


def test_the_whole_image_is_squashed_to_the_square():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :5, 0] = 255  # only at the left edge, which a central crop would lose
    image[:, -5:, 1] = 255
    pixels = TRANSFORM.pixels(Image.fromarray(image))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 8, 8)
    assert pixels[0, 0, 0] > 200
    assert pixels[1, 0, -1] > 200
    assert pixels[:, 0, 4].sum() == 0


def test_normalisation_by_hand():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8)
    normal = TRANSFORM.normalise(pixels)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal[:, 0, 0], torch.tensor([-2.5, (0.2 - 0.4) / 0.25, (1 - 0.3) / 0.5]))
    assert torch.equal(TRANSFORM.normalise(pixels[None, None])[0, 0], normal)


def test_calling_it_is_both_steps():
    image = Image.new("RGB", (20, 10), RED)
    assert torch.equal(TRANSFORM(image), TRANSFORM.normalise(TRANSFORM.pixels(image))[None])


def test_a_transform_survives_json_and_pickle_and_is_hashable():
    again = InputTransform.from_dict(TRANSFORM.to_dict() | {"mean": list(TRANSFORM.mean)})
    assert again == TRANSFORM == pickle.loads(pickle.dumps(TRANSFORM))
    assert hash(again) == hash(TRANSFORM)
