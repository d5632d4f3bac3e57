"""Every result prints as one line and is compared by identity where it holds tensors or arrays."""

from typing import Any

import numpy as np
import pytest
import torch

from shpeft.datasets import Dataset
from shpeft.delta.kernels import SampledProduct
from shpeft.delta.sparse_delta import AppliedDelta, SparseDelta
from shpeft.delta.switchboard import Switchboard
from shpeft.delta.trainable import Trainable
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward
from shpeft.importance.attention_heads import attention_heads, mean_by_head, summarize_heads
from shpeft.importance.gradient_passes import ScoringPass
from shpeft.importance.layer_summaries import summarize
from shpeft.importance.scores import estimate_importance
from shpeft.importance.weight_grid import count_in_grid
from shpeft.linear_probe import Head
from shpeft.selection.hypergeometric import Hypergeometric
from shpeft.selection.overlap import overlap
from shpeft.selection.ranking import rank_with_grids
from shpeft.selection.set_overlap import overlaps
from shpeft.selection.top_k import select
from shpeft.training.checkpoint import Checkpoint, EpochReport
from tests.conftest import tiny


@pytest.fixture(scope="module")
def results(data: Dataset) -> dict[str, Any]:
    """One object of each class, by the class's name."""
    backbone = tiny()
    scores = estimate_importance(backbone, data.train, scope="matrices", images=8)
    a, b = select(scores, 100), select(scores.halves[1], 50) if scores.halves else None
    assert b is not None
    delta, head = SparseDelta.zeros(backbone, a), Head.of(backbone)
    rankings, grids = rank_with_grids(scores, 100, {})
    name, heads = next(iter(attention_heads(backbone).items()))
    info = next(info for info in scores.infos if info.name == name)
    grid = count_in_grid(a.indices.get(name), info, heads)
    report = EpochReport(1, 2, 0.5, 0.6, 0.7, 0.8, 9.0, True)
    split = BackboneSplit(backbone, "blocks.3")
    objects = [
        *(scores, a, delta, head, rankings, rankings.parts["hybrid"], grids["hybrid"], grid),
        *(overlap(a, b), overlaps({"a": a, "b": b}), Hypergeometric.of(1000, 100, 50)),
        *(Switchboard(backbone, {"a": delta}), AppliedDelta(backbone, delta), Trainable(backbone, delta)),
        *(ForwardPass(backbone), split, CachedForward(split), ScoringPass(ForwardPass(backbone), data.train, [0, 1])),
        summarize_heads(name, mean_by_head(scores.values[name], name, heads), grid),
        summarize(scores, a.counts())[0],
        Checkpoint("0" * 64, ("1", "2", "3"), delta.values, head, delta.values, head, (), (report,)),
        SampledProduct(torch.tensor([1, 5]), (2, 3)),
    ]
    return {type(item).__name__: item for item in objects}


def test_every_repr_is_one_short_line(results: dict[str, Any]) -> None:
    assert len(results) == 22
    for name, item in results.items():
        text = repr(item)
        assert text.startswith(f"{name}("), text
        assert "\n" not in text
        assert len(text) <= 120, text


def test_reprs_state_sizes(results: dict[str, Any]) -> None:
    count = len(results["Support"].indices)
    assert repr(results["Support"]) == f"Support(100 of 300.1K weights in {count} parameters)"
    assert repr(results["SparseDelta"]) == "SparseDelta(100 of 300.1K weights of test_vit at 32 px, 3 classes)"
    assert repr(results["Head"]) == "Head(3 classes, 64 features)"
    assert repr(results["Switchboard"]) == "Switchboard(test_vit: a)"


def test_results_with_tensors_or_arrays_are_compared_by_identity(results: dict[str, Any]) -> None:
    holders = [item for item in results.values() if _holds_numbers(vars(item))]
    assert len(holders) >= 10
    for item in holders:
        kind: Any = type(item)
        assert kind.__eq__ is object.__eq__, kind.__name__


def _holds_numbers(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_numbers(item) for item in value.values())
    return isinstance(value, torch.Tensor | np.ndarray)
