"""The private gradient of all images: its literal twin, what an image changes in it, its noise, and its scores."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft.backbones import Backbone, create_backbone
from shpeft.config.schema import SelectionConfig
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.forward.base import ForwardPass
from shpeft.importance.private_gradient import clipped_gradient_sum, private_gradient, private_scores
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import Head

ROUNDING = 1e-5
"""Relative error of sums in float32, in which gradients are added up."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("phantom:fundus?n=36&size=32", seed=0)


@pytest.fixture
def model(data: Dataset) -> Backbone:
    return create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)


def names_of(model: Backbone, scope: str) -> list[str]:
    return [info.name for info in model.weight_infos(scope)]


def clipped(model: Backbone, split: Split, clip: float, scope: str = "matrices") -> Tensor:
    sums = clipped_gradient_sum(ForwardPass(model), split, names_of(model, scope), clip)
    return torch.cat([part.reshape(-1) for part in sums.values()])


def literal(model: Backbone, split: Split, scope: str) -> Tensor:
    """Return the gradient of each image (N, n), in float64 after the backward pass."""
    forward_pass, rows = ForwardPass(model), []
    parameters = [model.parameters[name] for name in names_of(model, scope)]
    for row in range(len(split)):
        inputs, target = next(forward_pass.batches(split, 1, order=[row]))
        model.module.eval()
        loss = split.task.loss(model(inputs), target, "sum")
        rows.append(torch.cat([g.reshape(-1).double() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


@pytest.mark.parametrize("scope", ["matrices", "all"])
def test_it_is_the_sum_of_clipped_gradients_of_single_images(model: Backbone, data: Dataset, scope: str) -> None:
    split = data.train.subset(range(8))
    gradients = literal(model, split, scope)
    norms = gradients.norm(dim=1)
    clip = float(norms.median())
    assert norms.min() < clip < norms.max()
    expected = (gradients * (clip / norms).clamp(max=1.0)[:, None]).sum(0)
    torch.testing.assert_close(clipped(model, split, clip, scope).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [0.01, 0.5, 100.0])
def test_an_image_moves_the_sum_by_the_clip_at_most(model: Backbone, data: Dataset, clip: float) -> None:
    split = data.train.subset(range(6))
    whole, norms = clipped(model, split, clip), literal(model, split, "matrices").norm(dim=1)
    for row in range(len(split)):
        rest = [other for other in range(len(split)) if other != row]
        moved = float((whole - clipped(model, split.subset(rest), clip)).double().norm())
        assert moved <= clip * (1 + ROUNDING * len(split))
        assert moved == pytest.approx(min(clip, float(norms[row])), rel=1e-3)
        replaced = clipped(model, data.train.subset([*rest, 10 + row]), clip)
        assert float((whole - replaced).double().norm()) <= 2 * clip * (1 + ROUNDING * len(split))


def test_clipping_bounds_an_image_under_any_head(model: Backbone, data: Dataset) -> None:
    """The coordinator chooses the head: whatever it is, one image moves the sum by at most C."""
    head = Head.of(model)
    for factor in (1e6, 1e30):
        with Head(head.weight * factor, head.bias).applied(model):
            for row in range(3):
                alone = clipped(model, data.train.subset([row]), 1.0)
                assert alone.isfinite().all()
                assert float(alone.double().norm()) <= 1 + ROUNDING


def test_an_image_without_a_finite_gradient_counts_as_none(
    model: Backbone, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, task, calls = data.train.subset(range(4)), type(data.train.task), list[int]()
    expected, plain = clipped(model, split.subset([0, 2, 3]), 0.5), task.loss

    def broken(self: Any, *arguments: Any) -> Tensor:
        calls.append(len(calls))
        return plain(self, *arguments) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(task, "loss", broken)
    assert torch.equal(clipped(model, split, 0.5), expected)
    assert len(calls) == 4


def test_every_coordinate_has_noise_of_the_size_that_is_accounted_for(model: Backbone, data: Dataset) -> None:
    split, noise, clip = data.train, 3.0, 0.5
    names, forward_pass = names_of(model, "all"), ForwardPass(model)

    def drawn(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return private_gradient(forward_pass, split, names, noise=noise, clip=clip, generator=generator)

    sums, first, again, other = clipped_gradient_sum(forward_pass, split, names, clip), drawn(0), drawn(0), drawn(1)
    added = torch.cat([(first[name] * len(split) - sums[name]).reshape(-1) for name in names])
    assert float(added.std()) == pytest.approx(noise * clip, rel=0.01)
    assert abs(float(added.mean())) < 0.01
    for name in names:
        assert torch.equal(first[name], again[name])
        assert not bool((first[name] == other[name]).any())
    free = [private_gradient(forward_pass, split, names[:1], noise=noise, clip=clip)[names[0]] for _ in range(2)]
    assert not bool((free[0] == free[1]).any())


@pytest.mark.parametrize(("score", "norm"), [("hybrid", "l1"), ("hybrid", "l2"), ("gradient", "l1")])
def test_scores_are_those_of_the_gradient_under_the_given_head(
    model: Backbone, data: Dataset, score: Any, norm: Any
) -> None:
    """With a large C and noise of nearly nothing, they are the ordinary scores; the model keeps its bits."""
    head, before = (
        Head(torch.randn(3, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(3)),
        model.fingerprint,
    )
    options = SelectionConfig(score=score, norm=norm)
    own = private_scores(ForwardPass(model), data.train, head, options, noise=1e-12, clip=1e6)
    plain = estimate_importance(model, data.train, score, norm=norm, head=head)
    assert own.infos == plain.infos
    assert (own.halves is None) == (plain.halves is None)
    for name in plain.values:
        torch.testing.assert_close(own.values[name], plain.values[name], rtol=1e-3, atol=1e-6)
    own_head = Head.of(model)
    assert not own_head.equals(head)
    model.forget_fingerprint()
    assert model.fingerprint == before
    assert all(p.grad is None for p in model.parameters.values())


def test_the_number_of_images_alone_divides_the_sum(model: Backbone, data: Dataset) -> None:
    split, name = data.train.subset(range(5)), "blocks.0.attn.qkv.weight"
    twice = replace(split).subset([*range(5), *range(5)])
    once, doubled = (
        private_gradient(ForwardPass(model), part, [name], noise=1e-12, clip=0.1)[name] for part in (split, twice)
    )
    torch.testing.assert_close(once, doubled, rtol=1e-4, atol=1e-8)
