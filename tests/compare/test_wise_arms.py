"""Arms that average the trained weights with the start (WiSE-FT): exact at both ends, and in between."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft import compare
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.running import training
from shpeft.compare.running.baselines import make_tuner
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Task, Tasks
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import ConfigError
from shpeft.evaluation.temperature import refinement_loss
from shpeft.forward.base import ForwardPass
from shpeft.selection.top_k import Support
from tests.helpers.comparison_tables import plan_of

KINDS: dict[str, dict[str, Any]] = {"full": {"kind": "full"}, "sparse": {"kind": "sparse", "images": 8}}


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_1_is_the_training_and_of_0_its_start(kind: str, tmp_path: Path) -> None:
    base = KINDS[kind]
    arms = {"plain": base} | {f"{alpha:g}": base | {"wise": alpha} for alpha in (0.0, 0.5, 1.0)}
    plan = plan_of(arms, seeds=[0], budgets=[40])
    tasks = Tasks(plan, ".")
    task, cache, budget = (
        tasks.get("fundus", 0),
        ScoreCache(tasks, compare.Table(tmp_path)),
        plan.sizes(plan.arms["0"])[0],
    )
    outcomes = {}
    for arm in arms:
        trial, fitted = training.Trainings(Cell(plan, "fundus", arm, budget, 0), task, cache).run(Rate(1e-2))
        assert fitted is not None
        p, validation = (torch.from_numpy(fitted.predict(split).probabilities) for split in task.data.splits[:0:-1])
        outcomes[arm] = p
        if arm != "plain":
            assert trial.val_loss == refinement_loss(validation.numpy(), task.data.val.labels)
    assert torch.equal(outcomes["1"], outcomes["plain"])
    assert not torch.equal(outcomes["0.5"], outcomes["plain"])
    assert not torch.equal(outcomes["0.5"], outcomes["0"])
    probe = training.delta_model(task, _probe(task), _forward_pass(task, kind))
    assert torch.equal(outcomes["0"], torch.from_numpy(probe.predict(task.data.test).probabilities))


def _probe(task: Task) -> SparseDelta:
    """The linear probe on the pretrained weights."""
    return SparseDelta.zeros(task.backbone, Support({}, {}, task.backbone.weight_count), task.probe)


def _forward_pass(task: Task, kind: str) -> ForwardPass:
    """The forward pass that an arm of the kind predicts with, so that equal weights give equal bits."""
    names = [info.name for info in task.backbone.weight_infos("all" if kind == "full" else "matrices")]
    return task.forward_pass(task.backbone, names)


def test_all_trained_weights_and_the_head_are_interpolated(tmp_path: Path) -> None:
    task = Tasks(plan_of({"full": KINDS["full"]}), ".").get("fundus", 0)
    dense = make_tuner(plan_of({"full": KINDS["full"]}).arms["full"], task, 0)
    initial: dict[str, Tensor] = {name: p.detach().clone() for name, p in dense.trained.items()}
    with torch.no_grad():
        for p in dense.parameters():
            p.add_(1)
    trained = {name: p.detach().clone() for name, p in dense.trained.items()}
    dense.interpolate(task.backbone, task.probe, 1.0)
    assert initial
    assert all(torch.equal(p, trained[name]) for name, p in dense.trained.items())
    dense.interpolate(task.backbone, task.probe, 0.25)
    for name, p in dense.trained.items():
        torch.testing.assert_close(p.detach(), initial[name] + 0.25, atol=1e-6, rtol=0)
    dense.interpolate(task.backbone, task.probe, 0.0)
    assert all(torch.equal(p, initial[name]) for name, p in dense.trained.items())


def test_an_arm_without_it_has_the_key_that_it_had() -> None:
    plan = plan_of({"a": KINDS["sparse"], "b": KINDS["sparse"] | {"wise": 0.5}})
    a, b = list_cells(plan)[:2]
    assert a.key != b.key
    assert a.key == list_cells(plan_of({"a": KINDS["sparse"]}))[0].key


@pytest.mark.parametrize("arm", [{"kind": "bitfit"}, {"kind": "sparse", "posterior": "laplace"}])
def test_arms_without_a_mean_with_the_start_are_refused(arm: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'wise' is for kinds full and sparse, without a posterior"):
        plan_of({"a": arm | {"wise": 0.5}})
