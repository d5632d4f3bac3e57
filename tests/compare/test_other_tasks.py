"""A comparison of every task: each measured as its task is, and tasks with unlike measures never averaged."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare import Plan, Table
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results, describe_record, results_by_task
from shpeft.compare.cells import list_cells
from shpeft.compare.measures import MEASURES
from shpeft.compare.running.task import cap_classes, halve_training, load_splits
from shpeft.datasets import load_dataset
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation.by_task import at_temperature, fit_temperatures, metrics_of, replicates_of
from shpeft.evaluation.findings import finding_case_losses
from shpeft.tasks import read_task
from tests.helpers.comparison_tables import SETTING
from tests.helpers.finding_tables import write_findings

TASKS = ("single-label", "ordinal", "multi-label", "regression")

ARMS: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "head": {"kind": "head"},
    "full": {"kind": "full"},
    "product": {"kind": "sparse", "images": 8},
    "random": {"kind": "sparse", "score": "random"},
} | ({"LoRA": {"kind": "lora"}} if find_spec("peft") else {})


def datasets(folder: Path) -> dict[str, Any]:
    return {
        "fundus": {"source": "phantom:fundus?n=36&size=32"},
        "grades": {"source": "phantom:fundus?n=36&size=32", "task": "ordinal"},
        "findings": {"source": str(write_findings(folder / "findings", cases=36))},
        "diameter": {"source": "phantom:nodule?n=36&size=32", "task": "regression"},
    }


def plan_with(folder: Path, **changes: Any) -> Plan:
    usual = SETTING | {"datasets": datasets(folder), "arms": ARMS, "seeds": [0]}
    grids = {kind: [1e-3] for kind in SETTING["grids"]}
    return Plan.parse(usual | {"grids": grids, "training": {"epochs": 1, "batch_size": 8}} | changes)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Table]:
    folder = tmp_path_factory.mktemp("tasks")
    plan = plan_with(folder)
    return plan, compare.run(plan, folder / "table")


def records(plan: Plan, table: Table, dataset: str) -> list[dict[str, Any]]:
    finished = table.cells()
    return [finished[cell.key] for cell in list_cells(plan) if cell.dataset == dataset]


def test_every_arm_is_trained_and_measured_by_its_task(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    for name, task in zip(plan.datasets, TASKS, strict=True):
        for record in records(plan, table, name):
            assert record["status"] == "finished"
            assert read_task(record.get("task")).name == task
            assert set(MEASURES[task].every) <= set(record)
            stored = table.predictions(record["key"])
            assert stored.task == read_task(record.get("task"))
            measured = metrics_of(stored, resamples=0)
            main = MEASURES[task].main
            assert measured[main]["value"] == pytest.approx(record[main], rel=1e-5)


def test_a_cell_of_single_labels_has_the_parts_of_earlier_versions(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    cell = records(plan, table, "fundus")[0]
    assert "task" not in cell
    assert "task" not in table.arrays(cell["key"])
    assert "quadratic_kappa" not in cell


def test_temperatures_are_those_of_the_validation_images(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    for record in records(plan, table, "findings"):
        temperatures = fit_temperatures(table.validation(record["key"]))
        assert record["temperature"] == pytest.approx(temperatures, rel=1e-3)
        scaled = at_temperature(table.predictions(record["key"]), record["temperature"])
        loss = replicates_of(scaled, np.ones((1, len(scaled.labels))))["log_loss"][0]
        assert record["log_loss"] == pytest.approx(loss, rel=1e-4)
    assert all("temperature" not in record for record in records(plan, table, "diameter"))


def test_the_log_loss_of_findings_is_the_mean_over_the_known_ones(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    predictions = table.predictions(records(plan, table, "findings")[0]["key"])
    best = at_temperature(predictions, fit_temperatures(predictions))
    loss = replicates_of(best, np.ones((1, len(best.labels))))["log_loss"][0]
    assert loss == pytest.approx(finding_case_losses(predictions).mean(), rel=1e-6)  # every finding is known here


def test_unlike_measures_have_no_mean(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    with pytest.raises(RunError, match="unlike tasks"):
        Results(plan, table)
    groups = results_by_task(plan, table)
    assert [list(results.plan.datasets) for results in groups] == [[name] for name in plan.datasets]
    assert [results.metric for results in groups] == [MEASURES[task].main for task in TASKS]
    assert [results.scale(results.metric).unit for results in groups] == ["points", "points", "points", "mm"]
    numbers = groups[-1]
    assert numbers.heading == "A number an image, in mm"
    assert not numbers.missing
    assert numbers.baseline("mae") in numbers.of_kind("probe", "head")


def test_paired_differences_are_of_the_task_s_own_measure(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    bootstrap = Bootstrap(results_by_task(plan, table)[-1], 200)
    (comparison,) = [c for c in bootstrap.compare_all() if c.other.arm == "full"]
    by_arm = {record["arm"]: record for record in records(plan, table, "diameter")}
    assert comparison.mean.value == pytest.approx(by_arm["product"]["mae"] - by_arm["full"]["mae"], abs=1e-4)
    assert not comparison.mean.larger_is_better
    assert comparison.tost is None  # no margin in millimeters is given
    assert comparison.pooled.false_claim is None  # a number is neither right nor wrong
    low, high = comparison.mean.interval()
    assert low <= comparison.mean.value <= high


def test_the_report_has_each_task_by_itself(filled: tuple[Plan, Table], no_browser: None) -> None:
    plan, table = filled
    page = compare.write_report(plan, table.folder, resamples=100).read_text()
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "## One class an image",
        "## Ordered classes",
        "## Several findings an image",
        "## A number an image, in mm",
    ]
    numbers = page[page.index(headings[-1]) :]
    assert "mean absolute error" in numbers
    assert "in mm" in numbers
    for word in ("Log loss", "Brier", "accuracy"):
        assert word not in numbers
    appendix = (table.folder / "APPENDIX.md").read_text()
    numbers = appendix[appendix.index("## A number an image") :]
    for word in ("Calibration", "recall", "within", "False claim", "AUROC", "Log loss"):
        assert word not in numbers
    assert "## AUROC of each finding" in appendix
    rows = (table.folder / "table.csv").read_text().splitlines()
    assert len(rows) == 1 + len(table.cells())


def test_a_finished_cell_is_a_line_in_its_own_measures(filled: tuple[Plan, Table]) -> None:
    plan, table = filled
    record = records(plan, table, "diameter")[0]
    assert describe_record(record).startswith(f"mean absolute error {record['mae']:.2f} mm, ")
    assert describe_record(records(plan, table, "findings")[0]).startswith("macro AUROC ")


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        ({"questions": [{"kind": "better", "than": "full", "by": 0.02}]}, "Name the question's metric"),
        ({"questions": [{"kind": "not_worse", "than": "full"}]}, "margin_in_unit"),
        ({"questions": [{"kind": "better", "than": "full", "metric": "mcc"}]}, "does not have|do not have"),
        ({"pairs": {"diameter": ["a", "b"]}}, "no classes that exclude each other"),
    ],
)
def test_a_question_in_another_measure_is_refused(
    filled: tuple[Plan, Table], report: dict[str, Any], sentence: str
) -> None:
    plan, table = filled
    only = plan.model_copy(update={"datasets": {"diameter": plan.datasets["diameter"]}})
    asking = Plan.parse(only.model_dump(exclude_defaults=True) | {"report": report})
    with pytest.raises(RunError, match=sentence):
        Results(asking, table)


def test_a_question_in_millimeters_is_answered(filled: tuple[Plan, Table], no_browser: None, tmp_path: Path) -> None:
    plan, table = filled
    report = {
        "margin_in_unit": 20.0,
        "questions": [
            {"kind": "not_worse", "than": "full"},
            {"kind": "better", "than": "full", "by": 50.0, "metric": "mae"},
        ],
    }
    only = plan.model_copy(update={"datasets": {"diameter": plan.datasets["diameter"]}})
    asking = Plan.parse(only.model_dump(exclude_defaults=True) | {"report": report})
    compare.write_report(asking, table.folder, to=tmp_path, resamples=100)
    appendix = (tmp_path / "APPENDIX.md").read_text()
    assert "is its mean absolute error less than 20 mm above that of full" in appendix.lower()
    assert "at least 50 mm below that of full? | **no**" in appendix
    assert "within 20 mm?" in appendix


def test_a_size_of_one_or_more_needs_a_metric_in_a_unit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no fraction"):
        plan_with(tmp_path, report={"questions": [{"kind": "better", "than": "full", "by": 2}]})


def test_pooled_tuning_adds_no_losses_of_unlike_tasks(tmp_path: Path) -> None:
    unlike = {name: config for name, config in datasets(tmp_path).items() if name in ("fundus", "diameter")}
    arms = {"random": {"kind": "sparse", "score": "random"}}
    plan = plan_with(tmp_path, tune="pooled", datasets=unlike, arms=arms)
    with pytest.raises(ConfigError, match="the task of diameter is regression, that of fundus single-label"):
        compare.run(plan, tmp_path / "table")


def test_caps_count_an_image_for_its_rarest_finding(tmp_path: Path) -> None:
    data = load_dataset(str(write_findings(tmp_path, cases=60)))
    capped = cap_classes(data, {"train": 3, "val": None, "test": 2}, 0)
    strata = len(data.classes) + 1  # the findings, and none of them
    assert strata <= len(capped.train) <= 3 * strata
    assert len(capped.test) <= 2 * strata
    assert set(capped.train.ids) <= set(data.train.ids)
    numbers = load_dataset("phantom:nodule?n=36&size=32", task="regression")
    assert len(cap_classes(numbers, {"train": 5, "val": 3, "test": None}, 0).train) == 5


def test_halves_of_the_training_images_stand_in_for_the_test_of_every_task(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, tested_on="training", images_per_class={})
    for name, task in zip(plan.datasets, TASKS, strict=True):
        data = load_splits(plan, tmp_path, name, 0)
        assert data.task.name == task
        assert set(data.test.ids).isdisjoint(data.val.ids)
        assert len(data.test) >= len(data.val) > 0
    assert halve_training(data, {"train": None, "val": 2, "test": 2}, 0).task == data.task
