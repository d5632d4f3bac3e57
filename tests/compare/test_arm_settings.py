"""Settings of arms: rates by weight, ε, selection again, given halves, controls."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shpeft import equations
from shpeft.backbones import Backbone, WeightInfo
from shpeft.compare.running.score_cache import select_one_per_line
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable, lr_scale
from shpeft.errors import SelectionError
from shpeft.evaluation.predict import predict
from shpeft.importance.scores import Scores, consensus, estimate_importance, hybrid
from shpeft.selection.top_k import Support, select, select_like
from shpeft.training.loop import finetune
from tests.conftest import tiny


def random_support(backbone: Backbone, k: int = 40, scope: str = "matrices", seed: int = 0) -> Support:
    generator = torch.Generator().manual_seed(seed)
    infos = backbone.weight_infos(scope)
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    return select(Scores("random", values, infos, backbone.weight_count), k)


def test_rates_by_weight_equal_a_parameter_group_for_each_weight() -> None:
    backbone = tiny(dtype=torch.float64)
    support = random_support(backbone, 6)
    scale = torch.tensor([0.0, 0.1, 0.5, 1.0, 2.0, 10.0], dtype=torch.float64)
    gradients = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.3, "eps": 1e-3}
    with Trainable(backbone, SparseDelta.zeros(backbone, support), lr_scale=scale) as trainable:
        optimizer = torch.optim.AdamW([trainable.values], **options)
        for g in gradients:
            trainable.zero_grad()
            assert trainable.values.grad is not None
            trainable.values.grad.copy_(g)
            optimizer.step()
            trainable.write()
        result = trainable.values.detach().clone()
    slow = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(6)]
    groups = [{"params": [p], "lr": 1e-2 * float(s)} for p, s in zip(slow, scale, strict=True)]
    optimizer = torch.optim.AdamW(groups, **options)
    for g in gradients:
        for p, value in zip(slow, g, strict=True):
            p.grad = value.reshape(1).clone()
        optimizer.step()
    torch.testing.assert_close(result, torch.cat([p.detach() for p in slow]), rtol=1e-12, atol=1e-14)
    assert result[0] == 0


def test_a_scale_of_one_changes_no_bit(data: Dataset) -> None:
    deltas = []
    for scale in (None, torch.ones(40)):
        backbone = tiny()
        delta = SparseDelta.zeros(backbone, random_support(backbone))
        list(finetune(backbone, delta, data, epochs=1, lr=1e-2, lr_scale=scale))
        deltas.append(delta.values)
    assert torch.equal(*deltas)


def test_rates_follow_the_weights_or_their_parameters() -> None:
    backbone = tiny()
    support = random_support(backbone)
    assert lr_scale(backbone, support, "uniform") is None
    by_weight, by_layer = (lr_scale(backbone, support, rule) for rule in ("magnitude", "rms"))
    assert by_weight is not None
    assert by_layer is not None
    at = 0
    for name, index in support.indices.items():
        w = backbone.parameters[name].detach()
        picked = w.reshape(-1)[index].abs()
        mine = slice(at, at + len(index))
        torch.testing.assert_close(by_weight[mine] / by_weight[0], picked / first_of(backbone, support).abs())
        ratio = by_layer[mine] / by_layer[0]
        first = backbone.parameters[next(iter(support.indices))].detach()
        torch.testing.assert_close(ratio, (w.square().mean() / first.square().mean()).sqrt().expand(len(index)))
        at += len(index)
    for scale in (by_weight, by_layer):
        assert scale.mean() == pytest.approx(1, abs=1e-6)
    with pytest.raises(SelectionError, match="magnitude"):
        lr_scale(backbone, support, "magnitud")


def first_of(backbone: Backbone, support: Support) -> Tensor:
    name, index = next(iter(support.indices.items()))
    return backbone.parameters[name].detach().reshape(-1)[index[0]]


def test_epsilon_reaches_the_optimizer(data: Dataset) -> None:
    sizes = []
    for eps in (1e-8, 1e4):
        backbone = tiny()
        delta = SparseDelta.zeros(backbone, random_support(backbone))
        list(finetune(backbone, delta, data, epochs=1, lr=1e-2, weight_decay=0, eps=eps))
        sizes.append(float(delta.values.abs().max()))
    assert 0 < sizes[1] < 1e-4 * sizes[0]


def test_a_delta_moves_exactly_to_another_support() -> None:
    backbone = tiny()
    a, b = random_support(backbone, 60, "last:1", 0), random_support(backbone, 9000, "last:1", 1)
    delta = SparseDelta.zeros(backbone, a)
    delta.values = torch.arange(1, 61, dtype=torch.float32)
    moved = delta.restricted_to(b)
    before = {(n, int(i)): float(v) for n, p in delta.pieces().items() for i, v in zip(a.indices[n], p, strict=True)}
    after = {(n, int(i)): float(v) for n, p in moved.pieces().items() for i, v in zip(b.indices[n], p, strict=True)}
    assert after == {position: before.get(position, 0.0) for position in after}
    assert 0 < sum(v != 0 for v in after.values()) < 60
    assert torch.equal(delta.restricted_to(a).values, delta.values)


def test_a_control_keeps_the_counts_of_each_parameter() -> None:
    backbone = tiny()
    support = random_support(backbone, 200)
    infos = backbone.weight_infos("matrices")
    controls = [select_like(support, infos, seed) for seed in (0, 0, 1)]
    assert all(control.counts() == support.counts() for control in controls)
    name = max(support.counts(), key=lambda name: support.counts()[name])
    assert torch.equal(controls[0].indices[name], controls[1].indices[name])
    assert not torch.equal(controls[0].indices[name], controls[2].indices[name])
    assert isinstance(controls[0], Support)


def test_a_hybrid_of_given_halves_is_the_hybrid(data: Dataset) -> None:
    backbone = tiny()
    more: dict[str, Any] = {"images": 16, "scope": "matrices"}
    specific = estimate_importance(backbone, data.train, "gradient", **more)
    agnostic = estimate_importance(backbone, data.train, "magnitude", **more)
    for formula in ("product", "sum"):
        whole = estimate_importance(backbone, data.train, "hybrid", formula=formula, lam=0.3, **more)
        joined = hybrid(specific, agnostic, formula, lam=0.3)
        assert all(torch.equal(whole.values[name], joined.values[name]) for name in whole.values)
    with pytest.raises(SelectionError, match="same weights"):
        hybrid(specific, estimate_importance(backbone, data.train, "magnitude", scope="last:1"))


def test_the_consensus_is_the_mean_of_normalized_scores(data: Dataset) -> None:
    backbone = tiny()
    infos = backbone.weight_infos("last:1")
    tasks = [
        Scores("task", {i.name: torch.rand(i.shape) * 10**t for i in infos}, infos, backbone.weight_count)
        for t in range(3)
    ]
    result = consensus(tasks)
    flat = [torch.cat([v.reshape(-1) for v in task.values.values()]) for task in tasks]
    slow = sum(s / s.mean() for s in flat) / 3
    torch.testing.assert_close(torch.cat([v.reshape(-1) for v in result.values.values()]), slow)
    torch.testing.assert_close(equations.consensus([s / s.mean() for s in flat]), slow)
    with pytest.raises(SelectionError, match="at least one other task"):
        consensus([])


def test_two_views_are_averaged(data: Dataset) -> None:
    backbone = tiny()
    once, both = (predict(backbone, data.test, views=views).probabilities for views in (1, 2))
    pixels = torch.stack([backbone.transform.pixels(data.test.image(i)) for i in range(len(data.test))])
    with torch.no_grad():
        mirrored = backbone(backbone.transform.normalize(pixels.flip(-1))).double().softmax(1).numpy()
    np.testing.assert_allclose(both, (once + mirrored) / 2, atol=1e-6)
    assert abs(once - mirrored).max() > 1e-4


@given(st.integers(0, 10_000), st.booleans())
def test_one_weight_a_row_and_column_is_selected_greedily(seed: int, ties: bool) -> None:
    """As by the rule itself: all weights in order, each selected if its row and its column are free."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 4), (5, 2), (4, 4))
    layers = [torch.randn(shape, generator=generator) for shape in shapes]
    layers = [v.round() + 0.0 for v in layers] if ties else layers
    infos = tuple(WeightInfo(f"w{i}", shape, shape[0] * shape[1], i, "b", "w") for i, shape in enumerate(shapes))
    scores = Scores("test", {info.name: v for info, v in zip(infos, layers, strict=True)}, infos, 38)
    taken = list[tuple[int, int, int]]()
    order = torch.cat([v.reshape(-1) for v in layers]).argsort(descending=True, stable=True).tolist()
    for position in order:
        layer, at = next((i, position - n) for i, n in ((2, 22), (1, 12), (0, 0)) if position >= n)
        row, column = divmod(at, shapes[layer][1])
        if all(layer != i or (row != r and column != c) for i, r, c in taken):
            taken.append((layer, row, column))
    for k in range(1, len(taken) + 1):
        result = select_one_per_line(scores, k)
        positions = {i: result.indices.get(f"w{i}", torch.empty(0)).tolist() for i in range(3)}
        pairs = [(i, *divmod(at, shapes[i][1])) for i, index in positions.items() for at in index]
        assert sorted(pairs) == sorted(taken[:k])
    with pytest.raises(SelectionError, match="Only"):
        select_one_per_line(scores, len(taken) + 1)


def test_one_weight_a_row_and_column_needs_matrices() -> None:
    info = WeightInfo("w", (4,), 4, 0, "b", "w")
    with pytest.raises(SelectionError, match="matrices"):
        select_one_per_line(Scores("test", {"w": torch.rand(4)}, (info,), 4), 2)
