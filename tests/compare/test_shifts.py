"""Shift: further test sets, on which finished trainings are evaluated beside their own test images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare, load_dataset
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results
from shpeft.compare.cells import list_cells
from shpeft.compare.cost import image_passes
from shpeft.compare.report.shift_section import under_shift
from shpeft.compare.running import training
from shpeft.compare.running.task import Task
from shpeft.compare.shifts import by_subgroup, check_unseen, corrupted, renamed
from shpeft.compare.table import SHIFT
from shpeft.errors import ClassMismatch, ConfigError, DatasetError
from shpeft.evaluation.predict import predict
from tests.helpers.comparison_tables import SETTING, made_up, plan_of, planned, predicted

FUNDUS = {"fundus": SETTING["datasets"]["fundus"]}
ARMS: dict[str, Any] = {"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}
NOISE: dict[str, Any] = {"noise": {"corruption": "gaussian_noise", "severity": 5}}
OTHER: dict[str, Any] = {
    "other site": {
        "external": {"source": "phantom:fundus?n=24&size=48"},
        "classes": {"healthy": "healthy", "exudates": "haemorrhages"},
    }
}


def test_shifts_leave_results_and_keys_of_other_plans_alone(tmp_path: Path, no_browser: None) -> None:
    plain, plan = (plan_of(ARMS, datasets=FUNDUS, shifts=shifts) for shifts in ({}, NOISE | OTHER))
    assert not {cell.key for cell in list_cells(plain)} & {cell.key for cell in list_cells(plan)}
    first, table = compare.run(plain, tmp_path / "plain"), compare.run(plan, tmp_path / "shifted")
    assert first.trials().keys() == table.trials().keys()
    pairs = list(zip(list_cells(plain), list_cells(plan), strict=True))
    assert pairs
    for old, new in pairs:
        before, after = first.cells()[old.key], table.cells()[new.key]
        assert "shifts" not in before
        assert {name: before[name] for name in ("log_loss", "data")} == {k: after[k] for k in ("log_loss", "data")}
        assert np.array_equal(first.predictions(old.key).probabilities, table.predictions(new.key).probabilities)
        assert list(after["shifts"]) == ["noise", "other site"]
        assert after["shifts"]["noise"]["log_loss"] != after["log_loss"]
    assert not any((table.folder / "predictions").iterdir())  # all are packed, those under shift as well
    probe = table.cells()[pairs[0][1].key]
    task = Task(plan, Path(), "fundus", 0)
    assert probe["shifts"]["noise"]["data"] == task.shifted["noise"].fingerprint != task.data.test.fingerprint
    with task.probe.applied(task.backbone):
        expected = predict(task.backbone, task.shifted["other site"])  # without cached features
    np.testing.assert_allclose(table.shifted(probe, "other site").probabilities, expected.probabilities, atol=1e-6)
    text = compare.write_report(plan, table.folder, resamples=50).with_name("APPENDIX.md").read_text()
    part = text.split("## Under shift")[1].split("\n## ")[0]
    assert "| arm | own test images | noise | other site |" in part
    assert part.count("| probe |") == 4
    again = compare.Table(tmp_path / "copy")
    again.copy_cells(table, [cell.key for cell in list_cells(plan)])
    copied = again.shifted(again.cells()[probe["key"]], "noise").probabilities
    assert np.array_equal(copied, table.shifted(probe, "noise").probabilities)


def test_a_finished_training_without_shift_is_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial's learning rate holds; the model is gone, and no result stands for a test set that it never saw."""
    plain, plan = (plan_of(ARMS, datasets=FUNDUS, seeds=[0], shifts=shifts) for shifts in ({}, NOISE))
    table = compare.run(plain, tmp_path)
    trials, runs = table.trials(), list[object]()
    run = training.Trainings.run

    def counted(self: training.Trainings, rate: Any) -> Any:
        runs.append(rate)
        return run(self, rate)

    monkeypatch.setattr(training.Trainings, "run", counted)
    compare.run(plan, tmp_path)
    assert len(runs) == 1
    assert table.trials() == trials
    cell = list_cells(plan)[1]
    assert table.cells()[cell.key]["shifts"].keys() == {"noise"}


def test_an_estimate_counts_the_further_test_sets() -> None:
    plain, plan = (plan_of(ARMS, datasets=FUNDUS, shifts=shifts) for shifts in ({}, NOISE | OTHER))
    cases = {"train": 18, "val": 12, "test": 10}
    more = [
        image_passes(b, cases) - image_passes(a, cases) for a, b in zip(*map(list_cells, (plain, plan)), strict=True)
    ]
    assert set(more) == {20.0}


