"""The schema of a comparison refuses plans that make no sense."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shpeft.compare import Plan
from shpeft.compare.cells import list_cells
from shpeft.compare.running.task import Tasks
from shpeft.errors import ConfigError
from tests.helpers.comparison_tables import plan_of


def test_an_arm_names_only_the_rates_that_are_its_own() -> None:
    grids = {"sparse": {1e-4: [1e-3, 1e-2], 40: [1e-2, 1e-1]}}
    plan = plan_of({"a": {"kind": "sparse", "lr": {40: [1e-1, 1.0]}}}, budgets=[1e-4, 40], grids=grids)
    assert [plan.grid(plan.arms["a"], budget) for budget in plan.budgets] == [(1e-3, 1e-2), (1e-1, 1.0)]
    with pytest.raises(ConfigError, match=r"no learning rates for kind sparse at 40: give grids\.sparse"):
        plan_of({"a": {"kind": "sparse"}}, grids={"sparse": {1e-4: [1e-3, 1e-2]}})


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "full"}}, "unfair: a 1, b 2"),
        (
            {"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "sparse", "lr": [1e-3]}},
            "a and b are the same|b and a",
        ),
        ({"a": {"kind": "revert", "of": "b"}}, "refers to 'b'"),
        ({"a": {"kind": "sparse", "score": "hybird"}}, "hybird"),
        ({"a": {"kind": "sparse", "reselect_after": 2}}, "training is over"),
        ({"a": {"kind": "sparse", "score": "random", "reselect_after": 1, "epochs": 3}}, "a has score random, and wei"),
        ({"a": {"kind": "sparse", "gradients": "shuffled", "reselect_after": 1, "epochs": 3}}, "a has gradients shuff"),
        ({"a": {"kind": "sparse", "lambda": 0.3}}, "no such setting"),
        ({"a": {"kind": "sparse", "lr": {1e-4: [1e-3, 1e-2]}}}, r"rates at 0\.0001; its budgets are 40"),
        ({"a": {"kind": "sparse", "budgets": [1, 2], "lr": {1: [1e-3], 2: [1e-3, 1e-2]}}}, "unfair: a 1, a 2"),
        ({"a": {"kind": "full", "average": "last_half"}}, "last_half"),
        ({"a": {"kind": "full", "lr": {40: [1e-3]}}}, "rates at 40; it has no budgets"),
    ],
)
def test_plans_that_make_no_sense_are_refused(arms: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(arms)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"kind": "full", "heads": "cross-fitted"}, "a is of kind full and gives heads"),
        ({"kind": "head", "count_exponent": 0.0}, "a is of kind head and gives count_exponent"),
        ({"score": "random", "like": "b", "count_exponent": 1.0}, "a has the counts of b and gives count_exponent"),
        ({"score": "step"}, "a has score step and step_size None"),
        ({"step_size": 0.1}, "a has score hybrid and step_size 0.1"),
        ({"score": "step", "step_size": 0}, "step_size"),
        ({"score": "step", "step_size": 0.1, "expectation": "all"}, "leave expectation, reselect_after and lr_scale"),
        ({"score": "step", "step_size": 0.1, "reselect_after": 1}, "leave expectation, reselect_after and lr_scale"),
        ({"score": "step", "step_size": 0.1, "lr_scale": "sensitivity"}, "leave expectation, reselect_after and lr"),
        ({"score": "wanda", "heads": "cross-fitted"}, "a has score wanda, for which no gradient"),
        ({"heads": "cross-fitted"}, "give expectation all or image"),
        (
            {"heads": "cross-fitted", "score": "step", "step_size": 0.1, "prune_from": 0.1},
            "prunes by squared gradients of batches",
        ),
        ({"heads": "cross-fitted", "expectation": "all", "reselect_after": 1}, "no head leaves any out"),
        ({"score": "step", "step_size": 0.1, "count_exponent": 1.0}, "leave score step, formula quota"),
        ({"formula": "quota", "count_exponent": 1.0}, "leave score step, formula quota"),
        ({"order": "smallest", "count_exponent": 1.0}, "leave score step, formula quota"),
        ({"spread": "row", "count_exponent": 1.0}, "leave score step, formula quota"),
        ({"count_exponent": -1.0}, "count_exponent"),
    ],
)
def test_selections_that_cannot_be_are_refused(arm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of({"a": {"kind": "sparse"} | arm, "b": {"kind": "sparse", "lam": 0.1}})


def test_selections_that_can_be_are_not_refused() -> None:
    crossed = {"kind": "sparse", "heads": "cross-fitted"}
    arms = [
        crossed | {"expectation": "all"},
        crossed | {"expectation": "image", "gradients": "shuffled"},
        crossed | {"score": "step", "step_size": 0.1, "gradients": "other"},
        crossed | {"score": "consensus", "expectation": "all", "count_exponent": 0.0},
        {"kind": "sparse", "count_exponent": 1.0, "score": "gradient", "formula": "quota"},
    ]
    plan = plan_of({str(number): arm for number, arm in enumerate(arms)})
    assert len({cell.key for cell in list_cells(plan)}) == len(list_cells(plan))


def test_a_problem_of_the_whole_plan_is_reported_without_printing_the_plan() -> None:
    with pytest.raises(ConfigError) as error:
        plan_of({"a": {"kind": "sparse", "lr": [1e-3]}, "b": {"kind": "full"}})
    assert str(error.value).splitlines()[1:] == [
        "- arms try different numbers of learning rates, which is unfair: a 1, b 2"
    ]


def test_the_size_of_a_dataset_s_images_is_its_own(tmp_path: Path) -> None:
    probe = {"probe": {"kind": "probe"}}
    common, own = plan_of(probe), plan_of(probe, image_sizes={"fundus": 48})
    changed = {c.dataset for c, d in zip(list_cells(common), list_cells(own), strict=True) if c.key != d.key}
    assert changed == {"fundus"}
    assert own.input_sizes == "32 px (fundus 48 px)"
    pooled = [plan_of(tune="pooled", image_sizes=sizes) for sizes in ({}, {"fundus": 48})]
    keys = [{c.key for c in list_cells(plan) if c.dataset == "ultrasound" and c.arm == "full"} for plan in pooled]
    assert not keys[0] & keys[1]  # the rate that all datasets choose is another one
    tasks = Tasks(own, tmp_path)
    assert [tasks.get(name, 0).backbone.image_size for name in ("fundus", "ultrasound")] == [48, 32]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_sizes": {"fundas": 48}}, "image_sizes names 'fundas'; the datasets are fundus, ultrasound"),
        ({"image_sizes": {"fundus": "wide"}}, "neither the side of a square"),
        (
            {"image_sizes": {"fundus": 48}, "arms": {"a": {"kind": "sparse", "gradients": "other"}}},
            "gradients of datasets with images of one size",
        ),
        ({"arms": {"a": {"kind": "bitfit", "initial_head": "random"}}}, "initial_head random is for kind full"),
        ({"arms": {"a": {"kind": "full", "initial_head": "random", "wise": 0.5}}}, "without 'wise'"),
    ],
)
def test_sizes_and_heads_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(**changes)


def test_a_consensus_needs_another_task() -> None:
    with pytest.raises(ConfigError, match="only one"):
        plan_of({"a": {"kind": "sparse", "score": "consensus"}}, datasets={"one": {"source": "phantom:fundus"}})


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "results").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_plans_that_ship_are_valid(path: Path) -> None:
    plan = Plan.from_yaml(path)
    keys = [cell.key for cell in list_cells(plan)]
    assert len(set(keys)) == len(keys)
    assert plan.report.method in plan.arms
    assert not any(Path(dataset.source).is_absolute() for dataset in plan.datasets.values())


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"kind": "better"}, "needs 'than': an arm, or 'baseline'"),
        ({"kind": "not_worse", "than": "fulll"}, "a question names 'fulll'; the arms are full"),
        ({"kind": "best", "than": "full"}, "kind"),
    ],
)
def test_questions_that_make_no_sense_are_refused(question: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of({"full": {"kind": "full"}}, report={"questions": [question]})


def test_questions_change_no_key_and_older_plans_open() -> None:
    """The gain that a method should reach was a setting of the report before it was one of a question."""
    arms = {"full": {"kind": "full"}}
    asked = plan_of(arms, report={"questions": [{"kind": "better", "than": "baseline", "by": 0.02}]})
    older = plan_of(arms, report={"gain": 0.02})
    assert older.report == plan_of(arms).report
    assert [cell.key for cell in list_cells(asked)] == [cell.key for cell in list_cells(older)]


def test_sparse_arms_have_the_plan_s_scope_unless_they_name_their_own() -> None:
    arms: dict[str, Any] = {
        "full": {"kind": "full"},
        "default": {"kind": "sparse"},
        "all": {"kind": "sparse", "scope": "matrices"},
        "like": {"kind": "sparse", "score": "random", "like": "all"},
    }
    plan = plan_of(arms, scope="last:2")
    assert {name: arm.scope for name, arm in plan.arms.items()} == {
        "full": "",
        "default": "last:2",
        "all": "matrices",
        "like": "",
    }
    named = plan_of(arms | {"default": {"kind": "sparse", "scope": "last:2"}})
    assert [cell.key for cell in list_cells(plan)] == [cell.key for cell in list_cells(named)]
    assert Plan.parse(yaml.safe_load(plan.to_yaml())) == plan
    with pytest.raises(ConfigError, match="scope"):
        plan_of(arms, scope="first:2")
