"""Several numbers of training images a class: cells of each as if it were planned alone, and results side by side."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shpeft import compare
from shpeft.compare import Plan
from shpeft.compare.analysis.results import Results, results_by_task
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.cost import CostEstimate
from shpeft.errors import ConfigError, RunError
from tests.helpers.comparison_tables import SETTING, made_up, plan_of, planned

pytestmark = pytest.mark.usefixtures("no_browser")

ARMS: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "product": {"kind": "sparse", "images": 8},
    "full": {"kind": "full"},
    "reverted": {"kind": "revert", "of": "full", "budgets": [40]},
}


def capped(train: Any, arms: dict[str, Any] = ARMS, **changes: Any) -> Plan:
    datasets = {"fundus": SETTING["datasets"]["fundus"]}
    caps = {"train": train, "val": 2}
    return plan_of(arms, **{"datasets": datasets, "images_per_class": caps, "seeds": [0]} | changes)


def test_keys_are_those_of_plans_with_one_number() -> None:
    several, single = capped([3, 5], seeds=[0, 1]), [capped(number, seeds=[0, 1]) for number in (3, 5)]
    cells = list_cells(several)
    assert len({cell.key for cell in cells}) == len(cells) == 16
    for plan in single:
        number = plan.images_per_class.train
        assert [c.key for c in cells if c.images == number] == [c.key for c in list_cells(plan)]
    assert [(c.seed, c.images) for c in cells[::4]] == [(0, 3), (0, 5), (1, 3), (1, 5)]
    assert cells[1].title == "fundus with 3 images a class, seed 0, product 40"
    assert list_cells(single[0])[1].title == "fundus, seed 0, product 40"
    tuner = cells[-1].tuning_cells[0]
    assert (tuner.images, tuner.seed, tuner.arm, tuner.several) == (5, 0, "full", True)
    assert list_cells(Plan.parse(yaml.safe_load(several.to_yaml()))) == cells


def test_a_plan_of_several_numbers_fills_what_single_ones_would(tmp_path: Path) -> None:
    several = capped([3, 5])
    table = compare.run(several, tmp_path / "several")
    for plan in (capped(3), capped(5)):
        alone = compare.run(plan, tmp_path / f"{plan.images_per_class.train}")
        pairs = [(alone.cells()[cell.key], table.cells()[cell.key]) for cell in list_cells(plan)]
        assert len(pairs) == 4
        for expected, record in pairs:
            assert record["images_per_class"] == plan.images_per_class.train
            assert record["cases"] == expected["cases"]
            assert record["cases"]["train"] == 3 * record["images_per_class"]
            assert (record["log_loss"], record["data"]) == (expected["log_loss"], expected["data"])
    copy = compare.run(several, tmp_path / "copy", reuse=tmp_path / "several")
    assert copy.cells() == table.cells()
    text = compare.write_report(several, table.folder, resamples=50).read_text()
    lead = text.split("## By the number of training images")[1].split("\n## ")[0]
    assert "| arm | 3 a class | 5 a class |" in lead
    assert "| reverted, 40 weights |" in lead
    assert "5 training images a class" in text


def test_results_are_read_for_each_number(tmp_path: Path) -> None:
    plan = planned(arms={"probe": {"kind": "probe"}, "good": {"kind": "sparse"}}, questions=[])
    several = Plan.parse(plan.model_dump() | {"images_per_class": {"train": [5, 80]}})
    table = made_up(tmp_path, several.by_images[1])
    with pytest.raises(RunError, match="several numbers of training images"):
        Results(several, table)
    [results] = results_by_task(several, table)  # nothing is finished with 5 yet
    assert results.images == 80
    assert results.heading.endswith("80 training images a class")
    assert results_by_task(several.by_images[1], table)[0].images is None


def test_costs_are_of_the_number_of_images() -> None:
    cells = [cell for cell in list_cells(capped([3, 5])) if cell.arm == "full"]
    costs = CostEstimate(1.0)
    for cell in cells:
        costs.set_cases(cell, {"train": 3 * (cell.images or 0), "val": 6, "test": 12})
    few, more = (costs.passes(cell) for cell in cells)
    assert few < more


@pytest.mark.parametrize("numbers", [[5], [5, 5], [10, 5], [0, 5]])
def test_numbers_that_do_not_rise_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ConfigError, match="images_per_class"):
        capped(numbers)


def test_what_has_one_number_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlaps compare supports for one number"):
        capped([3, 5], overlaps={"arms": ["product"]})
    with pytest.raises(ValueError, match=r"take one of plan\.by_images"):
        Cell(capped([3, 5]), "fundus", "probe", None, 0)
