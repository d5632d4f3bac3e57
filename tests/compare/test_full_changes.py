"""Sparse training of the weights that full fine-tuning changes most: which they are, and that it starts from θ0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shpeft import compare, equations
from shpeft.compare import Plan, Table
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.report.failure_section import failure_section
from shpeft.compare.running.dense_weights import DenseWeights, chosen_rate, rate_of
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.compare.running.training import probe_model
from shpeft.errors import ConfigError, RunError
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import Support
from tests.conftest import assert_unchanged, state
from tests.helpers.comparison_tables import plan_of

ORACLE: dict[str, Any] = {"kind": "sparse", "agnostic": "change", "of": "full", "expectation": "all"}
ARMS: dict[str, Any] = {  # the arms that need the changes stand before the arm that makes them
    "by change and gradient": ORACLE,
    "by change": {"kind": "sparse", "score": "change", "of": "full"},
    "by change, own steps": ORACLE | {"lr_scale": "sensitivity"},
    "like the oracle": {"kind": "sparse", "score": "random", "like": "by change and gradient"},
    "still": ORACLE | {"lr": [1e-12, 1e-13], "head_lr": 1e-12},
    "revert": {"kind": "revert", "of": "full", "budgets": [40]},
    "full": {"kind": "full", "scope": "matrices", "lr": [1e-3, 1e-2]},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Table]:
    plan = plan_of(ARMS)
    return plan, compare.run(plan, tmp_path_factory.mktemp("changes"))


def cells_of(plan: Plan, arm: str) -> list[Cell]:
    return [cell for cell in list_cells(plan) if cell.arm == arm]


def flat(support: Support, scores: Scores) -> torch.Tensor:
    """Return where the support is in the concatenation of all scored weights, (k,)."""
    starts = dict(zip([i.name for i in scores.infos], np.cumsum([0, *(i.numel for i in scores.infos)]), strict=False))
    return torch.cat([index + int(starts[name]) for name, index in support.indices.items()])


def test_every_arm_is_finished_whatever_the_order(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    records = table.cells()
    assert {cell.key for cell in list_cells(plan)} == set(records)
    assert {record["status"] for record in records.values()} == {"finished"}
    trained = {record["arm"]: record["trained"] for record in records.values()}
    assert {trained[arm] for arm in ARMS if arm != "full"} == {40}


def test_the_oracle_selects_the_largest_products_of_change_and_gradient(filled: tuple[Plan, Table]) -> None:
    """As by autograd: Δw from the weights after full fine-tuning, g of the mean loss of all training images at θ0."""
    plan, table = filled
    tasks = Tasks(plan, ".")
    cell = cells_of(plan, "by change and gradient")[0]
    task = tasks.get(cell.dataset, cell.seed)
    before = state(task.backbone)
    cache = ScoreCache(tasks, table)
    scores = cache.scores(plan.arms[cell.arm], cell.dataset, cell.seed)
    assert cell.dense_cell is not None
    tensors = DenseWeights(table).read(cell.dense_cell)
    twin = task.backbone.copy()
    task.probe.write(twin)
    (inputs, target) = next(iter(task.forward_pass(twin, ["patch_embed.proj.weight"]).batches(task.data.train, 100)))
    assert len(target) == len(task.data.train)
    task.data.task.loss(twin(inputs), target).backward()
    literal = []
    for info in scores.infos:
        p = twin.parameters[info.name]
        assert p.grad is not None
        literal.append(((tensors[info.name] - p.detach()) * p.grad).abs().reshape(-1))
        torch.testing.assert_close(scores.values[info.name].reshape(-1), literal[-1], rtol=1e-3, atol=1e-9)
    own = torch.cat([scores.values[info.name].reshape(-1) for info in scores.infos])
    assert torch.equal(flat(cache.support(cell), scores), equations.top_k(own, 40))
    by_change = cells_of(plan, "by change")[0]
    change = cache.scores(plan.arms["by change"], cell.dataset, cell.seed)
    assert not torch.equal(flat(cache.support(by_change), change), flat(cache.support(cell), scores))
    assert_unchanged(task.backbone, before)


def test_by_change_alone_the_weights_are_those_that_reverting_keeps(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    tasks = Tasks(plan, ".")
    cell = cells_of(plan, "by change")[0]
    backbone = tasks.get(cell.dataset, cell.seed).backbone
    cache = ScoreCache(tasks, table)
    assert cell.dense_cell is not None
    tensors = DenseWeights(table).read(cell.dense_cell)
    infos = backbone.weight_infos("matrices")
    change = torch.cat([(tensors[i.name] - backbone.parameters[i.name].detach()).abs().reshape(-1) for i in infos])
    scores = cache.scores(plan.arms[cell.arm], cell.dataset, cell.seed)
    assert torch.equal(flat(cache.support(cell), scores), equations.top_k(change, 40))
    everywhere = DenseWeights(table).changes(cell.dense_cell, backbone, scope="all")
    assert not everywhere.values["pos_embed"].any()  # what full fine-tuning left alone has not changed
    squared = DenseWeights(table).changes(cell.dense_cell, backbone, "l2", "all")
    name = infos[0].name
    assert torch.equal(squared.values[name], everywhere.values[name].square())


def test_training_begins_at_the_pretrained_weights(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    cell = cells_of(plan, "still")[0]
    task = Tasks(plan, ".").get(cell.dataset, cell.seed)
    probe = probe_model(task).predict(task.data.test).probabilities
    np.testing.assert_allclose(table.predictions(cell.key).probabilities, probe, atol=1e-6)
    others = [table.predictions(cells_of(plan, arm)[0].key).probabilities for arm in ("by change", "revert")]
    assert np.abs(others[0] - probe).max() > 1e-4
    assert np.abs(others[0] - others[1]).max() > 1e-4


def test_a_control_has_the_oracle_s_counts(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    cache = ScoreCache(Tasks(plan, "."), table)
    oracle, control = (cache.support(cells_of(plan, arm)[0]) for arm in ("by change and gradient", "like the oracle"))
    assert oracle.counts() == control.counts()


def test_weights_that_are_gone_are_trained_again(filled: tuple[Plan, Table], tmp_path: Path) -> None:
    """As in a table whose cache was emptied; without the cell of full fine-tuning the message says what to do."""
    plan, table = filled
    cell = cells_of(plan, "by change")[0]
    assert cell.dense_cell is not None
    again = Table(tmp_path)
    with pytest.raises(RunError, match=r"fundus, seed 0, full are not in the cache.*Run `shpeft compare` again"):
        DenseWeights(again).read(cell.dense_cell)
    again.copy_cells(table, [cell.dense_cell.key])
    assert chosen_rate(cell.dense_cell, again) == chosen_rate(cell.dense_cell, table)
    compare.run(plan, tmp_path, only=["fundus/by change/0"])
    assert np.array_equal(again.predictions(cell.key).probabilities, table.predictions(cell.key).probabilities)


def test_a_key_covers_the_training_whose_changes_count() -> None:
    def key(full: dict[str, Any], name: str = "full", arm: str = "a") -> str:
        arms = {"a": ORACLE | {"of": name}, name: full, "b": {"kind": "sparse", "score": "random", "like": "a"}}
        return Cell(plan_of(arms), "fundus", arm, 40, 0).key

    full = {"kind": "full"}
    for arm in ("a", "b"):
        assert key(full, arm=arm) == key(full, "renamed", arm)
        assert (
            len({key(full, arm=arm), key(full | {"epochs": 3}, arm=arm), key(full | {"lr": [1e-3, 1]}, arm=arm)}) == 3
        )
    assert key(full) != Cell(plan_of({"a": {"kind": "sparse", "expectation": "all"}}), "fundus", "a", 40, 0).key


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"score": "change"}, "by the changes of no arm: give 'of', an arm of kind full"),
        ({"agnostic": "change", "of": "probe"}, "by the changes of no arm"),
        ({"of": "full"}, "'of' is for kind revert, and for the score or the agnostic half 'change'"),
        ({"score": "gradient", "agnostic": "change", "of": "full"}, "'of' is for kind revert"),
        ({"score": "gradient", "agnostic": "change"}, "agnostic change, which is for sparse arms of score hybrid"),
        ({"score": "change", "of": "full", "reselect_after": 1}, "which are the same when it selects again"),
    ],
)
def test_arms_that_make_no_sense_are_refused(arm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of({"a": {"kind": "sparse", **arm}, "full": {"kind": "full"}, "probe": {"kind": "probe"}})


@pytest.mark.parametrize(
    ("full", "reason"),
    [
        ({"keep_start": True, "lr": [1.0, 2.0], "head_lr": 100.0}, "has none: the linear probe had the lower"),
        ({"lr": [1e30, 1e31]}, "diverged"),
    ],
)
def test_without_changes_nothing_is_selected_and_the_report_says_why(
    full: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Scores that are all 0 would select the first weights of the model."""
    arms = {
        "product": {"kind": "sparse", "images": 8},
        "full": {"kind": "full"} | full,
        "oracle": ORACLE,
        "like it": {"kind": "sparse", "score": "random", "like": "oracle"},
    }
    plan = plan_of(arms, report={"method": "product"})
    table = compare.run(plan, tmp_path, only=["fundus/*"])
    records = [table.cells()[cell.key] for cell in list_cells(plan) if cell.dataset == "fundus"]
    failed = [record for record in records if record["arm"] in ("oracle", "like it")]
    assert [record["seed"] for record in failed] == [0, 0, 1, 1]
    assert {record["status"] for record in failed} == {"failed"}
    assert all(reason in record["failure"] for record in failed)
    text = failure_section(Bootstrap(Results(plan, table, ("fundus",)), resamples=10), ())
    assert "- Not trained, because " in text
    assert reason in text
    assert "seed 0, full', whose changes count" in text
    assert "like it on fundus, seed 1; oracle on fundus, seed 1" in text


