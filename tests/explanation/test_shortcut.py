"""Shortcut check: a model that reads the marker is caught, one that ignores it is not."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import shpeft
from shpeft.backbones import Backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.datasets.base import Split
from shpeft.datasets.phantoms.marker import Square
from shpeft.errors import ClassMismatch, DatasetError, DiagnosisError
from shpeft.explanation.shortcut import check_shortcut
from tests.conftest import assert_unchanged, state
from tests.helpers.readable_model import looking

SIZE = 64


@pytest.fixture(scope="module")
def split() -> Split:
    return load_dataset(f"phantom:ultrasound?n=90&size={SIZE}&shortcut=1").test


def reader(classes: Sequence[str]) -> Backbone:
    """Return a model that reads the marker: a logit is the contrast of the class's square against its frame."""
    squares = [Square(SIZE, label) for label in range(len(classes))]
    backbone = looking(torch.from_numpy(np.any([square.mask() for square in squares], axis=0)), classes, SIZE)
    with torch.no_grad():
        backbone.head.bias.zero_()
        for label, square in enumerate(squares):
            pattern = np.zeros((SIZE, SIZE, 3))
            square.draw(pattern)
            pattern[square.region] -= 100
            backbone.head.weight[label] = torch.from_numpy(pattern).permute(2, 0, 1).flatten().float()
    return backbone


def test_a_model_that_reads_the_marker_is_caught(split: Split) -> None:
    backbone = reader(split.classes)
    before = state(backbone)
    check = check_shortcut(backbone, split, method="saliency", explained=4)
    assert_unchanged(backbone, before)
    assert (check.cases, check.true.value, check.false.value, check.lost.value) == (30, 1.0, 0.0, 1.0)
    assert check.followed == 1.0
    assert check.followed_without < 0.7
    assert check.removed.value < 0.7
    assert check.caught
    assert check.mass == 1
    assert check.chance == pytest.approx(16 / SIZE**2)
    assert str(check).startswith("The model follows the marker")


def test_a_model_that_does_not_see_the_marker_is_not_caught(split: Split) -> None:
    lower = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    lower[SIZE // 2 :] = True
    check = check_shortcut(looking(lower, split.classes, SIZE), split, method="saliency", explained=2)
    assert check.removed == check.true == check.false
    assert (check.lost.value, check.lost.low, check.lost.high) == (0, 0, 0)
    assert check.followed == check.followed_without
    assert not check.caught
    assert check.mass == 0
    assert str(check).startswith("No sign")


def test_the_planted_marker_does_not_matter(split: Split) -> None:
    plain = load_dataset(f"phantom:ultrasound?n=90&size={SIZE}").test
    backbone = reader(split.classes)
    assert check_shortcut(backbone, split) == check_shortcut(backbone, plain)
    assert check_shortcut(backbone, split).mass is None


@pytest.mark.slow
def test_linear_probe_takes_a_planted_shortcut() -> None:
    """The same phantoms with and without a planted marker, the embedded backbone."""
    check = {}
    for honesty in (0, 1):
        data = load_dataset(f"phantom:ultrasound?n=150&size=160&shortcut={honesty}")
        backbone = shpeft.create_backbone("embedded", classes=data.classes)
        shpeft.fit_linear_probe(backbone, data.train, data.val).write(backbone)
        check[honesty] = check_shortcut(backbone, data.test)
    assert check[1].caught, str(check[1])
    assert not check[0].caught, str(check[0])


def test_invalid_shortcut_checks_are_refused(data: Dataset, vit: Backbone, split: Split) -> None:
    with pytest.raises(DatasetError, match="phantoms alone"):
        check_shortcut(vit, data.test)
    with pytest.raises(ClassMismatch):
        check_shortcut(vit, split)
    with pytest.raises(DiagnosisError, match="Did you mean"):
        check_shortcut(reader(split.classes), split, method="salience")
