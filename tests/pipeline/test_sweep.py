"""A sweep runs each of its runs once, continues after an interruption, and its table is that of the runs."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import pipeline
from shpeft.config.sweep import Sweep
from shpeft.errors import Cancelled, NonFiniteLoss, RunError
from shpeft.evaluation.findings import FINDING_METRICS
from shpeft.evaluation.grades import GRADE_METRICS
from shpeft.evaluation.metrics import METRICS, evaluate
from shpeft.pipeline.sweep import count_folds, run_sweep
from shpeft.runs import RunFolder, list_runs
from shpeft.runs.predictions import parse_predictions
from shpeft.runs.sweep import SweepFolder, list_sweeps
from tests.helpers.finding_tables import write_findings
from tests.pipeline.conftest import TINY, carry_out


def sweep_of(**more: Any) -> Sweep:
    config = TINY | {"training": {"epochs": 1, "batch_size": 8}}
    return Sweep.parse({"config": config, **more})


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepFolder, dict[str, Any]]:
    folder = SweepFolder.create(tmp_path_factory.mktemp("sweeps") / "folds", sweep_of(folds=3))
    return folder, run_sweep(folder)


def test_the_table_is_that_of_the_runs(folds: tuple[SweepFolder, dict[str, Any]]) -> None:
    folder, results = folds
    runs = [RunFolder.open(folder.path.with_name(f"folds-fold{number}")) for number in (1, 2, 3)]
    values = [run.metrics.read()["finetuned"]["macro_auroc"]["value"] for run in runs]  # type: ignore[index]
    assert [row["finetuned"]["macro_auroc"] for row in results["runs"]] == values
    assert results["combinations"][0]["finetuned"]["macro_auroc"]["mean"] == pytest.approx(np.mean(values))
    assert results["combinations"][0]["finetuned"]["macro_auroc"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert [sum(row["test"].values()) for row in results["runs"]] == [12, 12, 12]
    assert results["missing"] == []
    assert SweepFolder.open(folder.path).summary() == results
    table = list(csv.DictReader((folder.path / "table.csv").read_text().splitlines()))
    assert [float(row["finetuned:macro_auroc"]) for row in table] == values
    assert [row["fold"] for row in table] == ["1", "2", "3"]


def test_pooled_predictions_are_those_of_all_folds(folds: tuple[SweepFolder, dict[str, Any]]) -> None:
    folder, results = folds
    pooled = parse_predictions((folder.path / "predictions.csv").read_text(), "finetuned")
    assert len(set(pooled.ids)) == 36
    assert results["pooled"][0]["finetuned"]["cases"] == 36
    assert results["pooled"][0]["finetuned"]["brier"]["value"] == evaluate(pooled).brier.value


def test_the_runs_are_ordinary_runs_beside_the_sweep(folds: tuple[SweepFolder, dict[str, Any]]) -> None:
    folder, _ = folds
    assert {run.name for run in list_runs(folder.path.parent)} == {"folds-fold1", "folds-fold2", "folds-fold3"}
    assert [own.name for own in list_sweeps(folder.path.parent)] == ["folds"]


def test_it_continues_where_it_was_interrupted_to_the_same_numbers(tmp_path: Path) -> None:
    sweep, calls = sweep_of(seeds="0..1"), list[int]()

    def interrupted(stage: str, done: int, total: int) -> None:
        if calls and stage.startswith("Fine-tuning"):
            raise Cancelled

    folder = SweepFolder.create(tmp_path / "twice", sweep)
    with pytest.raises(Cancelled):
        run_sweep(folder, progress=interrupted, on_run=lambda member, number, _: calls.extend([number] * (number > 1)))
    assert [row["run"] for row in folder.summary()["runs"]] == ["twice-seed0"]  # type: ignore[index]
    begun = list[int]()
    again = SweepFolder.create(tmp_path / "twice", sweep)
    results = run_sweep(again, on_run=lambda member, number, count: begun.append(number))
    assert begun == [2]
    alone = carry_out(tmp_path / "alone", sweep.members()[1].config)
    assert alone.delta_path.read_bytes() == (tmp_path / "twice-seed1" / "delta.safetensors").read_bytes()
    assert len(results["runs"]) == 2
    with pytest.raises(RunError, match="holds a sweep with other settings"):
        SweepFolder.create(tmp_path / "twice", sweep_of(seeds="0..2"))


def test_a_run_that_diverges_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: Any, folder: RunFolder, **options: Any) -> Any:
        if config.training.lr == 0.1:
            with folder.state.recording():
                raise NonFiniteLoss("The loss became nan in epoch 1 of 1 at learning rate 0.1.")
        return pipeline.run(config, folder, **options)

    monkeypatch.setattr("shpeft.pipeline.sweep.run", run)
    folder = SweepFolder.create(tmp_path / "rates", sweep_of(settings={"training.lr": [0.1, 0.01]}))
    results = run_sweep(folder)
    assert results["missing"] == ["rates-1"]
    assert results["best"] == 1
    assert [entry["settings"] for entry in results["combinations"]] == [{"training.lr": 0.01}]


def test_another_run_of_the_same_name_is_not_touched(tmp_path: Path) -> None:
    other = RunFolder.create(tmp_path / "mine-seed0", sweep_of().config)
    other.state.unlock()
    before = (tmp_path / "mine-seed0" / "config.yaml").read_bytes()
    folder = SweepFolder.create(tmp_path / "mine", sweep_of(seeds="0", config=TINY | {"training": {"epochs": 3}}))
    with pytest.raises(RunError, match="is a run with other settings than those of mine"):
        run_sweep(folder)
    assert (tmp_path / "mine-seed0" / "config.yaml").read_bytes() == before
    (tmp_path / "something").mkdir()
    with pytest.raises(RunError, match="exists and is no sweep"):
        SweepFolder.create(tmp_path / "something", sweep_of())


def test_sites_are_counted_in_the_images(tmp_path: Path) -> None:
    import pandas as pd

    from tests.helpers.image_folders import write_picture

    rows = [
        {"path": write_picture(tmp_path / f"{n}.png", n).name, "label": "ab"[n % 2], "site": "ABC"[n // 8]}
        for n in range(24)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    sweep = count_folds(sweep_of(folds="site", config=TINY | {"dataset": {"source": str(tmp_path / "t.csv")}}))
    assert sweep.folds == "site:3"
    assert count_folds(sweep_of(folds=4)).folds == 4


@pytest.mark.parametrize("task", ["multi-label", "ordinal"])
def test_other_tasks_have_their_own_metrics(tmp_path: Path, task: str) -> None:
    source = str(write_findings(tmp_path / "images", cases=48)) if task == "multi-label" else TINY["dataset"]["source"]
    config = TINY | {"dataset": {"source": source, "task": task}, "training": {"epochs": 1, "batch_size": 8}}
    folder = SweepFolder.create(tmp_path / "sweep", Sweep.parse({"config": config, "folds": 2}))
    results = run_sweep(folder)
    names = FINDING_METRICS if task == "multi-label" else (*GRADE_METRICS, *METRICS)
    assert tuple(results["combinations"][0]["difference"]) == names
    assert set(names) <= results["pooled"][0]["finetuned"].keys()
    header = (folder.path / "table.csv").read_text().splitlines()[0]
    assert f"finetuned:{names[0]}" in header
