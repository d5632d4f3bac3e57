"""The arms of a comparison: controls control what they claim, and dense training runs the loop of sparse training."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shpeft.compare import Plan, Table
from shpeft.compare.arm import Arm, Rate, Training
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.running import cell_runner, runner, training
from shpeft.compare.running.baselines import DenseTuner, make_tuner
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.evaluation.temperature import refinement_loss
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support
from shpeft.support.progress import silent
from shpeft.training.checkpoint import Checkpoint
from shpeft.training.loop import finetune
from tests.conftest import assert_unchanged, state
from tests.helpers.comparison_tables import plan_of


def score_cache_of(arms: dict[str, Any], folder: Path, **changes: Any) -> tuple[Plan, ScoreCache, Tasks]:
    plan = plan_of(arms, **changes)
    tasks = Tasks(plan, ".")
    return plan, ScoreCache(tasks, Table(folder)), tasks


def test_controls_select_what_they_claim(tmp_path: Path) -> None:
    arms = {
        "product": {"kind": "sparse", "images": 8},
        "like": {"kind": "sparse", "score": "random", "like": "product", "masks": 2},
        "other": {"kind": "sparse", "images": 8, "gradients": "other"},
        "shuffled": {"kind": "sparse", "images": 8, "gradients": "shuffled"},
        "top": {"kind": "sparse", "score": "magnitude"},
        "bottom": {"kind": "sparse", "score": "magnitude", "order": "smallest"},
    }
    plan, score_cache, tasks = score_cache_of(arms, tmp_path)
    before = state(tasks.get("fundus", 0).backbone)

    def support(arm: str, dataset: str = "fundus", mask: int = 0) -> Support:
        return score_cache.support(Cell(plan, dataset, arm, 40, 0, mask))

    assert support("like").counts() == support("product").counts()
    assert positions(support("like")) != positions(support("like", mask=1))
    assert positions(support("other")) == positions(support("product", "ultrasound"))
    assert positions(support("shuffled")) != positions(support("product"))
    parameters = tasks.get("fundus", 0).backbone.parameters
    weights = torch.cat([parameters[i.name].reshape(-1) for i in tasks.latest.backbone.weight_infos("matrices")]).abs()
    for arm, largest in (("top", True), ("bottom", False)):
        picked = torch.cat([parameters[n].reshape(-1)[index] for n, index in support(arm).indices.items()]).abs()
        assert torch.equal(picked.sort().values, weights.topk(40, largest=largest).values.sort().values)
    assert_unchanged(tasks.get("fundus", 0).backbone, before)


def positions(support: Support) -> set[tuple[str, int]]:
    return {(name, int(i)) for name, index in support.indices.items() for i in index}


def test_scores_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"consensus": {"kind": "sparse", "score": "consensus", "images": 8}}
    plan, score_cache, _ = score_cache_of(arms, tmp_path)
    cell = list_cells(plan)[0]
    first = score_cache.support(cell)
    monkeypatch.setattr("shpeft.compare.running.score_cache.estimate", lambda *_, **__: pytest.fail("scored again"))
    again = ScoreCache(Tasks(plan, "."), Table(tmp_path))
    assert positions(again.support(cell)) == positions(first)


def test_a_block_trained_densely_or_as_a_support_gives_the_same() -> None:
    """Full fine-tuning of the last block's matrices and a support of all of them: one loop, one trajectory."""
    tasks = Tasks(plan_of(), ".")
    task = tasks.get("fundus", 0)
    task.backbone.module.double()
    task.backbone.forget_fingerprint()
    infos = task.backbone.weight_infos("last:1")
    names = [info.name for info in infos]
    settings = Training(epochs=2, batch_size=8, weight_decay=0.0)
    dense = DenseTuner(task.backbone.copy(), {}, names)
    task.probe.write(dense.backbone)
    dense = DenseTuner(dense.backbone, {name: dense.backbone.parameters[name] for name in names}, names)
    a = list(dense.finetune(task.data, ForwardPass(dense.backbone), 1e-3, settings, 0, lambda *_: None))
    whole = Support(
        {info.name: torch.arange(info.numel) for info in infos},
        {info.name: info.shape for info in infos},
        task.backbone.weight_count,
    )
    delta = SparseDelta.zeros(task.backbone, whole, task.probe)
    b = list(
        finetune(task.backbone, delta, task.data, epochs=2, batch_size=8, lr=1e-3, weight_decay=0.0, keep_start=False)
    )
    for x, y in zip(a, b, strict=True):
        assert x.loss == pytest.approx(y.loss, abs=1e-9)
        assert x.val_loss == pytest.approx(y.val_loss, abs=1e-9)
    assert b[-1].loss != pytest.approx(b[0].loss, abs=1e-6)


