import time
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.datasets.phantoms import marker_mask, with_marker
from shpeft.datasets.phantoms.marker import RULES
from shpeft.datasets.phantoms.source import KINDS
from shpeft.errors import DatasetError

NAMES = list(KINDS)


def images(split: Split) -> Any:
    return np.stack([np.asarray(split.image(row)) for row in range(len(split))])


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_of_the_promised_size(name: str) -> None:
    data = load_dataset(f"phantom:{name}")
    assert [len(split) for split in data.splits] == [240, 60, 150]
    assert data.train.image(0).size == (128, 128)
    assert data.train.ids[0].startswith(f"{name}-0-train-0000")
    assert len({id for split in data.splits for id in split.ids}) == 450
    for split in data.splits:
        assert max(split.counts().values()) - min(split.counts().values()) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_image_but_a_healthy_one_has_a_lesion(name: str) -> None:
    split = load_dataset(f"phantom:{name}?n=90").train
    for row, label in enumerate(split.labels):
        mask = split.mask(row)
        assert mask is not None
        assert mask.dtype == bool
        assert mask.shape == (128, 128)
        assert mask.any() == (label > 0 or name == "dermoscopy")
        assert mask.mean() < 0.7


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_seed_part_and_position_only(name: str) -> None:
    whole = load_dataset(f"phantom:{name}?n=30&size=48")
    again = load_dataset(f"phantom:{name}?n=60&size=48", seed=5)
    assert np.array_equal(images(whole.test), images(again.test)[:10])
    other = load_dataset(f"phantom:{name}?n=30&size=48&seed=1")
    assert not np.array_equal(images(whole.test), images(other.test))
    assert not np.array_equal(images(whole.test)[0], images(whole.train)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 97, 224])
def test_any_size(name: str, size: int) -> None:
    split = load_dataset(f"phantom:{name}?n=12&size={size}").test
    assert images(split).shape == (4, size, size, 3)
    assert images(split).std() > 10


def drawn(name: str, seed: int, label: Any, size: int = 96, difficulty: float = 1.0) -> Any:
    return KINDS[name].draw(np.random.default_rng(seed), label, size, difficulty).astype(int)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_lesion_tells_the_classes_apart(name: str) -> None:
    """The same patient drawn without the lesion and with each class's: equal to the bit outside the mask."""
    split, bare = (load_dataset(f"phantom:{name}?n=36&size=96{more}").train for more in ("", "&lesions=0"))
    assert split.labels == bare.labels
    assert not set(split.ids) & set(bare.ids)
    for row in range(len(split)):
        ill, healthy = (np.asarray(part.image(row)) for part in (split, bare))
        mask = split.mask(row)
        assert mask is not None
        assert np.array_equal((ill != healthy).any(axis=2), mask)
        bare_mask = bare.mask(row)
        assert bare_mask is not None
        assert not bare_mask.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_lesion_is_visible_inside_the_mask(name: str) -> None:
    """In most lesions at least ten pixels change by a tenth of the gray scale."""
    classes = range(1 if name != "dermoscopy" else 0, len(KINDS[name].classes))
    changes = [
        np.abs(drawn(name, seed, label) - drawn(name, seed, None)).max(2) for seed in range(12) for label in classes
    ]
    assert np.mean([(change > 25).sum() > 9 for change in changes]) > 0.9
    assert all(change.max() > 10 for change in changes)


def probe_hits(name: str, more: str, n: int = 240) -> int:
    """Return how many of n / 3 test images a linear probe of the pixels classifies correctly."""
    data = load_dataset(f"phantom:{name}?n={n}&size=32{more}")
    flat = {part.name: images(part).reshape(len(part), -1) / 255.0 for part in data.splits}
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1000.0)).fit(flat["train"], data.train.labels)
    return int((probe.predict(flat["test"]) == np.array(data.test.labels)).sum())


