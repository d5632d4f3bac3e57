"""Deltas with random supports and values, and their gradients by dense autograd and by taps."""

import torch
from torch.nn.functional import cross_entropy

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import select


def random_delta(backbone: Backbone, k: int, scope: str = "matrices", seed: int = 0) -> SparseDelta:
    """Return a delta of k weights that are selected at random, with small normal values."""
    generator = torch.Generator().manual_seed(seed)
    infos = backbone.weight_infos(scope)
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    delta = SparseDelta.zeros(backbone, select(Scores("random", values, infos, backbone.weight_count), k))
    delta.values.normal_(std=0.01, generator=generator)
    return delta


MODELS = ("test_vit", "test_convnext", "test_resnet", "test_efficientnet")


def dense_gradient(
    backbone: Backbone, delta: SparseDelta, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of the values and of the head weight by dense autograd."""
    with delta.applied(backbone):
        loss = cross_entropy(backbone(images), labels)
        parameters = backbone.parameters
        names = [*delta.support.indices, f"{backbone.head_name}.weight"]
        grads = torch.autograd.grad(loss, [parameters[name] for name in names])
    picked = [g.reshape(-1)[i] for g, i in zip(grads[:-1], delta.support.indices.values(), strict=True)]
    return torch.cat(picked), grads[-1]


def sparse_gradient(
    backbone: Backbone, delta: SparseDelta, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same gradients by taps."""
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(images), labels).backward()
        assert trainable.values.grad is not None
        assert backbone.head.weight.grad is not None
        return trainable.values.grad.clone(), backbone.head.weight.grad.clone()


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Check the difference relative to the largest entry, since single entries may cancel."""
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-30)