def test_all_changes_retained_are_full_fine_tuning(tmp_path: Path) -> None:
    plan, score_cache, tasks = score_cache_of({"full": {"kind": "full"}}, tmp_path)
    task = tasks.get("fundus", 0)
    _, fitted = training.Trainings(Cell(plan, "fundus", "full", None, 0), task, score_cache).run(Rate(1e-3))
    assert fitted is not None
    dense = fitted.dense
    assert dense is not None
    tensors = {name: p.detach() for name, p in dense.trained.items()}
    kept_all = Arm(kind="revert", of="full")
    whole = fitted.predict(task.data.val).probabilities
    reverted = (
        cell_runner.revert(task, tensors, task.backbone.weight_count, kept_all).predict(task.data.val).probabilities
    )
    none = cell_runner.revert(task, tensors, 1, kept_all).predict(task.data.val).probabilities
    np.testing.assert_allclose(reverted, whole, atol=1e-5)  # θ0 + (θ − θ0) is θ but for rounding
    assert np.abs(none - whole).max() > 1e-4


def test_the_last_epochs_are_averaged(tmp_path: Path) -> None:
    """As with training by hand, where the values and heads of epochs are averaged."""
    settings = {"training": {"epochs": 4, "batch_size": 8, "head_lr": 1e-2}}
    plan, score_cache, tasks = score_cache_of(
        {"mean": {"kind": "sparse", "images": 8, "average": 3}}, tmp_path, **settings
    )
    task, cell = tasks.get("fundus", 0), Cell(plan, "fundus", "mean", 40, 0)
    trial, fitted = training.Trainings(cell, task, score_cache).run(Rate(1e-2))
    assert fitted is not None
    delta = SparseDelta.zeros(task.backbone, score_cache.support(cell), task.probe)
    values, weight, bias = (torch.zeros_like(t) for t in (delta.values, delta.head.weight, delta.head.bias))

    def add(checkpoint: Checkpoint) -> None:
        if checkpoint.history[-1].epoch > 1:
            values.add_(checkpoint.values / 3)
            weight.add_(checkpoint.head.weight / 3)
            bias.add_(checkpoint.head.bias / 3)

    options: dict[str, Any] = {"epochs": 4, "batch_size": 8, "lr": 1e-2, "head_lr": 1e-2}
    list(finetune(task.backbone, delta, task.data, on_checkpoint=add, **options))
    best = training.delta_model(task, delta, ForwardPass(task.backbone)).predict(task.data.val).probabilities
    delta.values, delta.head = values, Head(weight, bias)
    mean = training.delta_model(task, delta, ForwardPass(task.backbone)).predict(task.data.val).probabilities
    np.testing.assert_allclose(fitted.predict(task.data.val).probabilities, mean, atol=1e-5)
    assert np.abs(mean - best).max() > 1e-4
    assert trial.val_loss == pytest.approx(refinement_loss(mean, task.data.val.labels), abs=1e-5)


@pytest.mark.parametrize("kind", ["full", "bitfit"])
def test_dense_kinds_are_averaged_as_by_hand(tmp_path: Path, kind: str) -> None:
    def trained(averaged: int) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        plan, _, tasks = score_cache_of({kind: {"kind": kind}}, tmp_path, training={"epochs": 4, "batch_size": 8})
        task, settings = tasks.get("fundus", 0), plan.settings(plan.arms[kind])
        tuner, single = make_tuner(plan.arms[kind], task, 0), []
        for _ in tuner.finetune(task.data, ForwardPass(tuner.backbone), 1e-3, settings, 0, silent, averaged):
            single.append([p.detach().clone() for p in tuner.parameters()])
        tuner.keep_best()
        return [p.detach().clone() for p in tuner.parameters()], single

    mean, during = trained(averaged=2)
    _, single = trained(averaged=0)
    assert all(torch.equal(a, b) for x, y in zip(during, single, strict=True) for a, b in zip(x, y, strict=True))
    for result, a, b in zip(mean, *single[2:], strict=True):
        torch.testing.assert_close(result, (a + b) / 2, rtol=1e-5, atol=1e-7)


