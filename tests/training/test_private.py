"""Private training: gradients of single images, their clipping, the noise, and the accounting of ε."""

from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.sparse_gradients import ImageGradients
from shpeft.delta.trainable import Trainable
from shpeft.errors import SelectionError
from shpeft.forward.base import ForwardPass
from shpeft.importance.scores import estimate_importance
from shpeft.selection.top_k import Support, select
from shpeft.training import private
from shpeft.training.private import Privacy, PrivateState, steps_per_epoch, train_privately

SETTINGS: dict[str, Any] = {"batch_size": 8, "lr": 0.01, "head_lr": 0.01, "weight_decay": 0.0, "warmup": 0.0}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("phantom:fundus?n=36&size=32", seed=0)


@pytest.fixture
def model(data: Dataset) -> Backbone:
    return create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)


def delta_of(model: Backbone, data: Dataset, k: int = 200) -> SparseDelta:
    support = select(estimate_importance(model, data.train, "magnitude"), k)
    return SparseDelta.zeros(model, support)


def sums(model: Backbone, delta: SparseDelta, data: Dataset, rows: list[int], clip: float) -> list[Tensor]:
    each = ImageGradients()
    with Trainable(model, delta, each=each) as trainable:
        return private._clipped_sums(ForwardPass(model), trainable, each, data, rows, clip)


def test_the_gradients_of_images_add_up_to_that_of_the_batch(model: Backbone, data: Dataset) -> None:
    delta, rows = delta_of(model, data), list(range(6))
    together = sums(model, delta, data, rows, 1e9)
    with Trainable(model, delta) as trainable:
        inputs, target = next(ForwardPass(model).batches(data.train, 6, order=rows))
        data.train.task.loss(model(inputs), target, "sum").backward()
        expected = [p.grad for p in trainable.parameters()]
        for own, plain in zip(together, expected, strict=True):
            assert plain is not None
            torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [0.05, 1.0])
def test_an_image_changes_the_sums_by_its_clipped_gradient_at_most(model: Backbone, data: Dataset, clip: float) -> None:
    delta, rows = delta_of(model, data), [3, 4, 5, 6]
    whole = sums(model, delta, data, rows, clip)
    for row in rows:
        without = sums(model, delta, data, [other for other in rows if other != row], clip)
        alone = sums(model, delta, data, [row], clip)
        squares = sum(float((a - b).square().sum()) for a, b in zip(whole, without, strict=True))
        assert squares**0.5 <= clip * (1 + 1e-3)
        for a, b, c in zip(whole, without, alone, strict=True):
            torch.testing.assert_close(a - b, c, rtol=1e-3, atol=1e-5)


def test_no_image_gives_noise_alone(model: Backbone, data: Dataset) -> None:
    assert not any(part.any() for part in sums(model, delta_of(model, data), data, [], 1.0))


def test_training_moves_the_values_and_leaves_the_model(model: Backbone, data: Dataset) -> None:
    delta, before = delta_of(model, data), model.fingerprint
    state = PrivateState(delta.values, delta.head)
    options: dict[str, Any] = {"epochs": 1, "total_epochs": 2, **SETTINGS}
    forward_pass = ForwardPass(model)

    def train(noise: float, seed: int, before: PrivateState = state) -> PrivateState:
        generator = torch.Generator().manual_seed(seed)
        return train_privately(
            forward_pass, delta, data, before, Privacy(noise, 1.0, 1e-5), generator=generator, **options
        )

    first, again, other = train(1.0, 0), train(1.0, 0), train(1.0, 1)
    assert first.steps == steps_per_epoch(len(data.train), 8)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    second = train(1.0, 2, first)
    assert second.steps == 2 * first.steps
    assert float(second.moments[0]["step"]) == second.steps
    model.forget_fingerprint()
    assert model.fingerprint == before


def test_noise_has_the_size_that_is_accounted_for(
    model: Backbone, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a step of plain gradient descent in place of AdamW's, the values move by the noisy gradient."""
    delta = delta_of(model, data, 2000)
    monkeypatch.setattr(torch.optim, "AdamW", Descent)
    privacy, images = Privacy(3.0, 0.5, 1e-5), len(data.train)
    options = SETTINGS | {"batch_size": images, "lr": 1.0, "head_lr": 1.0}
    state = train_privately(
        ForwardPass(model),
        delta,
        data,
        PrivateState(delta.values, delta.head),
        privacy,
        epochs=1,
        total_epochs=1,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    expected = sums(model, delta, data, list(range(images)), privacy.clip)[0] / images
    noise = (state.values + expected) * images
    assert float(noise.std()) == pytest.approx(privacy.noise * privacy.clip, rel=0.1)
    assert abs(float(noise.mean())) < 0.2


def test_without_a_generator_nobody_can_guess_batches_and_noise(
    model: Backbone, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's generator uses 32 bits of a seed, which can be tried one by one."""
    drawn = list[int]()

    def normal(shape: torch.Size) -> Tensor:
        drawn.append(shape.numel())
        return torch.zeros(shape)

    delta = delta_of(model, data)
    monkeypatch.setattr(private, "secure_normal", normal)
    monkeypatch.setattr(private, "secure_uniform", lambda count: torch.ones(count, dtype=torch.float64))
    monkeypatch.setattr(torch, "randn", None)
    monkeypatch.setattr(torch, "rand", None)
    state = train_privately(
        ForwardPass(model),
        delta,
        data,
        PrivateState(delta.values, delta.head),
        Privacy(1.0, 1.0, 1e-5),
        epochs=1,
        total_epochs=1,
        **SETTINGS,
    )
    assert drawn == [200, delta.head.weight.numel(), delta.head.bias.numel()] * state.steps
    assert not state.values.any()  # no image in any batch, and no noise


class Descent(torch.optim.SGD):
    def __init__(self, groups: list[dict[str, object]]) -> None:
        for group in groups:
            group["weight_decay"] = 0.0
        super().__init__(groups, lr=1.0)


def test_weights_outside_linear_layers_are_refused(model: Backbone, data: Dataset) -> None:
    support = Support({"blocks.0.norm1.weight": torch.tensor([0, 3])}, {"blocks.0.norm1.weight": (64,)}, 300_096)
    with pytest.raises(SelectionError, match=r"linear layers alone, and blocks\.0\.norm1\.weight"):
        sums(model, SparseDelta.zeros(model, support), data, [0, 1], 1.0)


def test_an_image_without_a_finite_gradient_counts_as_none(
    model: Backbone, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta, plain, calls = delta_of(model, data), private._image_gradients, list[int]()

    def broken(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        features, errors, gradients = plain(*arguments)
        calls.append(len(errors))
        errors[1] = float("inf")
        gradients[1, 0] = float("nan")
        return features, errors, gradients

    expected = sums(model, delta, data, [3, 5], 1.0)
    monkeypatch.setattr(private, "_image_gradients", broken)
    for own, other in zip(sums(model, delta, data, [3, 4, 5], 1.0), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
    assert calls == [3]