def test_arms_are_paired_under_shift(tmp_path: Path) -> None:
    """Made-up answers: the method is 20 points better on its own test images, and equal under shift."""
    plan = planned(arms={"probe": {"kind": "probe"}, "good": {"kind": "sparse"}}, questions=[])
    table = made_up(tmp_path, plan)
    same = predicted(np.arange(50) < 30)
    for record in [r for r in table.cells().values() if r["dataset"] != "c"]:
        shift = {"balanced_accuracy": 0.6, "cases": {"test": 50}}
        table.add_cell(record | {"shifts": {"blur": shift}}, None, None, [same])
    bootstrap = Bootstrap(Results(plan, table), 200)
    probe, good = bootstrap.results.entries
    assert (table.folder / "predictions" / f"{next(iter(table.cells()))}{SHIFT}0.npz").exists()
    own = bootstrap.compare(good, probe, "balanced_accuracy")
    shifted = under_shift(bootstrap)["blur"].compare(good, probe, "balanced_accuracy")
    assert own is not None
    assert shifted is not None
    assert own.mean.value == pytest.approx(0.2)
    assert shifted.mean.value == 0
    assert shifted.identical
    assert list(shifted.by_dataset) == ["a", "b"]


def test_corrupted_pixels_are_the_same_for_every_seed_and_order() -> None:
    test = load_dataset("phantom:fundus?n=36&size=64").test
    whole, part = (corrupted(split, "gaussian_noise", 2) for split in (test, test.subset([3, 1])))
    assert np.array_equal(np.asarray(whole.image(3)), np.asarray(part.image(0)))
    assert part.subset([1]).ids == (whole.ids[1],)
    assert whole.mask(0) is None


def test_external_classes_are_renamed_and_others_left_out() -> None:
    test = load_dataset("phantom:fundus?n=36&size=64").test
    like = replace(test, classes=("ill", "well", "healthy"))
    shifted = renamed(test, {"exudates": "ill", "haemorrhages": "ill", "healthy": "well"}, like)
    assert len(shifted) == len(test)
    assert shifted.counts() == {"ill": 8, "well": 4, "healthy": 0}
    assert renamed(test, {"healthy": "well"}, like).counts() == {"ill": 0, "well": 4, "healthy": 0}
    with pytest.raises(ClassMismatch, match="The dataset of a shift has no class 'haemorrhages'"):
        renamed(test, {}, like)
    with pytest.raises(ClassMismatch, match=r"external dataset of a shift has no class 'exudate'.*exudates"):
        renamed(test, {"exudate": "ill"}, like)
    with pytest.raises(ClassMismatch, match="one class an image on both sides"):
        renamed(load_dataset("phantom:nodule?n=24&size=32").test, {}, like)


def test_images_that_models_have_seen_are_no_shift() -> None:
    data = load_dataset("phantom:fundus?n=36&size=64")
    with pytest.raises(DatasetError, match="6 images of the shift 'site' are training or validation"):
        check_unseen("site", data.val, [data.train, data.val])
    check_unseen("site", data.test, [data.train, data.val])


def test_subgroups_are_test_sets_of_their_own() -> None:
    test = load_dataset("phantom:fundus?n=36&size=64").test
    sites = replace(test, subgroups=("north", "south", "north") * 4)
    parts = dict(by_subgroup(sites))
    assert {name: len(part) for name, part in parts.items()} == {"north": 8, "south": 4}
    assert parts["south"].ids == test.ids[1::3]
    with pytest.raises(DatasetError, match="the images have none"):
        dict(by_subgroup(test))


def test_cells_have_the_metrics_of_each_subgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_sites(*arguments: Any, **settings: Any) -> Any:
        data = load_dataset(*arguments, **settings)
        sites = tuple(("north", "south")[row % 2] for row in range(len(data.test)))
        return replace(data, test=replace(data.test, subgroups=sites))

    monkeypatch.setattr("shpeft.compare.running.task.load_dataset", with_sites)
    plan = plan_of({"probe": ARMS["probe"]}, datasets=FUNDUS, seeds=[0], shifts={"site": {"by_subgroup": True}})
    table = compare.run(plan, tmp_path)
    [record] = table.cells().values()
    assert list(record["shifts"]) == ["site: north", "site: south"]
    whole = table.predictions(record["key"]).probabilities
    for name, rows in (("site: north", slice(0, None, 2)), ("site: south", slice(1, None, 2))):
        part = table.shifted(record, name)
        np.testing.assert_allclose(part.probabilities, whole[rows], atol=1e-6)  # other batches round differently
        assert record["shifts"][name]["cases"] == {"test": len(part.labels)}


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ({}, "one of corruption, external and by_subgroup"),
        ({"corruption": "contrast", "by_subgroup": True}, "one of corruption"),
        ({"corruption": "contrast", "classes": {"a": "b"}}, "give external"),
        ({"corruption": "contrast", "severity": 6}, "severity"),
        ({"corruption": "contrast", "datasets": ["fundsu"]}, "shift x is for 'fundsu'"),
    ],
)
def test_shifts_that_make_no_sense_are_refused(shift: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(ARMS, shifts={"x": shift})
