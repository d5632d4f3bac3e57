"""Near duplicates: checked against all pairs, and how a dataset handles them."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.datasets.duplicates import CROWD, NEIGHBORS, clusters, look, near_pairs
from shpeft.errors import Cancelled


def texture(seed: int, side: int = 96) -> Image.Image:
    """Return smooth noise with large shapes, like those of images."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image, quality: int = 50, scale: float = 0.7) -> bytes:
    buffer = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@given(st.integers(0, 10_000), st.integers(0, 15), st.integers(2, 40))
def test_pairs_equal_those_of_a_comparison_of_all_images(seed: int, distance: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (4, 32), dtype=np.uint8)
    looks = base[rng.integers(0, 4, count)]
    for row in range(count):  # some bits away from one of four looks
        for bit in rng.integers(0, 256, rng.integers(0, 14)):
            looks[row, bit // 8] ^= 1 << (bit % 8)
    apart = np.bitwise_count(looks[:, None] ^ looks[None]).sum(-1)
    expected = [(a, b) for a in range(count) for b in range(a + 1, count) if apart[a, b] <= distance]
    assert [tuple(pair) for pair in near_pairs(looks, distance).tolist()] == expected


def test_a_distance_that_could_miss_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 15"):
        near_pairs(np.zeros((2, 32), np.uint8), 16)


def test_a_search_among_many_that_agree_can_be_stopped() -> None:
    def stop(stage: str, done: int, total: int) -> None:
        heard.append(stage)
        if len(heard) == 5:
            raise Cancelled

    heard = list[str]()
    with pytest.raises(Cancelled):
        near_pairs(np.ones((100, 32), np.uint8), progress=stop)
    assert set(heard) == {"Looking for images that look the same"}


def test_many_that_look_alike_are_joined_in_a_number_of_pairs_that_grows_with_theirs() -> None:
    count = 20 * CROWD
    looks = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8), count, 0)
    homes = ["test" if row % 7 == 3 else "train" for row in range(count)]
    crowds: list[int] = []
    pairs = near_pairs(looks, homes=homes, crowds=crowds)
    assert set(crowds) == {count}
    assert len(pairs) <= (NEIGHBORS + 2) * count
    assert set(clusters(count, pairs).tolist()) == {0}
    across = [(a, b) for a, b in pairs.tolist() if homes[a] != homes[b]]
    assert {row for pair in across for row in pair} == set(range(count))  # every copy is noticed in the other split


def test_copies_look_the_same_and_others_do_not() -> None:
    originals = [texture(seed) for seed in range(20)]
    copies = [Image.open(io.BytesIO(saved_again(image))) for image in originals]
    looks = np.stack([look(image) for image in originals + copies])
    assert near_pairs(looks).tolist() == [[row, row + 20] for row in range(20)]
    assert clusters(4, np.array([[0, 2], [2, 3]])).tolist() == [0, 1, 0, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of each class; four of the first class have a copy, saved as a smaller JPEG."""
    for number in range(20):
        directory = tmp_path / "d" / ("sick", "well")[number % 2]
        directory.mkdir(parents=True, exist_ok=True)
        texture(number).save(directory / f"{number}.png")
        if number in (0, 2, 4, 6):
            (directory / f"{number} copy.jpg").write_bytes(saved_again(texture(number)))
    return tmp_path / "d"


def test_near_duplicates_stay_on_one_side(folder: Path) -> None:
    for seed in range(8):
        data = load_dataset(folder, seed=seed)
        home = {group: split.name for split in data.splits for group in split.groups}
        assert all(home[group] == split.name for split in data.splits for group in split.groups)
        assert len(home) == 20  # 24 images, four pairs
    assert len(data.card["near_duplicates"]) == 4
    assert "4 pairs of images look the same" in " ".join(data.card["warnings"])
    assert all(len(name) == 12 for pair in data.card["near_duplicates"] for name in pair)


def test_near_duplicates_across_given_splits_are_reported(folder: Path, tmp_path: Path) -> None:
    for number in range(20):
        directory = tmp_path / "given" / ("test" if number < 6 else "train") / ("sick", "well")[number % 2]
        directory.mkdir(parents=True, exist_ok=True)
        texture(number).save(directory / f"{number}.png")
    leaked = tmp_path / "given" / "train" / "sick" / "again.jpg"
    leaked.write_bytes(saved_again(texture(2)))
    data = load_dataset(tmp_path / "given")
    assert "1 pair of images that look the same stands in both train and test" in " ".join(data.card["warnings"])
    ids = {split.name: set(split.ids) for split in data.splits}
    [(first, other)] = data.card["near_duplicates"]
    assert {first, other} & ids["test"]
    assert {first, other} & (ids["train"] | ids["val"])


def test_flat_images_match_no_other() -> None:
    flat = [Image.new("L", (20, 20), gray) for gray in (0, 0, 90)]
    assert len(near_pairs(np.stack([look(image) for image in flat]))) == 0
