"""The arms of a comparison: controls are what they say, and dense training is the loop of sparse training."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from shpeft.compare import Plan, Table, arms, runner
from shpeft.compare.dense import Dense
from shpeft.compare.plan import Arm, Cell, Training
from shpeft.compare.scores import ScoreBook
from shpeft.compare.tasks import Tasks
from shpeft.delta import SparseDelta
from shpeft.feed import Feed
from shpeft.probe import Head
from shpeft.selection import Support
from shpeft.temperature import refinement_loss
from shpeft.training import finetune

from .comparisons import plan_of
from .conftest import assert_unchanged, state


def book_of(wanted, folder, **changes) -> tuple[Plan, ScoreBook, Tasks]:
    plan = plan_of(wanted, **changes)
    tasks = Tasks(plan, ".")
    return plan, ScoreBook(tasks, Table(folder)), tasks


def test_controls_are_what_they_say(tmp_path):
    wanted = {
        "product": {"kind": "sparse", "images": 8},
        "like": {"kind": "sparse", "score": "random", "like": "product", "masks": 2},
        "other": {"kind": "sparse", "images": 8, "gradients": "other"},
        "shuffled": {"kind": "sparse", "images": 8, "gradients": "shuffled"},
        "top": {"kind": "sparse", "score": "magnitude"},
        "bottom": {"kind": "sparse", "score": "magnitude", "order": "smallest"},
    }
    plan, book, tasks = book_of(wanted, tmp_path)
    before = state(tasks.get("fundus", 0).backbone)

    def support(arm, dataset="fundus", mask=0):
        return book.support(Cell(plan, dataset, arm, 40, 0, mask))

    assert support("like").counts() == support("product").counts()
    assert places(support("like")) != places(support("like", mask=1))
    assert places(support("other")) == places(support("product", "ultrasound"))
    assert places(support("shuffled")) != places(support("product"))
    parameters = tasks.get("fundus", 0).backbone.parameters
    weights = torch.cat([parameters[i.name].reshape(-1) for i in tasks.present.backbone.weight_infos("matrices")]).abs()
    for arm, largest in (("top", True), ("bottom", False)):
        picked = torch.cat([parameters[n].reshape(-1)[index] for n, index in support(arm).indices.items()]).abs()
        assert torch.equal(picked.sort().values, weights.topk(40, largest=largest).values.sort().values)
    assert_unchanged(tasks.get("fundus", 0).backbone, before)


def places(support):
    return {(name, int(i)) for name, index in support.indices.items() for i in index}


def test_scores_are_computed_once(tmp_path, monkeypatch):
    wanted = {"consensus": {"kind": "sparse", "score": "consensus", "images": 8}}
    plan, book, _ = book_of(wanted, tmp_path)
    cell = plan.cells()[0]
    first = book.support(cell)
    monkeypatch.setattr("shpeft.compare.scores.estimate", lambda *_, **__: pytest.fail("scored again"))
    again = ScoreBook(Tasks(plan, "."), Table(tmp_path))
    assert places(again.support(cell)) == places(first)


def test_a_block_trained_densely_or_as_a_support_is_the_same():
    """Full fine-tuning of the last block's matrices and a support of all of them: one loop, one trajectory."""
    tasks = Tasks(plan_of(), ".")
    task = tasks.get("fundus", 0)
    task.backbone.module.double()
    task.backbone.__dict__.pop("fingerprint", None)
    infos = task.backbone.weight_infos("last:1")
    names = [info.name for info in infos]
    settings = Training(epochs=2, batch_size=8, weight_decay=0.0)
    dense = Dense(task.backbone.copy(), {}, names)
    task.probe.write(dense.backbone)
    dense = Dense(dense.backbone, {name: dense.backbone.parameters[name] for name in names}, names)
    a = list(dense.finetune(task.data, Feed(dense.backbone), 1e-3, settings, 0, lambda *_: None))
    whole = Support(
        {info.name: torch.arange(info.numel) for info in infos},
        {info.name: info.shape for info in infos},
        task.backbone.count,
    )
    delta = SparseDelta.zeros(task.backbone, whole, task.probe)
    b = list(finetune(task.backbone, delta, task.data, epochs=2, batch_size=8, lr=1e-3, weight_decay=0.0))
    for x, y in zip(a, b, strict=True):
        assert x.loss == pytest.approx(y.loss, abs=1e-9)
        assert x.val_loss == pytest.approx(y.val_loss, abs=1e-9)
    assert b[-1].loss != pytest.approx(b[0].loss, abs=1e-6)


