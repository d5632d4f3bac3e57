"""Cell keys cover everything that a result depends on, and nothing else."""

from typing import Any

import yaml

from shpeft.compare import Plan
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell, list_cells
from tests.helpers.comparison_tables import SETTING, plan_of


def test_a_key_covers_what_determines_the_result() -> None:
    def key(arm: dict[str, Any], **changes: Any) -> str:
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


def test_rates_by_budget_give_the_same_keys_as_one_grid() -> None:
    """A cell's key is that of the same rates given for all budgets, also after the plan is written and read."""
    product = {"a": {"kind": "sparse"}}
    plan = plan_of(product, budgets=[1e-4, 40], grids={"sparse": {1e-4: [1e-3, 1e-2], 40: [1e-2, 1e-1]}})
    again = Plan.parse(yaml.safe_load(plan.to_yaml()))
    plain = plan_of(product, budgets=[40], grids={"sparse": [1e-2, 1e-1]})
    assert [cell.key for cell in list_cells(again)] == [cell.key for cell in list_cells(plan)]
    assert {cell.key for cell in list_cells(plan)} >= {cell.key for cell in list_cells(plain)}


def test_settings_of_an_arm_give_the_same_keys_as_settings_of_the_plan() -> None:
    settings = {"epochs": 4, "patience": 2, "head_lr": 1e-3, "precision": "bfloat16"}
    own = plan_of({"a": {"kind": "full", **settings}})
    common = plan_of({"a": {"kind": "full"}}, training=SETTING["training"] | settings)
    assert own.settings(own.arms["a"]) == common.training
    assert [cell.key for cell in list_cells(own)] == [cell.key for cell in list_cells(common)]
    assert list_cells(own)[0].trial_key(Rate(1e-3)) == list_cells(common)[0].trial_key(Rate(1e-3))


def test_a_key_covers_both_sides_of_an_image() -> None:
    """A square has the key of its side, however it is written."""

    def key(size: Any) -> str:
        backbone = SETTING["backbone"] | {"image_size": size}
        plan = plan_of({"a": {"kind": "sparse"}}, backbone=backbone)
        [cell] = list_cells(Plan.parse(yaml.safe_load(plan.to_yaml())))[:1]
        return cell.key

    assert key(32) == key("32x32") == key("32")
    assert len({key(32), key("32x64"), key("64x32")}) == 3
