"""Deltas are applied, trained, merged and removed exactly."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.errors import BaseMismatch, ClassMismatch, DeltaError
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS, random_delta
from tests.helpers.present import present


@pytest.mark.parametrize("name", MODELS)
def test_applying_moves_exactly_the_support_and_restores_every_bit(name: str) -> None:
    backbone = tiny(name)
    for p in backbone.module.parameters():  # negative zeros, which adding and subtracting would lose
        p.data.view(-1)[::3] = -0.0
    backbone.forget_fingerprint()
    delta = random_delta(backbone, 200, "all")
    before = state(backbone)
    with delta.applied(backbone):
        for key, tensor in backbone.module.state_dict().items():
            if key.startswith(backbone.head_name + "."):
                continue
            moved = torch.zeros(tensor.numel(), dtype=torch.bool)
            if key in delta.support.indices:
                moved[delta.support.indices[key]] = True
                expected = before[key].reshape(-1)[moved] + delta.pieces()[key]
                assert torch.equal(tensor.reshape(-1)[moved], expected)
            assert torch.equal(tensor.reshape(-1)[~moved], before[key].reshape(-1)[~moved])
    assert_unchanged(backbone, before)


def test_base_weights_are_restored_after_errors_and_repeated_use() -> None:
    backbone = tiny()
    before = state(backbone)
    first, two = random_delta(backbone, 50, seed=1), random_delta(backbone, 50, seed=2)
    for delta in (first, two, first, two):
        with pytest.raises(RuntimeError, match="mine"), delta.applied(backbone):
            raise RuntimeError("mine")
        assert_unchanged(backbone, before)


def test_channels_last_weights_are_restored_too() -> None:
    backbone = tiny("test_resnet")
    backbone.module.to(memory_format=torch.channels_last)
    delta = random_delta(backbone, 300)
    before = state(backbone)
    with delta.applied(backbone):
        name, index = next(iter(delta.support.indices.items()))
        moved = backbone.parameters[name].detach().contiguous().reshape(-1)[index]
        assert torch.equal(moved, before[name].contiguous().reshape(-1)[index] + delta.pieces()[name])
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("name", MODELS)
def test_training_with_weight_decay_leaves_every_other_entry_alone(name: str) -> None:
    backbone = tiny(name)
    delta = random_delta(backbone, 100, "all")
    before = state(backbone)
    optimizers: dict[str, Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }
    for make in optimizers.values():
        with Trainable(backbone, delta) as trainable:
            optimizer = make(trainable.parameters())
            for step in range(3):
                trainable.zero_grad()
                torch.manual_seed(step)
                cross_entropy(backbone(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
                optimizer.step()
                trainable.write()
            values, _ = trainable.snapshot()
            assert not torch.equal(values, delta.values)
            for key, tensor in backbone.module.state_dict().items():
                if key.startswith(backbone.head_name + "."):
                    assert not torch.equal(tensor, before[key])
                    continue
                still = torch.ones(tensor.numel(), dtype=torch.bool)
                still[delta.support.indices.get(key, torch.empty(0, dtype=torch.int64))] = False
                assert torch.equal(tensor.reshape(-1)[still], before[key].reshape(-1)[still]), key
        assert_unchanged(backbone, before)


def test_ten_steps_follow_the_dense_masked_trajectory() -> None:
    backbone = tiny(dtype=torch.float64)
    delta = random_delta(backbone, 300)
    delta.values.zero_()
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])

    twin = backbone.copy()
    masks = {name: torch.zeros(p.numel(), dtype=torch.bool) for name, p in twin.parameters.items()}
    for name, index in delta.support.indices.items():
        masks[name][index] = True
    head = [twin.head.weight, twin.head.bias]
    dense = torch.optim.AdamW(twin.module.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(10):
        dense.zero_grad()
        cross_entropy(twin(images), labels).backward()
        for name, p in twin.parameters.items():
            if not any(p is h for h in head):
                present(p.grad).view(-1)[~masks[name]] = 0
        dense.step()

    with Trainable(backbone, delta) as trainable:
        optimizer = torch.optim.AdamW(trainable.parameters(), lr=1e-2, weight_decay=0)
        for _ in range(10):
            trainable.zero_grad()
            cross_entropy(backbone(images), labels).backward()
            optimizer.step()
            trainable.write()
        for name, tensor in backbone.module.state_dict().items():
            torch.testing.assert_close(tensor, twin.module.state_dict()[name], rtol=1e-9, atol=1e-10)


def test_flags_modes_and_gradients_are_restored() -> None:
    backbone = tiny("test_resnet")
    backbone.module.train()
    backbone.module.conv1.requires_grad_(False)
    mark = torch.ones_like(backbone.parameters["fc.bias"])
    backbone.parameters["fc.bias"].grad = mark
    statistics = {k: v.clone() for k, v in backbone.module.state_dict().items() if "running" in k}
    with Trainable(backbone, random_delta(backbone, 10)):
        assert not backbone.module.training
        cross_entropy(backbone(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
    assert backbone.module.training
    assert not backbone.module.conv1[0].weight.requires_grad
    assert backbone.parameters["layer1.0.conv1.weight"].requires_grad
    assert backbone.parameters["fc.bias"].grad is mark
    for key, value in statistics.items():
        assert torch.equal(backbone.module.state_dict()[key], value)


def test_merge_makes_an_independent_base() -> None:
    backbone = tiny()
    before = state(backbone)
    delta = random_delta(backbone, 50)
    merged = delta.merge(backbone)
    assert_unchanged(backbone, before)
    assert merged.fingerprint != backbone.fingerprint
    images = torch.randn(2, 3, 32, 32)
    with delta.applied(backbone), torch.no_grad():
        expected = backbone(images)
    with torch.no_grad():
        assert torch.equal(merged(images), expected)
    with pytest.raises(BaseMismatch):
        delta.check(merged)


def test_two_deltas_at_once_are_refused() -> None:
    backbone = tiny()
    delta = random_delta(backbone, 5)
    with delta.applied(backbone):
        with pytest.raises(DeltaError, match="Another delta"), delta.applied(backbone):
            pass
        with pytest.raises(DeltaError, match="Another delta"), Trainable(backbone, delta):
            pass
    with delta.applied(backbone):
        pass


def test_other_bases_and_classes_are_refused() -> None:
    delta = random_delta(tiny(), 5)
    with pytest.raises(BaseMismatch, match="base weights"), delta.applied(tiny("test_convnext")):
        pass
    with (
        pytest.raises(ClassMismatch, match="Create it with the delta's classes"),
        delta.applied(tiny(classes=("a", "b", "c"))),
    ):
        pass


def test_zeros_moves_nothing() -> None:
    backbone = tiny()
    delta = SparseDelta.zeros(backbone, random_delta(backbone, 20).support)
    assert delta.k == 20
    before = state(backbone)
    with delta.applied(backbone):
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, before[name])
