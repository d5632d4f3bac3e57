"""Running a plan: each cell once, interrupted or not, by one process or several, with a complete record."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.backbones import Backbone
from shpeft.compare import Plan, Table
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.running import runner, training
from shpeft.compare.running.task import Tasks
from shpeft.compare.table import Record
from shpeft.datasets import load_dataset
from shpeft.datasets.base import Split
from shpeft.errors import Cancelled, ConfigError, RunError
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions, predict
from shpeft.evaluation.temperature import fit_temperature
from shpeft.support.environment import processor
from tests.helpers.comparison_tables import plan_of


def without_time(records: dict[str, Record]) -> dict[str, Record]:
    timed = ("seconds", "seconds_a_step")
    return {key: {k: v for k, v in record.items() if k not in timed} for key, record in records.items()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, list[Any]]:
    """A table filled in one go, and the reported lines."""
    lines = []
    folder = tmp_path_factory.mktemp("compare")
    table = compare.run(
        plan_of(), folder, on_cell=lambda cell, _, done, total, left: lines.append((cell, done, total, left))
    )
    return table, lines


def test_every_cell_is_one_line(filled: tuple[Table, list[Any]]) -> None:
    table, lines = filled
    cells = list_cells(plan_of())
    assert len(cells) == 2 * 2 * (7 + 1 + 2)
    assert list(table.cells()) == [cell.key for cell, _, _, _ in lines]
    assert set(table.cells()) == {cell.key for cell in cells}
    assert [done for _, done, _, _ in lines] == list(range(1, len(cells) + 1))
    assert lines[-1][-1] == 0
    assert all(left > 0 for *_, left in lines[:-1])
    for record in table.cells().values():
        assert record["status"] == "finished"
        assert 0 <= record["balanced_accuracy"] <= 1
        assert len(table.predictions(record["key"]).labels) == record["cases"]["test"]


def test_the_trained_weights_are_recorded(filled: tuple[Table, list[Any]]) -> None:
    table, _ = filled
    trained = {record["arm"]: record["trained"] for record in table.cells().values() if record["budget"] in (None, 40)}
    backbone = Tasks(plan_of(), ".").get("fundus", 0).backbone
    biases = sum(info.numel for info in backbone.weight_infos() if info.name.endswith("bias"))
    assert trained == {
        "probe": 0,
        "head": 0,
        "full": backbone.weight_count,
        "bitfit": biases,
        "product": 40,
        "random": 40,
        "like": 40,
        "revert": 40,
    }
    for record in table.cells().values():
        assert record["share"] == record["trained"] / backbone.weight_count
        assert record["bytes"] > 4 * record["trained"]
        assert record["processor"] == processor()


def test_memory_is_that_of_a_training_batch_and_of_adamw(filled: tuple[Table, list[Any]]) -> None:
    table, _ = filled
    memory: dict[str, Any] = {r["arm"]: r.get("memory") for r in table.cells().values() if r["budget"] in (None, 40)}
    backbone = Tasks(plan_of(), ".").get("fundus", 0).backbone
    head, logits = backbone.head_weight_count, 8 * len(backbone.classes) * 4
    assert memory["probe"] is None
    assert 12 * head + logits <= memory["head"] <= 12 * head + logits + 64  # frozen features: log-probabilities alone
    assert memory["full"] > memory["product"] + 12 * (backbone.weight_count - 40)  # the frozen model's activations
    assert memory["product"] > 12 * (40 + head) + 8 * 3 * 32 * 32  # a batch of 8


def test_memory_of_older_cells_is_measured_without_training(
    filled: tuple[Table, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = filled
    lines = (table.folder / "cells.jsonl").read_text().splitlines()
    older = [json.dumps({k: v for k, v in json.loads(line).items() if k != "memory"}) for line in lines]
    Table(tmp_path)
    (tmp_path / "cells.jsonl").write_text("\n".join(older) + "\n")
    monkeypatch.setattr(training.Trainings, "run", lambda *_: pytest.fail("trained"))
    measured = compare.measure_memory(plan_of(), tmp_path).cells()
    first = {(r["arm"], r["dataset"]): key for key, r in reversed(table.cells().items()) if "memory" in r}
    assert set(first.values()) == {key for key, r in measured.items() if "memory" in r}
    assert {key: table.cells()[key] for key in first.values()} == {key: measured[key] for key in first.values()}
    assert (
        compare.measure_memory(plan_of(), tmp_path, on_cell=lambda *_: pytest.fail("measured again")).cells()
        == measured
    )


def test_the_temperature_is_that_of_the_validation_images(filled: tuple[Table, list[Any]]) -> None:
    table, _ = filled
    plan = plan_of()
    task = Tasks(plan, ".").get("fundus", 0)
    cell = next(c for c in list_cells(plan) if (c.arm, c.dataset, c.seed) == ("probe", "fundus", 0))
    record, val = table.cells()[cell.key], training.probe_model(task).predict(task.data.val)
    assert record["temperature"] == fit_temperature(val.probabilities, val.labels)[0]
    p = table.predictions(cell.key).probabilities ** (1 / record["temperature"])
    calibrated = replace(table.predictions(cell.key), probabilities=p / p.sum(1, keepdims=True))
    assert record["ece_calibrated"] == pytest.approx(evaluate(calibrated, resamples=0).ece.value, abs=1e-6)


def test_only_the_first_seed_tunes_rates(filled: tuple[Table, list[Any]]) -> None:
    table, _ = filled
    for record in table.cells().values():
        if record["kind"] in ("probe", "revert"):
            assert "lr" not in record
            continue
        first = record["seed"] == 0 and record["mask"] == 0
        assert record["tuned"] == first
        assert len(record["trials"]) == (2 if first else 1)
        lowest = min(record["trials"].items(), key=lambda pair: pair[1])
        assert float(lowest[0]) == record["lr"]
    chosen = {(r["dataset"], r["arm"], r["lr"]) for r in table.cells().values() if "lr" in r}
    assert len(chosen) == 2 * 6


def test_a_second_call_does_nothing(filled: tuple[Table, list[Any]]) -> None:
    table, _ = filled
    before = (table.folder / "cells.jsonl").read_bytes()
    compare.run(plan_of(), table.folder, on_cell=lambda *_: pytest.fail("a cell was run again"))
    assert (table.folder / "cells.jsonl").read_bytes() == before


@pytest.mark.parametrize("at", [3, 10, 20])
def test_after_an_interruption_the_numbers_are_the_same(tmp_path: Path, at: int) -> None:
    few = plan_of({"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}, seeds=[0])
    whole = compare.run(few, tmp_path / "whole")
    calls = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(stage)
        if stage.endswith(": training") and sum(s.endswith(": training") for s in calls) == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        compare.run(few, tmp_path / "cut", progress=progress)
    assert len(Table(tmp_path / "cut").cells()) < len(whole.cells())
    again = compare.run(few, tmp_path / "cut")
    assert without_time(again.cells()) == without_time(whole.cells())
    for key in whole.cells():
        assert np.array_equal(again.predictions(key).probabilities, whole.predictions(key).probabilities)


def test_a_wider_grid_trains_only_its_new_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*rates: float) -> Plan:
        return plan_of({"product": {"kind": "sparse", "images": 8, "lr": rates}}, seeds=[0, 1])

    anew = compare.run(plan(1e-9, 1e-3, 1e-2), tmp_path / "anew")
    compare.run(plan(1e-3, 1e-2), tmp_path / "widened")
    trained = list[Rate]()
    run = training.Trainings.run

    def record(self: training.Trainings, rate: Rate) -> tuple[training.Trial, training.FittedModel | None]:
        trained.append(rate)
        return run(self, rate)

    monkeypatch.setattr(training.Trainings, "run", record)
    table = compare.run(plan(1e-9, 1e-3, 1e-2), tmp_path / "widened")
    assert [rate.lr for rate in trained] == [1e-9, 1e-9]  # for both datasets, and neither is the best
    keys = [cell.key for cell in list_cells(plan(1e-9, 1e-3, 1e-2))]
    assert {key: without_time(table.cells())[key] for key in keys} == without_time(anew.cells())
    for key in keys:
        assert np.array_equal(table.predictions(key).probabilities, anew.predictions(key).probabilities)


def test_cells_of_another_table_are_reused(filled: tuple[Table, list[Any]], tmp_path: Path) -> None:
    table, _ = filled
    more = {"sparse": {40: [1e-3, 1e-2], 80: [1e-4, 1e-3]}, "head": [1e-4, 1e-3]}
    few = {"head": {"kind": "head"}, "product": {"kind": "sparse", "images": 8}}
    plan, ran = plan_of(few, seeds=[0], budgets=[40, 80], grids=more), []
    ours = compare.run(plan, tmp_path, reuse=table.folder, on_cell=lambda cell, *_: ran.append(cell))
    assert [cell.budget for cell in ran] == [80, 80]
    assert {trial["lr"] for trial in ours.trials().values()} == {1e-4, 1e-3}
    taken = [cell.key for cell in list_cells(plan) if cell.budget != 80]
    assert len(taken) == 4
    for key in taken:
        assert ours.cells()[key] == table.cells()[key]
        for name, array in ours.arrays(key).items():
            assert np.array_equal(array, table.arrays(key)[name])
    results = Results(plan, ours)
    assert results.grid(Entry("product", 80)) == (1e-4, 1e-3)
    with pytest.raises(RunError, match="not a table of a comparison"):
        compare.run(plan, tmp_path / "b", reuse=tmp_path / "nothing")
    assert not list((tmp_path / "b").glob("*.*"))


def test_a_cell_uses_the_test_images_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []

    def record(backbone: Backbone, split: Split, **options: Any) -> Predictions:
        splits.append(split.name)
        return predict(backbone, split, **options)

    monkeypatch.setattr(training, "predict", record)
    few = plan_of({"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}, seeds=[0])
    compare.run(few, tmp_path)
    assert splits == ["val", "test"] * 4  # the temperature first


def test_variants_do_not_use_the_test_images(tmp_path: Path) -> None:
    """Half of the training images stands in for them; no image is in two splits, and caps hold for each class."""
    setting = {"seeds": [5], "datasets": {"fundus": {"source": (source := "phantom:fundus?n=90&size=32")}}}
    plain = plan_of({"probe": {"kind": "probe"}}, **setting)
    caps = {"train": 6, "val": 2, "test": 3}
    few = plan_of({"probe": {"kind": "probe"}}, **setting, tested_on="training", images_per_class=caps)
    whole = load_dataset(source, seed=5)
    data = Tasks(few, ".").get("fundus", 5).data
    ids = [set(split.ids) for split in data.splits]
    assert not set.union(*ids) & set(whole.test.ids)
    assert len(set.union(*ids)) == sum(map(len, data.splits))
    assert [split.name for split in data.splits] == [split.name for split in whole.splits]
    assert [max(np.bincount(split.labels)) for split in data.splits] == [6, 2, 3]
    assert not {cell.key for cell in list_cells(few)} & {cell.key for cell in list_cells(plain)}
    table = compare.run(few, tmp_path)
    assert [record["cases"]["test"] for record in table.cells().values()] == [len(data.test)]
    compare.write_report(few, tmp_path, resamples=100)
    assert "stands in for the test images, which are not used" in (tmp_path / "APPENDIX.md").read_text()


def test_a_process_waits_for_a_claimed_cell_and_takes_it_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAUSE", 0.01)
    few, waited = plan_of({"probe": {"kind": "probe"}}, seeds=[0]), list[tuple[int, int]]()
    with ExitStack() as other:
        assert other.enter_context(Table(tmp_path).claim(list_cells(few)[0].key))

        def progress(stage: str, done: int, total: int) -> None:
            if stage == runner.WAITING:
                waited.append((done, total))
                if len(waited) == 3:
                    other.close()  # as when the other process ends

        assert len(compare.run(few, tmp_path, progress=progress).cells()) == 2
    assert waited == [(1, 2)] * 3


def test_a_process_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])

    def progress(stage: str, done: int, total: int) -> None:
        if stage == runner.WAITING:
            raise Cancelled

    with Table(tmp_path).claim(list_cells(few)[0].key), pytest.raises(Cancelled):
        compare.run(few, tmp_path, progress=progress)
    assert len(Table(tmp_path).cells()) == 1


def test_torn_and_foreign_lines_are_skipped(tmp_path: Path) -> None:
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])
    table = compare.run(few, tmp_path)
    whole, path = table.cells(), tmp_path / "cells.jsonl"
    path.write_bytes(b'{"not": "ours"}\n[1, 2]\n' + path.read_bytes()[:-40])
    assert len(table.cells()) == 1
    compare.run(few, tmp_path)
    assert without_time(table.cells()) == without_time(whole)


def test_different_images_of_the_same_name_are_refused(tmp_path: Path) -> None:
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])
    table = compare.run(few, tmp_path)
    record = next(iter(table.cells().values()))
    (tmp_path / "cells.jsonl").write_text(json.dumps(record | {"data": "other", "key": "other"}) + "\n")
    with pytest.raises(RunError, match="images for fundus differ"):
        compare.run(few, tmp_path)


def test_every_setting_at_once(tmp_path: Path) -> None:
    arms = {
        "all": {
            **{"kind": "sparse", "images": 8, "formula": "sum", "normalizer": "rank", "lam": 0.3, "scope": "last:1"},
            **{"agnostic": "consensus", "eps": 1e-4, "weight_decay": 0.1, "head_lr": 1e-3, "lr_scale": "magnitude"},
            **{"refit_head": True, "reselect_after": 1, "epochs": 3, "views": 2, "expectation": "image", "norm": "l2"},
            "average": 2,
        }
    }
    table = compare.run(plan_of(arms, seeds=[0]), tmp_path)
    assert {record["status"] for record in table.cells().values()} == {"finished"}
    assert {record["epochs"] for record in table.cells().values()} == {2}  # after the second selection


def test_diverged_training_is_a_result(tmp_path: Path) -> None:
    wild = {"kind": "sparse", "score": "random", "lr": [1e30, 1e32]}
    table = compare.run(plan_of({"probe": {"kind": "probe"}, "wild": wild}, seeds=[0]), tmp_path)
    assert [r["status"] for r in table.cells().values() if r["arm"] == "wild"] == ["failed", "failed"]
    results = Results(plan_of({"probe": {"kind": "probe"}, "wild": wild}, seeds=[0]), table)
    assert results.entries == [Entry("probe", None)]


def test_patience_stops_early(tmp_path: Path) -> None:
    few = plan_of(
        {"full": {"kind": "full", "lr": [0.1, 0.3]}}, seeds=[0], training={"epochs": 8, "patience": 1, "batch_size": 8}
    )
    table = compare.run(few, tmp_path, only=["fundus/*"])
    assert len(table.cells()) == 1
    trials = list(table.trials().values())
    assert all(t["diverged"] or t["epochs"] == min(8, (t["epoch"] or 0) + 1) for t in trials)
    assert any(t["epochs"] < 8 for t in trials)
    with pytest.raises(ConfigError, match="No cell matches"):
        compare.run(few, tmp_path, only=["nothing/*"])


def test_cells_are_chosen_by_dataset_arm_and_seed() -> None:
    plan = plan_of({"probe": {"kind": "probe"}, "full": {"kind": "full"}}, seeds=[1, 3, 13])
    by_seed = runner.matching_cells(plan, ["*/*/3"])
    assert {cell.seed for cell in by_seed} == {3}
    assert {(cell.dataset, cell.arm) for cell in by_seed} == {
        (cell.dataset, cell.arm) for cell in runner.matching_cells(plan)
    }
    assert {(cell.arm, cell.seed) for cell in runner.matching_cells(plan, ["*/full", "*/probe/1"])} == {
        ("full", 1),
        ("full", 3),
        ("full", 13),
        ("probe", 1),
    }


def test_pooled_rates_minimize_the_loss_over_datasets_and_named_seeds(tmp_path: Path) -> None:
    """All cells of an arm have one choice, by the trials of the named seeds; the head's rate is tuned as well."""
    arms = {"product": {"kind": "sparse", "images": 8}, "head": {"kind": "head", "lr": [1e-4, 1e-3, 1e-2, 1e-1]}}
    pooled = {"tune": "pooled", "tune_seeds": [2, 3], "head_lrs": [1e-4, 1e-2], "seeds": [1, 2]}
    plan = plan_of(arms, **pooled)
    table = compare.run(plan, tmp_path)
    records, trials = list(table.cells().values()), table.trials()
    for arm in arms:
        own = [record for record in records if record["arm"] == arm]
        assert len({(record["lr"], record.get("head_lr")) for record in own}) == 1
        budget = 40 if arm == "product" else None
        means = {
            rate: np.mean(
                [
                    trials[tuner.trial_key(rate)]["val_loss"]
                    for tuner in Cell(plan, "fundus", arm, budget, 1).tuning_cells
                ]
            )
            for rate in plan.rates(plan.arms[arm], budget)
        }
        assert len(means) == 4
        assert (own[0]["lr"], own[0].get("head_lr")) == min(means, key=lambda rate: means[rate])[:2]
        assert sorted(v for v in own[0]["trials"].values()) == pytest.approx(sorted(means.values()))
        # four choices for two datasets and two seeds, and the seed that tunes nothing
        assert sum(trial["cell"].split(", ")[2].startswith(arm) for trial in trials.values()) == 4 * 2 * 2 + 2
    assert [record["tuned"] for record in records if record["seed"] == 1] == [False] * 4
    assert [record["tuned"] for record in records if record["seed"] == 2] == [True] * 4


def test_the_number_of_choices_is_the_same_for_every_arm() -> None:
    arms = {"product": {"kind": "sparse"}, "head": {"kind": "head"}}
    with pytest.raises(ConfigError, match="unfair: product 4, head 2"):
        plan_of(arms, head_lrs=[1e-4, 1e-2])