def test_a_start_that_is_better_wins_in_every_kind(tmp_path: Path) -> None:
    arms = {"full": {"kind": "full"}, "sparse": {"kind": "sparse", "images": 8}, "head": {"kind": "head"}}
    training_settings = {"epochs": 2, "batch_size": 8, "head_lr": 10.0, "keep_start": True, "average": "last_quarter"}
    plan, score_cache, tasks = score_cache_of(arms, tmp_path, training=training_settings)
    task = tasks.get("fundus", 0)
    probe = training.probe_model(task).predict(task.data.val).probabilities
    for name, arm in plan.arms.items():
        (budget,) = plan.sizes(arm)
        trial, fitted = training.Trainings(Cell(plan, "fundus", name, budget, 0), task, score_cache).run(Rate(1.0))
        assert fitted is not None
        assert trial.best is not None
        assert trial.best.epoch == 0
        np.testing.assert_allclose(fitted.predict(task.data.val).probabilities, probe, atol=1e-6)


@pytest.mark.parametrize("setting", [{"refit_head": True}, {"views": 2}])
def test_rates_are_chosen_by_the_final_model_s_loss(tmp_path: Path, setting: dict[str, Any]) -> None:
    arm = {"kind": "sparse", "images": 8, **setting}
    plan, score_cache, tasks = score_cache_of(
        {"own": arm}, tmp_path, training={"epochs": 2, "batch_size": 8, "head_lr": 1e-2}
    )
    task, cell = tasks.get("fundus", 0), Cell(plan, "fundus", "own", 40, 0)
    trial, fitted = training.Trainings(cell, task, score_cache).run(Rate(1e-2))
    assert fitted is not None
    assert trial.val_loss == refinement_loss(fitted.predict(task.data.val).probabilities, task.data.val.labels)
    assert trial.best is not None
    assert trial.val_loss != pytest.approx(trial.best.val_loss, abs=1e-4)


@pytest.mark.skipif(find_spec("peft") is None, reason="the optional package peft is not installed")
def test_lora_is_trained_and_counted(tmp_path: Path) -> None:
    plan, score_cache, tasks = score_cache_of({"lora": {"kind": "lora", "rank": 2}}, tmp_path)
    task = tasks.get("fundus", 0)
    before = state(task.backbone)
    trial, fitted = training.Trainings(Cell(plan, "fundus", "lora", None, 0), task, score_cache).run(Rate(1e-2))
    assert fitted is not None
    qkv = [info for info in task.backbone.weight_infos("matrices") if "qkv" in info.name]
    assert fitted.trained == sum(2 * sum(info.shape) for info in qkv)
    assert len(trial.history) == 2
    assert_unchanged(task.backbone, before)
    frozen = training.probe_model(task).predict(task.data.val).probabilities
    assert np.abs(fitted.predict(task.data.val).probabilities - frozen).max() > 1e-4


def test_an_arm_may_train_to_the_last_epoch(tmp_path: Path) -> None:
    """The losses are the same until patience stops one of them."""
    full = {"kind": "full", "lr": [0.1]}
    settings = {"epochs": 6, "patience": 1, "batch_size": 8}
    both = plan_of({"stops": full, "goes on": full | {"patience": 0}}, seeds=[0], training=settings)
    stopped, whole = runner.run(both, tmp_path, only=["fundus/*"]).trials().values()
    assert len(stopped["history"]) < 6
    assert len(whole["history"]) == whole["epochs"] == 6
    assert whole["history"][: stopped["epochs"]] == stopped["history"]
    assert whole["val_loss"] <= stopped["val_loss"]


VARIATION = {"augment": "light", "mixup": 0.3, "label_smoothing": 0.1, "balance": "sampling"}


@pytest.mark.parametrize("kind", ["sparse", "full", "head"])
def test_arms_vary_their_images_and_labels(tmp_path: Path, kind: str) -> None:
    arms = {"plain": {"kind": kind}, "varied": {"kind": kind, **VARIATION}}
    plan, score_cache, tasks = score_cache_of(arms, tmp_path)
    assert plan.settings(plan.arms["varied"]).variation == {**VARIATION, "modality": "auto"}
    budget, losses = 40 if kind == "sparse" else None, []
    for arm in ("plain", "varied", "varied"):
        trainings = training.Trainings(Cell(plan, "fundus", arm, budget, 0), tasks.get("fundus", 0), score_cache)
        losses.append([report.loss for report in trainings.run(Rate(1e-3))[0].history])
    assert losses[0] != losses[1] == losses[2]
    keys = [Cell(plan, "fundus", arm, budget, 0).trial_key(Rate(1e-3)) for arm in arms]
    assert keys[0] != keys[1]