def test_all_changes_kept_are_full_fine_tuning(tmp_path):
    plan, book, tasks = book_of({"full": {"kind": "full"}}, tmp_path)
    task = tasks.get("fundus", 0)
    _, fitted = arms.Trainings(Cell(plan, "fundus", "full", None, 0), task, book).run(1e-3)
    tensors = {name: p.detach() for name, p in fitted.dense.trained.items()}
    kept_all = Arm(kind="revert", of="full")
    whole = fitted.predict(task.data.val).probabilities
    kept = runner.revert(task, tensors, task.backbone.count, kept_all).predict(task.data.val).probabilities
    none = runner.revert(task, tensors, 1, kept_all).predict(task.data.val).probabilities
    np.testing.assert_allclose(kept, whole, atol=1e-5)  # θ0 + (θ − θ0) is θ but for rounding
    assert np.abs(none - whole).max() > 1e-4


def test_the_last_epochs_are_averaged(tmp_path):
    """Against training by hand, where each epoch's values and head are added up."""
    settings = {"training": {"epochs": 4, "batch_size": 8, "head_lr": 1e-2}}
    plan, book, tasks = book_of({"mean": {"kind": "sparse", "images": 8, "average": 3}}, tmp_path, **settings)
    task, cell = tasks.get("fundus", 0), Cell(plan, "fundus", "mean", 40, 0)
    trial, fitted = arms.Trainings(cell, task, book).run(1e-2)
    delta = SparseDelta.zeros(task.backbone, book.support(cell), task.probe)
    values, weight, bias = (torch.zeros_like(t) for t in (delta.values, delta.head.weight, delta.head.bias))

    def add(checkpoint):
        if checkpoint.history[-1].epoch > 1:
            values.add_(checkpoint.values / 3)
            weight.add_(checkpoint.head.weight / 3)
            bias.add_(checkpoint.head.bias / 3)

    options = {"epochs": 4, "batch_size": 8, "lr": 1e-2, "head_lr": 1e-2}
    list(finetune(task.backbone, delta, task.data, on_checkpoint=add, **options))
    best = arms.applied(task, delta, Feed(task.backbone)).predict(task.data.val).probabilities
    delta.values, delta.head = values, Head(weight, bias)
    mean = arms.applied(task, delta, Feed(task.backbone)).predict(task.data.val).probabilities
    np.testing.assert_allclose(fitted.predict(task.data.val).probabilities, mean, atol=1e-5)
    assert np.abs(mean - best).max() > 1e-4
    assert trial.val_loss == pytest.approx(refinement_loss(mean, task.data.val.labels), abs=1e-5)
    assert trial.val_loss != pytest.approx(trial.best.val_loss, abs=1e-4)  # rates are chosen by what is kept


@pytest.mark.parametrize("setting", [{"refit_head": True}, {"views": 2}])
def test_rates_are_chosen_by_the_loss_of_what_is_kept(tmp_path, setting):
    arm = {"kind": "sparse", "images": 8, **setting}
    plan, book, tasks = book_of({"own": arm}, tmp_path, training={"epochs": 2, "batch_size": 8, "head_lr": 1e-2})
    task, cell = tasks.get("fundus", 0), Cell(plan, "fundus", "own", 40, 0)
    trial, fitted = arms.Trainings(cell, task, book).run(1e-2)
    assert trial.val_loss == refinement_loss(fitted.predict(task.data.val).probabilities, task.data.val.labels)
    assert trial.val_loss != pytest.approx(trial.best.val_loss, abs=1e-4)


@pytest.mark.skipif(find_spec("peft") is None, reason="the optional package peft is not installed")
def test_lora_is_trained_and_counted(tmp_path):
    plan, book, tasks = book_of({"lora": {"kind": "lora", "rank": 2}}, tmp_path)
    task = tasks.get("fundus", 0)
    before = state(task.backbone)
    trial, fitted = arms.Trainings(Cell(plan, "fundus", "lora", None, 0), task, book).run(1e-2)
    qkv = [info for info in task.backbone.weight_infos("matrices") if "qkv" in info.name]
    assert fitted.trained == sum(2 * sum(info.shape) for info in qkv)
    assert len(trial.history) == 2
    assert_unchanged(task.backbone, before)
    start = arms.probed(task).predict(task.data.val).probabilities
    assert np.abs(fitted.predict(task.data.val).probabilities - start).max() > 1e-4


def test_an_arm_may_train_to_the_last_epoch(tmp_path):
    """The losses are the same until the one that has patience stops."""
    full = {"kind": "full", "lr": [0.1]}
    settings = {"epochs": 6, "patience": 1, "batch_size": 8}
    both = plan_of({"stops": full, "goes on": full | {"patience": 0}}, seeds=[0], training=settings)
    stopped, whole = runner.run(both, tmp_path, only=["fundus/*"]).trials().values()
    assert len(stopped["history"]) < 6
    assert len(whole["history"]) == whole["epochs"] == 6
    assert whole["history"][: stopped["epochs"]] == stopped["history"]
    assert whole["val_loss"] <= stopped["val_loss"]