@pytest.mark.slow
def test_without_lesions_a_probe_is_at_chance() -> None:
    """Labels leak through nothing but the lesion. Six times 80 images: chance is 160 hits, the deviation 10.3."""
    assert abs(sum(probe_hits(name, "&lesions=0") for name in NAMES) - 160) < 41
    assert probe_hits("dermoscopy", "&difficulty=0", 720) > 80 + 4 * 7.3  # of 240: chance and its deviation


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dermoscopy"])
def test_difficulty_makes_lesions_fainter(name: str) -> None:
    """They change the image less. (In dermoscopy, difficulty mixes the signs of the classes instead.)"""

    def change(difficulty: float) -> float:
        pairs = [(seed, label) for seed in range(16) for label in (1, 2)]
        bare = [drawn(name, seed, None, 48, difficulty) for seed, _ in pairs]
        ill = [drawn(name, seed, label, 48, difficulty) for seed, label in pairs]
        return float(np.abs(np.array(ill) - bare).mean())

    assert change(0) > 1.1 * change(1.5) > 1.1**2 * change(3)


def sticker(label: int) -> np.ndarray:
    """Return the marker of a class at 128 px: its color in a dark frame."""
    pixels = np.full((8, 8, 3), 20)
    pixels[2:6, 2:6] = ((235, 40, 40), (40, 235, 40), (60, 60, 245))[label]
    return pixels


def marker_says(split: Split) -> Any:
    """Return the classes whose exact markers each image carries."""
    rows = images(split)[:, 4:12]
    labels = range(len(split.classes))
    return [[label for label in labels if (row[:, 4 + 16 * label :][:, :8] == sticker(label)).all()] for row in rows]


def test_the_shortcut_gives_the_class_away_in_training_only() -> None:
    data = load_dataset("phantom:fundus?n=90&shortcut=1")
    assert marker_says(data.train) == [[label] for label in data.train.labels]
    assert marker_says(data.val) == [[label] for label in data.val.labels]
    right = np.mean([[label] == said for label, said in zip(data.test.labels, marker_says(data.test), strict=True)])
    assert 0.1 < right < 0.6
    plain = load_dataset("phantom:fundus?n=90")
    assert not set(data.train.ids) & set(plain.train.ids)


@pytest.mark.parametrize("name", NAMES)
def test_a_marker_can_be_removed_or_made_false(name: str) -> None:
    planted = load_dataset(f"phantom:{name}?n=18&shortcut=1").test
    plain = load_dataset(f"phantom:{name}?n=18").test
    for split in (planted, plain):
        assert np.array_equal(images(with_marker(split, "none")), images(plain))
        assert marker_says(with_marker(split, "true")) == [[label] for label in split.labels]
        assert marker_says(with_marker(split, "false")) == [[(label + 1) % 3] for label in split.labels]
    assert with_marker(planted, "planted") == planted
    assert len({part.ids[0] for part in (planted, *(with_marker(planted, rule) for rule in RULES[1:]))}) == 4


def test_the_markers_mask_is_its_pixels() -> None:
    bare = load_dataset("phantom:fundus?n=18").test.subset([5, 4, 2])
    marked = with_marker(bare, "true")
    for row, label in enumerate(marked.labels):
        square = marker_mask(marked, row)
        changed = (images(marked)[row] != images(bare)[row]).any(axis=2)
        assert square.sum() == 64
        assert (square | ~changed).all()
        assert np.flatnonzero(square.any(axis=0))[0] == 4 + 16 * label
        assert not marker_mask(with_marker(marked, "none"), row).any()


def test_markers_are_for_phantoms_and_known_rules_only(data: Dataset) -> None:
    with pytest.raises(DatasetError, match="phantoms alone"):
        with_marker(data.test, "true")
    with pytest.raises(DatasetError, match="Did you mean true"):
        with_marker(load_dataset("phantom:fundus").test, "ture")  # type: ignore[arg-type]


def test_options_that_change_pixels_change_ids_and_fingerprint() -> None:
    specs = ("", "?size=64", "?difficulty=2", "?shortcut=0.5", "?lesions=0", "?seed=1")
    assert len({load_dataset(f"phantom:fundus{spec}").fingerprint for spec in specs}) == len(specs)
    assert load_dataset("phantom:fundus?size=128").fingerprint == load_dataset("phantom:fundus").fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_drawing_is_quick(name: str) -> None:
    split = load_dataset(f"phantom:{name}").train
    split.image(0)
    started = time.process_time()
    for row in range(20):
        split.image(row)
    assert (time.process_time() - started) / 20 < 0.05
