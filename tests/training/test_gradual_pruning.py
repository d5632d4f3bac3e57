"""Gradual pruning: as many values remain as the schedule says, those with the largest v²F, and all others are 0."""

from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft import equations
from shpeft.backbones import Backbone
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import SelectionError, TrainingError
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import Support, select
from shpeft.training.checkpoint import Checkpoint
from shpeft.training.gradual_pruning import GradualPruning
from shpeft.training.loop import finetune
from tests.conftest import assert_unchanged, state, tiny

K0, K, EPOCHS = 300, 20, 6
OPTIONS: dict[str, Any] = {"epochs": EPOCHS, "lr": 1e-2, "batch_size": 8, "keep_start": False, "seed": 3}


def random_support(backbone: Backbone, k: int = K0) -> Support:
    infos = backbone.weight_infos("matrices")
    generator = torch.Generator().manual_seed(0)
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    return select(Scores("random", values, infos, backbone.weight_count), k)


def pruning_of(k: int = K, epochs: int = 3) -> GradualPruning:
    return GradualPruning(torch.rand(K0, generator=torch.Generator().manual_seed(1)), k, epochs)


def test_counts_follow_the_cubic_schedule() -> None:
    counts = [equations.pruned_count(K0, K, t / 8) for t in range(9)]
    assert counts[0] == K0
    assert counts[-1] == K
    steps = [a - b for a, b in pairwise(counts)]
    assert all(a >= b > 0 for a, b in pairwise(steps))  # fewer and fewer


def test_the_largest_scores_remain_as_by_hand(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values before each choice are recorded; a literal sort over those that were left says which remain."""
    backbone, seen, after = tiny(), list[Tensor](), list[Tensor]()
    before, pruning, prune = state(backbone), pruning_of(), GradualPruning.prune

    def record(self: GradualPruning, values: Tensor, epoch: int) -> None:
        seen.append(values.detach().clone())
        prune(self, values, epoch)
        after.append(self.remaining.clone())

    monkeypatch.setattr(GradualPruning, "prune", record)
    epochs: list[Tensor] = []

    def note(checkpoint: Checkpoint) -> None:
        epochs.append(checkpoint.values)

    delta = SparseDelta.zeros(backbone, random_support(backbone))
    reports = list(finetune(backbone, delta, data, prune=pruning, on_checkpoint=note, **OPTIONS))
    assert len(seen) == 3
    left = list(range(K0))
    f = torch.rand(K0, generator=torch.Generator().manual_seed(1))
    for t, (values, remaining) in enumerate(zip(seen, after, strict=True), 1):
        literal = sorted(left, key=lambda i: -(float(values[i]) ** 2) * float(f[i]))
        left = sorted(literal[: K + round((K0 - K) * (1 - t / 3) ** 3)])
        assert remaining.nonzero().squeeze(1).tolist() == left
    assert len(left) == K
    for values, remaining in zip(epochs, [*after, after[-1], after[-1], after[-1]], strict=True):
        assert torch.equal(values != 0, remaining)
    assert [report.best for report in reports if report.epoch < 3] == [False, False]
    assert any(report.best for report in reports)
    small = delta.restricted_to(pruning.support_of(delta.support))
    assert small.k == K
    assert bool((small.values != 0).all())
    assert torch.equal(small.restricted_to(delta.support).values, delta.values)
    assert_unchanged(backbone, before)


def test_training_is_the_usual_one_until_weights_are_pruned(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, usual = list[Tensor](), list[Tensor]()
    prune = GradualPruning.prune

    def record(self: GradualPruning, values: Tensor, epoch: int) -> None:
        seen.append(values.detach().clone())
        prune(self, values, epoch)

    monkeypatch.setattr(GradualPruning, "prune", record)
    for pruning in (pruning_of(), None):
        backbone = tiny()
        delta = SparseDelta.zeros(backbone, random_support(backbone))
        scale = torch.linspace(0.5, 1.5, K0)
        training = finetune(
            backbone,
            delta,
            data,
            prune=pruning,
            lr_scale=scale,
            on_checkpoint=lambda c: usual.append(c.values),
            **OPTIONS,
        )
        with closing(training):  # type: ignore[type-var]
            next(training)
    assert torch.equal(seen[0], usual[1])
    assert (usual[0] != 0).sum() < (usual[1] != 0).sum()


def test_a_better_start_wins_and_no_value_is_left(data: Dataset) -> None:
    backbone, pruning = tiny(), pruning_of()
    delta = SparseDelta.zeros(backbone, random_support(backbone))
    options = OPTIONS | {"keep_start": True, "lr": 10.0, "head_lr": 10.0}
    reports = list(finetune(backbone, delta, data, prune=pruning, **options))
    assert [report.epoch for report in reports if report.best] == [0]
    assert not delta.restricted_to(pruning.support_of(delta.support)).values.any()


def test_pruning_that_prunes_nothing_is_refused(data: Dataset) -> None:
    for k, epochs in ((K0, 3), (0, 3), (K, 0)):
        with pytest.raises(SelectionError, match="prunes nothing"):
            pruning_of(k, epochs)
    backbone = tiny()
    delta = SparseDelta.zeros(backbone, random_support(backbone))
    with pytest.raises(TrainingError, match="first 3 of 6 epochs, and the last 5 are averaged"):
        next(finetune(backbone, delta, data, prune=pruning_of(), average=5, **OPTIONS))
    checkpoints: list[Checkpoint] = []
    next(finetune(backbone, delta, data, on_checkpoint=checkpoints.append, **OPTIONS))
    with pytest.raises(TrainingError, match="which weights were pruned"):
        next(finetune(backbone, delta, data, prune=pruning_of(), resume=checkpoints[0], **OPTIONS))
