"""The schema of a comparison: keys tell what determines a cell, and plans that make no sense are refused."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from shpeft.compare import Plan
from shpeft.compare.plan import Cell
from shpeft.compare.table import pack, unpack
from shpeft.errors import ConfigError
from shpeft.evaluation import Predictions

from .comparisons import SETTING, plan_of


def test_stored_predictions_name_no_case(tmp_path):
    p = np.array([[0.25, 0.75], [0.5, 0.5]])
    before = Predictions(("scan-of-a.png", "b"), (1, 0), ("patient 7", "patient 7"), ("no", "yes"), p)
    data = pack(before)
    after = unpack(data)
    assert b"scan-of-a" not in data
    assert after.ids == ("0", "1")
    assert after.groups[0] == after.groups[1] != "patient 7"
    assert (after.labels, after.classes) == (before.labels, before.classes)
    assert np.array_equal(after.probabilities, p)


def test_keys_tell_what_determines_a_cell():
    def key(arm, **changes):
        return Cell(plan_of({"a": arm}, **changes), "fundus", "a", 40, 0).key

    base = {"kind": "sparse", "images": 8}
    assert key(base) == key(base, report={"margin": 0.02})
    assert key(base) == Cell(plan_of({"renamed": base}), "fundus", "renamed", 40, 0).key
    others = [
        key(base | {"lam": 0.1, "formula": "sum"}),
        key(base | {"eps": 1e-6}),
        key(base | {"lr": [1e-3, 2e-3]}),
        key(base, seeds=[1, 0]),
        key(base, images_per_class={"train": 5}),
        key(base, training={"epochs": 3, "batch_size": 8}),
    ]
    assert len({key(base), *others}) == len(others) + 1


def test_rates_may_be_given_for_each_budget():
    """A cell's key is that of the same rates given for all budgets, also after the plan was written and read."""
    product = {"a": {"kind": "sparse"}}
    plan = plan_of(product, budgets=[1e-4, 40], grids={"sparse": {1e-4: [1e-3, 1e-2], 40: [1e-2, 1e-1]}})
    again = Plan.parse(yaml.safe_load(plan.to_yaml()))
    plain = plan_of(product, budgets=[40], grids={"sparse": [1e-2, 1e-1]})
    assert [cell.key for cell in again.cells()] == [cell.key for cell in plan.cells()]
    assert {cell.key for cell in plan.cells()} >= {cell.key for cell in plain.cells()}


def test_an_arm_names_only_the_rates_that_are_its_own():
    grids = {"sparse": {1e-4: [1e-3, 1e-2], 40: [1e-2, 1e-1]}}
    plan = plan_of({"a": {"kind": "sparse", "lr": {40: [1e-1, 1.0]}}}, budgets=[1e-4, 40], grids=grids)
    assert [plan.grid(plan.arms["a"], budget) for budget in plan.budgets] == [(1e-3, 1e-2), (1e-1, 1.0)]
    with pytest.raises(ConfigError, match=r"no learning rates for kind sparse at 40: give grids\.sparse"):
        plan_of({"a": {"kind": "sparse"}}, grids={"sparse": {1e-4: [1e-3, 1e-2]}})


def test_settings_of_an_arm_are_as_good_as_the_plans():
    """Cells are known again however their settings are given, so tables can be taken over."""
    settings = {"epochs": 4, "patience": 2, "head_lr": 1e-3, "precision": "bfloat16"}
    own = plan_of({"a": {"kind": "full", **settings}})
    common = plan_of({"a": {"kind": "full"}}, training=SETTING["training"] | settings)
    assert own.settings(own.arms["a"]) == common.training
    assert [cell.key for cell in own.cells()] == [cell.key for cell in common.cells()]
    assert own.cells()[0].trial_key(1e-3) == common.cells()[0].trial_key(1e-3)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "full"}}, "unfair: a 1, b 2"),
        (
            {"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "sparse", "lr": [1e-3]}},
            "a and b are the same|b and a",
        ),
        ({"a": {"kind": "revert", "of": "b"}}, "refers to 'b'"),
        ({"a": {"kind": "sparse", "score": "hybird"}}, "hybird"),
        ({"a": {"kind": "sparse", "reselect_after": 2}}, "training is over"),
        ({"a": {"kind": "sparse", "lambda": 0.3}}, "no such setting"),
        ({"a": {"kind": "sparse", "lr": {1e-4: [1e-3, 1e-2]}}}, r"rates at 0\.0001; its budgets are 40"),
        ({"a": {"kind": "sparse", "budgets": [1, 2], "lr": {1: [1e-3], 2: [1e-3, 1e-2]}}}, "unfair: a 1, a 2"),
        ({"a": {"kind": "full", "average": 2}}, "'average' is for the kinds head and sparse, not full"),
        ({"a": {"kind": "full", "lr": {40: [1e-3]}}}, "rates at 40; it has no budgets"),
    ],
)
def test_plans_that_make_no_sense_are_refused(wanted, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(wanted)


def test_a_problem_of_the_whole_plan_is_told_without_printing_it():
    with pytest.raises(ConfigError) as error:
        plan_of({"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "full"}})
    assert str(error.value).splitlines()[1:] == [
        "- arms try different numbers of learning rates, which is unfair: a 1, b 2"
    ]


def test_another_task_is_needed_for_a_consensus():
    with pytest.raises(ConfigError, match="only one"):
        plan_of({"a": {"kind": "sparse", "score": "consensus"}}, datasets={"one": {"source": "phantom:fundus"}})


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "results").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_plans_that_ship_are_valid(path):
    plan = Plan.from_yaml(path)
    keys = [cell.key for cell in plan.cells()]
    assert len(set(keys)) == len(keys)
    assert plan.report.method in plan.arms
    assert not any(Path(dataset.source).is_absolute() for dataset in plan.datasets.values())
