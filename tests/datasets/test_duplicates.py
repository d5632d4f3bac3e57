"""Near duplicates against every pair compared, and what a dataset makes of them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.datasets.duplicates import clusters, look, near_pairs
from shpeft.errors import Cancelled


def texture(seed: int, side: int = 96) -> Image.Image:
    """Smooth noise: large shapes, as images have."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image, quality: int = 50, scale: float = 0.7) -> bytes:
    buffer = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 15), st.integers(2, 40))
def test_pairs_are_those_of_a_comparison_of_all(seed, distance, count):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (4, 32), dtype=np.uint8)
    looks = base[rng.integers(0, 4, count)]
    for row in range(count):  # some bits away from one of four looks
        for bit in rng.integers(0, 256, rng.integers(0, 14)):
            looks[row, bit // 8] ^= 1 << (bit % 8)
    apart = np.bitwise_count(looks[:, None] ^ looks[None]).sum(-1)
    expected = [(a, b) for a in range(count) for b in range(a + 1, count) if apart[a, b] <= distance]
    assert [tuple(pair) for pair in near_pairs(looks, distance).tolist()] == expected


def test_a_distance_that_could_miss_pairs_is_refused():
    with pytest.raises(ValueError, match="from 0 to 15"):
        near_pairs(np.zeros((2, 32), np.uint8), 16)


def test_a_search_among_many_that_agree_can_be_stopped():
    def stop(stage: str, done: int, total: int) -> None:
        heard.append(stage)
        if len(heard) == 5:
            raise Cancelled

    heard = list[str]()
    with pytest.raises(Cancelled):
        near_pairs(np.ones((100, 32), np.uint8), progress=stop)
    assert set(heard) == {"Looking for images that look the same"}


def test_copies_look_the_same_and_others_do_not():
    originals = [texture(seed) for seed in range(20)]
    copies = [Image.open(io.BytesIO(saved_again(image))) for image in originals]
    looks = np.stack([look(image) for image in originals + copies])
    assert near_pairs(looks).tolist() == [[row, row + 20] for row in range(20)]
    assert clusters(4, np.array([[0, 2], [2, 3]])).tolist() == [0, 1, 0, 0]


@pytest.fixture
def folder(tmp_path):
    """Ten images of each class; four of the first class are there again, saved as smaller JPEGs."""
    for number in range(20):
        place = tmp_path / "d" / ("sick", "well")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        texture(number).save(place / f"{number}.png")
        if number in (0, 2, 4, 6):
            (place / f"{number} copy.jpg").write_bytes(saved_again(texture(number)))
    return tmp_path / "d"


def test_near_duplicates_stay_on_one_side(folder):
    for seed in range(8):
        data = load_dataset(folder, seed=seed)
        home = {group: split.name for split in data.splits for group in split.groups}
        assert all(home[group] == split.name for split in data.splits for group in split.groups)
        assert len(home) == 20  # 24 images, four pairs
    assert len(data.card["near_duplicates"]) == 4
    assert "4 pairs of images look the same" in " ".join(data.card["warnings"])
    assert all(len(name) == 12 for pair in data.card["near_duplicates"] for name in pair)


def test_near_duplicates_across_given_splits_are_reported(folder, tmp_path):
    for number in range(20):
        place = tmp_path / "given" / ("test" if number < 6 else "train") / ("sick", "well")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        texture(number).save(place / f"{number}.png")
    leaked = tmp_path / "given" / "train" / "sick" / "again.jpg"
    leaked.write_bytes(saved_again(texture(2)))
    data = load_dataset(tmp_path / "given")
    assert "1 pair of images that look the same stands in both train and test" in " ".join(data.card["warnings"])
    ids = {split.name: set(split.ids) for split in data.splits}
    [(one, other)] = data.card["near_duplicates"]
    assert {one, other} & ids["test"]
    assert {one, other} & (ids["train"] | ids["val"])


def test_flat_images_are_like_nothing():
    flat = [Image.new("L", (20, 20), grey) for grey in (0, 0, 90)]
    assert len(near_pairs(np.stack([look(image) for image in flat]))) == 0
