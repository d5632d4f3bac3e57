"""The shortcut check: a model that reads the marker is caught, one that does not see it is not."""

import numpy as np
import pytest
import torch

from shpeft.datasets import load_dataset
from shpeft.datasets.phantoms.marker import Square
from shpeft.errors import ClassMismatch, DatasetError, DiagnosisError
from shpeft.shortcut import shortcut_check
from tests.conftest import assert_unchanged, state
from tests.readable import looking

SIZE = 64


@pytest.fixture(scope="module")
def split():
    return load_dataset(f"phantom:ultrasound?n=90&size={SIZE}&shortcut=1").test


def reader(classes):
    """Reads the marker: each logit is the brightness of the class's square. Without a marker it falls to noise."""
    squares = [Square(SIZE, label).mask() for label in range(len(classes))]
    backbone = looking(torch.from_numpy(np.any(squares, axis=0)), classes, SIZE)
    with torch.no_grad():
        backbone.head.bias.zero_()
        for label, square in enumerate(squares):
            backbone.head.weight[label] = torch.from_numpy(np.tile(square, (3, 1, 1))).flatten().float()
    return backbone


def test_a_model_that_reads_the_marker_is_caught(split):
    backbone = reader(split.classes)
    before = state(backbone)
    found = shortcut_check(backbone, split, method="saliency", explained=4)
    assert_unchanged(backbone, before)
    assert (found.cases, found.true.value, found.false.value, found.lost.value) == (30, 1.0, 0.0, 1.0)
    assert found.followed == 1.0
    assert found.followed_without < 0.7
    assert found.removed.value < 0.7
    assert found.caught
    assert found.mass == 1
    assert found.chance == pytest.approx(4 / SIZE**2)
    assert str(found).startswith("The model follows the marker")


def test_a_model_that_does_not_see_the_marker_is_not_caught(split):
    lower = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    lower[SIZE // 2 :] = True
    found = shortcut_check(looking(lower, split.classes, SIZE), split, method="saliency", explained=2)
    assert found.removed == found.true == found.false
    assert (found.lost.value, found.lost.low, found.lost.high) == (0, 0, 0)
    assert found.followed == found.followed_without
    assert not found.caught
    assert found.mass == 0
    assert str(found).startswith("No sign")


def test_the_planted_marker_does_not_matter(split):
    plain = load_dataset(f"phantom:ultrasound?n=90&size={SIZE}").test
    backbone = reader(split.classes)
    assert shortcut_check(backbone, split) == shortcut_check(backbone, plain)
    assert shortcut_check(backbone, split).mass is None


def test_what_cannot_be_checked_is_refused(data, vit, split):
    with pytest.raises(DatasetError, match="phantoms alone"):
        shortcut_check(vit, data.test)
    with pytest.raises(ClassMismatch):
        shortcut_check(vit, split)
    with pytest.raises(DiagnosisError, match="Did you mean"):
        shortcut_check(reader(split.classes), split, method="salience")
