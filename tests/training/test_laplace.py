"""The Laplace posterior: Jacobians, covariance and prior precision equal those of the whole matrices by torch.func."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import SelectionError, TrainingError
from shpeft.evaluation.predict import predict
from shpeft.forward.base import ForwardPass
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import select
from shpeft.training import laplace
from shpeft.training.laplace import LaplacePosterior, compressed, evidence_precision, mean_probabilities
from tests.conftest import assert_unchanged, state, tiny


def trained(data: Dataset, k: int, scope: str = "matrices", size: float = 0.1) -> tuple[Backbone, SparseDelta]:
    """A float64 backbone with a delta of random values."""
    backbone = tiny(classes=data.classes, dtype=torch.float64)
    infos, generator = backbone.weight_infos(scope), torch.Generator().manual_seed(0)
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    delta = SparseDelta.zeros(backbone, select(Scores("random", values, infos, backbone.weight_count), k))
    delta.values = size * torch.randn(k, generator=generator, dtype=torch.float64)
    return backbone, delta


def literal(backbone: Backbone, delta: SparseDelta, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and their Jacobian (N, C, k) by torch.func, through weights that are scattered anew."""
    base = {name: p.detach() for name, p in backbone.module.named_parameters()}

    def logits(v: Tensor) -> Tensor:
        moved = dict(base)
        for (name, index), piece in zip(
            delta.support.indices.items(), v.split(list(delta.support.counts().values())), strict=True
        ):
            flat = base[name].reshape(-1)
            moved[name] = flat.index_add(0, index, piece).view_as(base[name])
        result: Tensor = functional_call(backbone.module, moved, (inputs,))
        return result

    with sdpa_kernel(SDPBackend.MATH):  # vmap knows no other attention
        jacobian: Tensor = jacrev(logits)(delta.values)
    return logits(delta.values).detach(), jacobian.detach()


@pytest.mark.parametrize("k", [7, 60])  # fewer and more than images times classes
def test_the_posterior_is_that_of_the_whole_matrices(data: Dataset, k: int) -> None:
    backbone, delta = trained(data, k)
    before = state(backbone)
    train, test = data.train.subset(list(range(8))), data.test.subset([0, 1, 2])
    forward_pass = ForwardPass(backbone)
    posterior = LaplacePosterior.fit(forward_pass, delta, train)
    assert len(posterior.factor) == min(k, 8 * len(data.classes))
    (inputs, target), *_ = forward_pass.batches(train, 8)
    f, jacobians = literal(backbone, delta, inputs)
    p = f.softmax(1)
    hessians = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    ggn = sum(j.t() @ h @ j for j, h in zip(jacobians, hessians, strict=True))
    assert isinstance(ggn, Tensor)
    torch.testing.assert_close(posterior.factor.t() @ posterior.factor, ggn, rtol=1e-6, atol=1e-9)

    def evidence(precision: float) -> float:
        likelihood = -torch.nn.functional.cross_entropy(f, target, reduction="sum")
        prior = k / 2 * math.log(precision) - precision / 2 * delta.values.square().sum()
        whole = ggn + precision * torch.eye(k, dtype=torch.float64)
        return float(likelihood + prior - torch.linalg.slogdet(whole).logabsdet / 2)

    best = evidence(posterior.precision)
    assert all(evidence(posterior.precision * factor) < best for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))
    covariance = torch.linalg.inv(ggn + posterior.precision * torch.eye(k, dtype=torch.float64))
    (inputs, _), *_ = forward_pass.batches(test, 3)
    f, jacobians = literal(backbone, delta, inputs)
    expected = jacobians @ covariance @ jacobians.mT
    torch.testing.assert_close(posterior.covariance(jacobians), expected, rtol=1e-6, atol=1e-9)
    result = posterior.predict(test)
    np.testing.assert_allclose(result.probabilities, mean_probabilities(f, expected).numpy(), atol=1e-6)
    np.testing.assert_allclose(result.probabilities.sum(1), 1, atol=1e-12)
    assert result.ids == test.ids
    assert_unchanged(backbone, before)


