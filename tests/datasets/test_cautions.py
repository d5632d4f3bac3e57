"""Warnings of a dataset card, and when there are none."""

from pathlib import Path

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.datasets.cautions import size_reveals_class, sizes


def test_few_test_images_and_imbalance_are_reported(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, count in (("often", 60), ("rare", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 255, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = load_dataset(tmp_path)
    said = "\n".join(data.card["warnings"])
    assert "Fewer than 20 test images in 'often' (12), 'rare' (2)" in said
    assert "'often' has 6 times the training images of 'rare'" in said
    assert "No patients or groups are known" in said
    assert "size of an image" not in said
    assert data.card["sizes"]["width"] == {"min": 12, "median": 12, "max": 12}


def test_a_large_balanced_dataset_has_no_warning() -> None:
    assert load_dataset("phantom:fundus").card["warnings"] == []


@pytest.mark.parametrize("jitter", [False, True])
def test_a_size_that_reveals_the_class_is_reported_unless_every_image_has_its_own(jitter: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    own = np.arange(100) if jitter else 0
    pixels = np.stack([100 + 100 * labels * (not jitter) + own, np.full(100, 80)], 1)
    said = size_reveals_class(pixels, labels)
    assert (said is None) == jitter
    assert jitter or "in 100% of cases (the largest class is 50%)" in str(said)
    assert size_reveals_class(rng.permutation(pixels), labels) is None  # no relation


def test_sizes() -> None:
    summary = sizes(np.array([[10, 5], [30, 7], [20, 90]]))
    assert summary == {"width": {"min": 10, "median": 20, "max": 30}, "height": {"min": 5, "median": 7, "max": 90}}