def test_a_single_rate_needs_no_cell_that_chooses_it() -> None:
    """One seed without changes takes the oracle of no other seed along."""
    for rates in ([1e-2], [1e-3, 1e-2]):
        plan = plan_of({"full": {"kind": "full", "lr": rates}, "oracle": ORACLE | {"lr": rates}})
        first, second = cells_of(plan, "oracle")[0], Cell(plan, "fundus", "oracle", 40, 1)
        assert second.tuning_cells == [first]
        assert rate_of(second, {}) is None
        assert rate_of(second, {first.key: {"status": "failed"}}) == (Rate(1e-2) if len(rates) == 1 else None)
        assert rate_of(second, {first.key: {"status": "finished", "lr": 1e-3}}) == Rate(1e-3)


def test_a_control_has_gradients_of_the_weights_that_its_arm_may_select(tmp_path: Path) -> None:
    arms = {
        "wide": {"kind": "sparse", "scope": "all", "score": "gradient", "images": 8},
        "like": {"kind": "sparse", "score": "random", "like": "wide", "lr_scale": "sensitivity", "images": 8},
    }
    plan = plan_of(arms)
    cell, cache = cells_of(plan, "like")[0], ScoreCache(Tasks(plan, "."), Table(tmp_path))
    support = cache.support(cell)
    assert "cls_token" in support.indices
    assert cache.squared_gradients(cell, support).shape == (40,)


def test_pooled_rates_wait_for_all_changes(tmp_path: Path) -> None:
    """A cell that tunes for all needs the changes of every cell that it trains."""
    arms = {"oracle": ORACLE, "full": {"kind": "full"}}
    plan = plan_of(arms, tune="pooled", tune_seeds=[0], seeds=[1], training={"epochs": 1, "batch_size": 8})
    records = compare.run(plan, tmp_path).cells()
    assert len(records) == 4
    assert {record["status"] for record in records.values()} == {"finished"}
