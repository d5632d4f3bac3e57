"""Arms that begin with more weights and prune them: what they train in the end, and which plans are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell
from shpeft.compare.running import training
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.errors import ConfigError, SelectionError
from tests.helpers.comparison_tables import plan_of

PRUNED: dict[str, Any] = {"kind": "sparse", "expectation": "all", "prune_from": 0.01}


def test_a_pruning_arm_ends_with_its_budget(tmp_path: Path) -> None:
    arms = {"pruned": PRUNED, "pruned, own steps": PRUNED | {"lr_scale": "sensitivity"}, "usual": {"kind": "sparse"}}
    settings = {"epochs": 4, "batch_size": 8, "average": "last_quarter", "keep_start": True}
    plan = plan_of(arms, seeds=[0], training=settings)
    table = compare.run(plan, tmp_path)
    records = list(table.cells().values())
    assert [record["status"] for record in records] == ["finished"] * 6
    assert {record["trained"] for record in records} == {40}
    memory = {record["arm"]: record["memory"] for record in records}
    assert memory["pruned"] > memory["usual"] + 12 * 2000  # it begins with 3,001 weights
    keys = {Cell(plan, "fundus", arm, 40, 0).key for arm in arms}
    assert len(keys) == 3
    tasks = Tasks(plan, ".")
    cell, task = Cell(plan, "fundus", "pruned", 40, 0), tasks.get("fundus", 0)
    trainings = training.Trainings(cell, task, ScoreCache(tasks, table))
    assert trainings.support.k == round(0.01 * task.backbone.weight_count)
    _, fitted = trainings.run(Rate(table.cells()[cell.key]["lr"]))
    assert fitted is not None
    np.testing.assert_array_equal(
        fitted.predict(task.data.test).probabilities.astype(np.float32), table.predictions(cell.key).probabilities
    )


def test_more_must_be_pruned_than_remain(tmp_path: Path) -> None:
    plan = plan_of({"pruned": PRUNED | {"prune_from": 1e-4, "budgets": [40]}}, seeds=[0])  # 30 weights
    with pytest.raises(SelectionError, match="from 30 to 40 weights"):
        compare.run(plan, tmp_path)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {"kind": "full", "prune_from": 0.1}}, "is for kind sparse"),
        ({"a": PRUNED | {"reselect_after": 1}}, "without 'reselect_after'"),
        ({"a": PRUNED | {"patience": 1}}, "patience may stop it there: give 0"),
        ({"a": PRUNED | {"epochs": 1}}, "give at least 2"),
        ({"a": PRUNED | {"epochs": 8, "average": 6}}, "averages 6 of 8 epochs"),
        ({"a": PRUNED | {"budgets": [0.01]}}, "from 0.01 to 0.01, which is not less"),
        ({"a": PRUNED | {"prune_from": 30}}, "from 30 to 40, which is not less"),
        ({"a": PRUNED, "b": {"kind": "sparse", "score": "random", "like": "a"}}, "a has no counts per layer"),
    ],
)
def test_pruning_that_makes_no_sense_is_refused(arms: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(arms)


def test_supports_that_pruning_leaves_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="its own after pruning"):
        plan_of({"a": PRUNED}, overlaps={"arms": ["a"]})
    settings = {"epochs": 8, "patience": 3, "batch_size": 8}
    assert plan_of({"a": PRUNED | {"patience": 0, "average": 5}}, training=settings).arms["a"].prune_from == 0.01
