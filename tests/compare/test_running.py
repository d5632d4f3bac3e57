"""Comparisons: every arm runs, each cell once, interrupted or not; the table and its report say what happened."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare import Table, arms
from shpeft.compare.results import Entry, Results
from shpeft.compare.tasks import Tasks
from shpeft.datasets import load_dataset
from shpeft.errors import Cancelled, ConfigError, RunError
from shpeft.evaluation import evaluate, predict
from shpeft.runs.formats import processor
from shpeft.temperature import fit_temperature

from .comparisons import plan_of


def without_time(records):
    timed = ("seconds", "seconds_a_step")
    return {key: {k: v for k, v in record.items() if k not in timed} for key, record in records.items()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A table that was filled in one go, and the lines that were reported."""
    lines = []
    folder = tmp_path_factory.mktemp("compare")
    table = compare.run(plan_of(), folder, on_cell=lambda cell, record, done, total: lines.append((cell, done, total)))
    return table, lines


def test_every_cell_is_one_line(filled):
    table, lines = filled
    cells = plan_of().cells()
    assert len(cells) == 2 * 2 * (7 + 1 + 2)
    assert list(table.cells()) == [cell.key for cell, _, _ in lines]
    assert set(table.cells()) == {cell.key for cell in cells}
    assert [done for _, done, _ in lines] == list(range(1, len(cells) + 1))
    for record in table.cells().values():
        assert record["status"] == "finished"
        assert 0 <= record["balanced_accuracy"] <= 1
        assert len(table.predictions(record["key"]).labels) == record["cases"]["test"]


def test_what_is_trained_is_recorded(filled):
    table, _ = filled
    trained = {record["arm"]: record["trained"] for record in table.cells().values() if record["budget"] in (None, 40)}
    backbone = Tasks(plan_of(), ".").get("fundus", 0).backbone
    biases = sum(info.numel for info in backbone.weight_infos() if info.name.endswith("bias"))
    assert trained == {
        "probe": 0,
        "head": 0,
        "full": backbone.count,
        "bitfit": biases,
        "product": 40,
        "random": 40,
        "like": 40,
        "revert": 40,
    }
    for record in table.cells().values():
        assert record["share"] == record["trained"] / backbone.count
        assert record["bytes"] > 4 * record["trained"]
        assert record["processor"] == processor()


def test_memory_is_that_of_a_training_batch_and_of_adamw(filled):
    table, _ = filled
    memory = {r["arm"]: r.get("memory") for r in table.cells().values() if r["budget"] in (None, 40)}
    backbone = Tasks(plan_of(), ".").get("fundus", 0).backbone
    head, logits = backbone.head_count, 8 * len(backbone.classes) * 4
    assert memory["probe"] is None
    assert 12 * head + logits <= memory["head"] <= 12 * head + logits + 64  # frozen features: log-probabilities alone
    assert memory["full"] > memory["product"] + 12 * (backbone.count - 40)  # whose activations are the frozen model's
    assert memory["product"] > 12 * (40 + head) + 8 * 3 * 32 * 32  # a batch of 8


def test_memory_of_older_cells_is_measured_without_training(filled, tmp_path, monkeypatch):
    table, _ = filled
    lines = (table.folder / "cells.jsonl").read_text().splitlines()
    older = [json.dumps({k: v for k, v in json.loads(line).items() if k != "memory"}) for line in lines]
    Table(tmp_path)
    (tmp_path / "cells.jsonl").write_text("\n".join(older) + "\n")
    monkeypatch.setattr(arms.Trainings, "run", lambda *_: pytest.fail("trained"))
    measured = compare.measure_memory(plan_of(), tmp_path).cells()
    first = {(r["arm"], r["dataset"]): key for key, r in reversed(table.cells().items()) if "memory" in r}
    assert set(first.values()) == {key for key, r in measured.items() if "memory" in r}
    assert {key: table.cells()[key] for key in first.values()} == {key: measured[key] for key in first.values()}
    assert compare.measure_memory(plan_of(), tmp_path, on_cell=pytest.fail).cells() == measured


