"""Replacing the head updates the model and every view of the backbone, and can be undone."""

import pytest
import torch
from torch import nn

from shpeft.errors import BackboneError
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_replacing_the_head_updates_every_view_and_can_be_undone(name: str) -> None:
    backbone = tiny(name)
    before, old, names = state(backbone), backbone.head, list(backbone.parameters)
    images = torch.randn(2, 3, 32, 32)
    head = nn.Linear(old.in_features, 5)
    backbone.replace_head(head, list("vwxyz"))
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), head(backbone.features(images)))
    assert backbone(images).shape == (2, 5)
    assert backbone.head is head
    assert backbone.classes == ("v", "w", "x", "y", "z")
    assert list(backbone.parameters) == names
    assert backbone.parameters[f"{backbone.head_name}.weight"] is head.weight
    assert backbone.head_weight_count == 5 * (old.in_features + 1)
    twin = backbone.copy()
    assert (twin.classes, twin.fingerprint) == (backbone.classes, backbone.fingerprint)
    assert torch.equal(twin.head.weight, head.weight)

    backbone.replace_head(old, CLASSES)
    assert backbone.head is old
    assert backbone.module.get_submodule(backbone.head_name) is old
    assert backbone.parameters[f"{backbone.head_name}.weight"] is old.weight
    assert_unchanged(backbone, before)


@pytest.mark.parametrize("shape", [(64, 4), (63, 3)])
def test_a_head_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    backbone = tiny()
    old = backbone.head
    with pytest.raises(BackboneError, match=r"for a, b, c has weights of shape \(3, 64\); found"):
        backbone.replace_head(nn.Linear(*shape), ("a", "b", "c"))
    assert backbone.head is old
    assert backbone.classes == CLASSES
