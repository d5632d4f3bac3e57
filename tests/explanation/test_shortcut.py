"""The shortcut check: a model that reads the marker is caught, one that does not see it is not."""

import numpy as np
import pytest
import torch

import shpeft
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
    """Reads the marker: each logit is how much brighter the class's square is than its frame."""
    squares = [Square(SIZE, label) for label in range(len(classes))]
    backbone = looking(torch.from_numpy(np.any([square.mask() for square in squares], axis=0)), classes, SIZE)
    with torch.no_grad():
        backbone.head.bias.zero_()
        for label, square in enumerate(squares):
            pattern = np.zeros((SIZE, SIZE, 3))
            square.draw(pattern)
            pattern[square.place] -= 100
            backbone.head.weight[label] = torch.from_numpy(pattern).permute(2, 0, 1).flatten().float()
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
    assert found.chance == pytest.approx(16 / SIZE**2)
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


@pytest.mark.timeout(120)
def test_a_linear_probe_takes_a_shortcut_when_there_is_one():
    """The same phantoms with and without a planted marker, the embedded backbone."""
    found = {}
    for honesty in (0, 1):
        data = load_dataset(f"phantom:ultrasound?n=180&shortcut={honesty}")
        backbone = shpeft.create_backbone("embedded", classes=data.classes)
        shpeft.fit_head(backbone, data.train, data.val).write(backbone)
        found[honesty] = shortcut_check(backbone, data.test)
    assert found[1].caught, str(found[1])
    assert not found[0].caught, str(found[0])


def test_what_cannot_be_checked_is_refused(data, vit, split):
    with pytest.raises(DatasetError, match="phantoms alone"):
        shortcut_check(vit, data.test)
    with pytest.raises(ClassMismatch):
        shortcut_check(vit, split)
    with pytest.raises(DiagnosisError, match="Did you mean"):
        shortcut_check(reader(split.classes), split, method="salience")