def test_the_temperature_is_that_of_the_validation_images(filled):
    table, _ = filled
    plan = plan_of()
    task = Tasks(plan, ".").get("fundus", 0)
    cell = next(c for c in plan.cells() if (c.arm, c.dataset, c.seed) == ("probe", "fundus", 0))
    record, val = table.cells()[cell.key], arms.probed(task).predict(task.data.val)
    assert record["temperature"] == fit_temperature(val.probabilities, val.labels)[0]
    p = table.predictions(cell.key).probabilities ** (1 / record["temperature"])
    calibrated = replace(table.predictions(cell.key), probabilities=p / p.sum(1, keepdims=True))
    assert record["ece_calibrated"] == pytest.approx(evaluate(calibrated, resamples=0).ece.value, abs=1e-6)


def test_rates_are_tried_by_the_first_seed_alone(filled):
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


def test_a_second_call_does_nothing(filled):
    table, _ = filled
    before = (table.folder / "cells.jsonl").read_bytes()
    compare.run(plan_of(), table.folder, on_cell=lambda *_: pytest.fail("a cell was run again"))
    assert (table.folder / "cells.jsonl").read_bytes() == before


@pytest.mark.parametrize("at", [3, 10, 20])
def test_interrupted_it_goes_on_to_the_same_numbers(tmp_path, at):
    few = plan_of({"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}, seeds=[0])
    whole = compare.run(few, tmp_path / "whole")
    calls = []

    def progress(stage, done, total):
        calls.append(stage)
        if stage == "training" and calls.count("training") == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        compare.run(few, tmp_path / "cut", progress=progress)
    assert len(Table(tmp_path / "cut").cells()) < len(whole.cells())
    again = compare.run(few, tmp_path / "cut")
    assert without_time(again.cells()) == without_time(whole.cells())
    for key in whole.cells():
        assert np.array_equal(again.predictions(key).probabilities, whole.predictions(key).probabilities)


def test_a_wider_grid_costs_only_its_new_rates(tmp_path, monkeypatch):
    def plan(*rates):
        return plan_of({"product": {"kind": "sparse", "images": 8, "lr": rates}}, seeds=[0, 1])

    anew = compare.run(plan(1e-9, 1e-3, 1e-2), tmp_path / "anew")
    compare.run(plan(1e-3, 1e-2), tmp_path / "widened")
    trained = []
    run = arms.Trainings.run
    monkeypatch.setattr(arms.Trainings, "run", lambda self, lr: trained.append(lr) or run(self, lr))
    table = compare.run(plan(1e-9, 1e-3, 1e-2), tmp_path / "widened")
    assert trained == [1e-9, 1e-9]  # a dataset each, and neither wins
    keys = [cell.key for cell in plan(1e-9, 1e-3, 1e-2).cells()]
    assert {key: without_time(table.cells())[key] for key in keys} == without_time(anew.cells())
    for key in keys:
        assert np.array_equal(table.predictions(key).probabilities, anew.predictions(key).probabilities)


def test_cells_of_another_table_are_taken_over(filled, tmp_path):
    table, _ = filled
    more = {"sparse": {40: [1e-3, 1e-2], 80: [1e-4, 1e-3]}, "head": [1e-4, 1e-3]}
    few = {"head": {"kind": "head"}, "product": {"kind": "sparse", "images": 8}}
    plan, ran = plan_of(few, seeds=[0], budgets=[40, 80], grids=more), []
    ours = compare.run(plan, tmp_path, reuse=table.folder, on_cell=lambda cell, *_: ran.append(cell))
    assert [cell.budget for cell in ran] == [80, 80]
    assert {trial["lr"] for trial in ours.trials().values()} == {1e-4, 1e-3}
    taken = [cell.key for cell in plan.cells() if cell.budget != 80]
    assert len(taken) == 4
    for key in taken:
        assert ours.cells()[key] == table.cells()[key]
        same = (at.folder / "predictions" / f"{key}.npz" for at in (ours, table))
        assert len({path.read_bytes() for path in same}) == 1
    results = Results(plan, ours)
    assert results.grid(Entry("product", 80)) == (1e-4, 1e-3)
    with pytest.raises(RunError, match="no table of a comparison"):
        compare.run(plan, tmp_path / "b", reuse=tmp_path / "nothing")
    assert not list((tmp_path / "b").glob("*.*"))


def test_the_test_images_are_looked_at_once_a_cell(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(
        arms, "predict", lambda b, split, **more: looked.append(split.name) or predict(b, split, **more)
    )
    few = plan_of({"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}, seeds=[0])
    compare.run(few, tmp_path)
    assert looked == ["val", "test"] * 4  # the temperature first


def test_variants_are_tried_without_the_test_images(tmp_path):
    """Half of the training images stands in for them; no image is in two splits, and a class keeps to its caps."""
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
    assert not {cell.key for cell in few.cells()} & {cell.key for cell in plain.cells()}
    table = compare.run(few, tmp_path)
    assert [record["cases"]["test"] for record in table.cells().values()] == [len(data.test)]
    compare.write_report(few, tmp_path, resamples=100)
    assert "stands in for the test images, which were not looked at" in (tmp_path / "RESULTS.md").read_text()


def test_a_claimed_cell_is_left_to_the_other_process(tmp_path):
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])
    first = few.cells()[0]
    with Table(tmp_path).claimed(first.key) as mine:
        assert mine
        table = compare.run(few, tmp_path)
        assert first.key not in table.cells()
        assert len(table.cells()) == 1
    assert len(compare.run(few, tmp_path).cells()) == 2


def test_a_line_that_is_torn_or_not_ours_is_passed_over(tmp_path):
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])
    table = compare.run(few, tmp_path)
    whole, path = table.cells(), tmp_path / "cells.jsonl"
    path.write_bytes(b'{"not": "ours"}\n[1, 2]\n' + path.read_bytes()[:-40])
    assert len(table.cells()) == 1
    compare.run(few, tmp_path)
    assert without_time(table.cells()) == without_time(whole)


def test_lines_of_several_writers_do_not_mix(tmp_path):
    table = Table(tmp_path)
    writers = [
        threading.Thread(target=lambda w=w: [table.add_trial({"key": f"{w}-{i}", "x": "y" * 500}) for i in range(5)])
        for w in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(table.trials()) == 20


def test_other_images_under_the_same_name_are_refused(tmp_path):
    few = plan_of({"probe": {"kind": "probe"}}, seeds=[0])
    table = compare.run(few, tmp_path)
    record = next(iter(table.cells().values()))
    (tmp_path / "cells.jsonl").write_text(json.dumps(record | {"data": "other", "key": "other"}) + "\n")
    with pytest.raises(RunError, match="images for fundus are others"):
        compare.run(few, tmp_path)


def test_every_knob_at_once(tmp_path):
    wanted = {
        "all": {
            **{"kind": "sparse", "images": 8, "formula": "sum", "normaliser": "rank", "lam": 0.3, "scope": "last:1"},
            **{"agnostic": "consensus", "eps": 1e-4, "weight_decay": 0.1, "head_lr": 1e-3, "lr_scale": "magnitude"},
            **{"refit_head": True, "reselect_after": 1, "epochs": 3, "views": 2, "expectation": "image", "norm": "l2"},
            "average": 2,
        }
    }
    table = compare.run(plan_of(wanted, seeds=[0]), tmp_path)
    assert {record["status"] for record in table.cells().values()} == {"finished"}
    assert {record["epochs"] for record in table.cells().values()} == {2}  # after selecting anew


def test_training_that_diverges_is_a_result(tmp_path):
    wild = {"kind": "sparse", "score": "random", "lr": [1e30, 1e32]}
    table = compare.run(plan_of({"probe": {"kind": "probe"}, "wild": wild}, seeds=[0]), tmp_path)
    assert [r["status"] for r in table.cells().values() if r["arm"] == "wild"] == ["failed", "failed"]
    results = Results(plan_of({"probe": {"kind": "probe"}, "wild": wild}, seeds=[0]), table)
    assert results.entries == [Entry("probe", None)]


def test_patience_stops_early(tmp_path):
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