def test_a_prediction_does_not_depend_on_the_other_images(data: Dataset) -> None:
    backbone, delta = trained(data, 40)
    posterior = LaplacePosterior.fit(ForwardPass(backbone), delta, data.train)
    whole = posterior.predict(data.test).probabilities
    alone = posterior.predict(data.test.subset([len(data.test) - 1])).probabilities
    np.testing.assert_allclose(whole[-1:], alone, atol=1e-9)


def test_uncertain_values_flatten_predictions() -> None:
    f = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
    none = mean_probabilities(f, torch.zeros(1, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(none, f.softmax(1))
    wide = mean_probabilities(f, 25 * torch.eye(3, dtype=torch.float64)[None])
    assert wide.max() < none.max()
    two = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    sampled = float(mean_probabilities(two, 2 * torch.eye(2, dtype=torch.float64)[None])[0, 0])
    x = torch.linspace(-15, 17, 20001, dtype=torch.float64)  # the difference of both logits is N(1, 4)
    density = torch.exp(-((x - 1) ** 2) / 8) / math.sqrt(8 * math.pi)
    assert sampled == pytest.approx(float(torch.trapezoid(density * x.sigmoid(), x)), abs=0.03)  # 2 standard errors


def test_values_of_zero_leave_the_model_as_it_is(data: Dataset) -> None:
    backbone, delta = trained(data, 30, size=0.0)
    posterior = LaplacePosterior.fit(ForwardPass(backbone), delta, data.train)
    assert math.isinf(posterior.precision)
    np.testing.assert_allclose(
        posterior.predict(data.test).probabilities, predict(backbone, data.test).probabilities, atol=1e-9
    )


def test_compression_keeps_the_ggn() -> None:
    factor = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = compressed(factor)
    assert small.shape == (6, 6)
    torch.testing.assert_close(small.t() @ small, factor.t() @ factor)
    v = torch.ones(6)
    assert evidence_precision(small, v) == pytest.approx(evidence_precision(factor, v), rel=1e-6)


def test_other_tasks_and_weights_are_refused(data: Dataset) -> None:
    numbers = load_dataset("phantom:nodule?n=36&size=32", task="regression", seed=0)
    backbone, delta = trained(data, 10)
    with pytest.raises(TrainingError, match="the task of these images is regression"):
        LaplacePosterior.fit(ForwardPass(backbone), delta, numbers.train)
    backbone, delta = trained(data, 2000, scope="all")
    with pytest.raises(SelectionError, match="Choose the scope 'matrices'"):
        LaplacePosterior.fit(ForwardPass(backbone), delta, data.train)


def test_many_images_are_taken_in_batches(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, delta = trained(data, 40)
    forward_pass = ForwardPass(backbone)
    whole: Any = LaplacePosterior.fit(forward_pass, delta, data.train)
    monkeypatch.setattr(laplace, "BATCH", 5)
    parts = LaplacePosterior.fit(forward_pass, delta, data.train)
    torch.testing.assert_close(parts.factor.t() @ parts.factor, whole.factor.t() @ whole.factor)
    monkeypatch.setattr(laplace, "MOST_ROWS", 1)
    heights, compress = list[int](), compressed

    def record(factor: Tensor) -> Tensor:
        heights.append(len(factor))
        return compress(factor)

    monkeypatch.setattr(laplace, "compressed", record)
    bounded = LaplacePosterior.fit(forward_pass, delta, data.train)
    assert len(heights) > 1
    assert max(heights) <= 40 + 5 * len(data.classes)
    torch.testing.assert_close(bounded.factor.t() @ bounded.factor, whole.factor.t() @ whole.factor)
    assert parts.precision == pytest.approx(whole.precision, rel=1e-6)
