import time

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from shpeft.datasets import load_dataset
from shpeft.datasets.phantoms.source import KINDS

NAMES = list(KINDS)
WITH_HEALTHY = [name for name, kind in KINDS.items() if kind.classes[0] in ("healthy", "normal")]


def images(split):
    return np.stack([np.asarray(split.image(row)) for row in range(len(split))])


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_of_the_promised_size(name):
    data = load_dataset(f"phantom:{name}")
    assert [len(split) for split in data.splits] == [240, 60, 150]
    assert data.train.image(0).size == (128, 128)
    assert data.train.ids[0].startswith(f"{name}-0-train-0000")
    assert len({id for split in data.splits for id in split.ids}) == 450
    for split in data.splits:
        assert max(split.counts().values()) - min(split.counts().values()) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_image_but_a_healthy_one_has_a_lesion(name):
    split = load_dataset(f"phantom:{name}?n=90").train
    for row, label in enumerate(split.labels):
        mask = split.mask(row)
        assert mask.dtype == bool
        assert mask.shape == (128, 128)
        assert mask.any() == (split.classes[label] not in ("healthy", "normal"))
        assert mask.mean() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_seed_part_and_position_only(name):
    whole = load_dataset(f"phantom:{name}?n=30&size=48")
    again = load_dataset(f"phantom:{name}?n=60&size=48", seed=5)
    assert np.array_equal(images(whole.test), images(again.test)[:10])
    other = load_dataset(f"phantom:{name}?n=30&size=48&seed=1")
    assert not np.array_equal(images(whole.test), images(other.test))
    assert not np.array_equal(images(whole.test)[0], images(whole.train)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 97, 224])
def test_any_size(name, size):
    split = load_dataset(f"phantom:{name}?n=12&size={size}").test
    assert images(split).shape == (4, size, size, 3)
    assert images(split).std() > 10


@pytest.mark.parametrize("name", WITH_HEALTHY)
def test_only_the_lesion_tells_the_classes_apart(name):
    """The same eye or breast, drawn healthy and with a lesion: equal above and beside it, different within."""
    kind = KINDS[name]
    for seed in range(8):
        healthy, nothing = kind.draw(np.random.default_rng(seed), 0, 96, 1.0)
        for label in range(1, len(kind.classes)):
            ill, mask = kind.draw(np.random.default_rng(seed), label, 96, 1.0)
            changed = (healthy != ill).any(axis=2)
            assert not nothing.any()
            assert changed[mask].mean() > 0.7
            around = maximum_filter(mask, 31)
            beam = around.any(axis=0)[None] & (np.cumsum(around, axis=0) > 0) if name == "ultrasound" else around
            assert not changed[~beam].any()


def test_difficulty_makes_lesions_fainter():
    def contrast(difficulty):
        data = load_dataset(f"phantom:fundus?n=180&size=64&difficulty={difficulty}").train
        rows = [row for row, label in enumerate(data.labels) if data.classes[label] == "haemorrhages"]
        found = []
        for row in rows:
            pixels, mask = np.asarray(data.image(row), dtype=float)[..., 1], data.mask(row)
            near = np.roll(mask, 5, 0) | np.roll(mask, 5, 1) | np.roll(mask, -5, 0)
            found.append(pixels[near & ~mask].mean() - pixels[mask].mean())
        return np.mean(found)

    assert contrast(0) > contrast(2) + 5


def marker_says(split):
    """The class that the corner marker stands for, by where its brightest square is."""
    side = max(2, 128 // 24)
    lefts = [side // 2 + label * 2 * side for label in range(len(split.classes))]
    rows = images(split)[:, side // 2 : side // 2 + side, :, :]
    return [int(np.argmax([row[:, left : left + side].mean() for left in lefts])) for row in rows]


def test_the_shortcut_gives_the_class_away_in_training_only():
    data = load_dataset("phantom:fundus?n=180&shortcut=1")
    assert marker_says(data.train) == list(data.train.labels)
    assert marker_says(data.val) == list(data.val.labels)
    right = np.mean(np.array(marker_says(data.test)) == data.test.labels)
    assert 0.1 < right < 0.6
    plain = load_dataset("phantom:fundus?n=180")
    assert not set(data.train.ids) & set(plain.train.ids)


def test_options_that_change_pixels_change_ids_and_fingerprint():
    specs = ("", "?size=64", "?difficulty=2", "?shortcut=0.5", "?seed=1")
    assert len({load_dataset(f"phantom:fundus{spec}").fingerprint for spec in specs}) == len(specs)
    assert load_dataset("phantom:fundus?size=128").fingerprint == load_dataset("phantom:fundus").fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_drawing_is_quick(name):
    split = load_dataset(f"phantom:{name}").train
    split.image(0)
    start = time.process_time()
    for row in range(20):
        split.image(row)
    assert (time.process_time() - start) / 20 < 0.05
