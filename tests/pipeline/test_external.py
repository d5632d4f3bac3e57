"""A finished run on external data: all of its images, whatever it lacks, beside the probe and the internal test."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import pipeline
from shpeft.datasets import load_dataset
from shpeft.datasets.external import load_external
from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset
from shpeft.evaluation.metrics import METRICS, change, evaluate
from shpeft.evaluation.predict import predict
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from tests.helpers.command_line import shpeft
from tests.helpers.run_metrics import metrics_of

OTHER = "phantom:fundus?n=24&size=32&seed=9"
CLASSES = ("healthy", "haemorrhages", "exudates")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of another site in class folders."""
    root = tmp_path_factory.mktemp("site")
    split = load_dataset(OTHER).train
    for row in range(12):
        home = root / split.classes[split.labels[row]]
        home.mkdir(exist_ok=True)
        split.image(row).save(home / f"{row:02}.png")
    return root


def table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def listed(site: Path) -> list[tuple[str, str]]:
    return [(str(path), path.parent.name) for path in sorted(site.rglob("*.png"))]


def on(run: RunFolder, source: str | Path, **settings: Any) -> dict[str, Any]:
    return pipeline.evaluate_run(run, str(source), settings=settings, device="cpu")[1]


def test_all_images_are_tested_beside_the_probe_and_the_internal_test(finished: RunFolder, site: Path) -> None:
    predictions, metrics = pipeline.evaluate_run(finished, str(site), device="cpu")
    assert metrics["external"]
    assert len(predictions.ids) == metrics["finetuned"]["cases"] == metrics["probe"]["cases"] == 12
    for name in METRICS:
        tuned, probe = metrics["finetuned"][name]["value"], metrics["probe"][name]["value"]
        assert metrics["difference"][name]["value"] == pytest.approx(tuned - probe, nan_ok=True)
        inside = metrics_of(finished)["finetuned"][name]["value"]
        assert metrics["internal"][name]["value"] == inside
        assert metrics["drop"][name]["value"] == pytest.approx(tuned - inside)
        assert metrics["drop"][name]["low"] <= metrics["drop"][name]["high"]
    assert any("patient of its own" in warning for warning in metrics["warnings"])


def test_the_stored_probe_is_that_of_the_run(finished: RunFolder) -> None:
    head = finished.probe.read()
    assert head is not None
    test = load_dataset(finished.config.dataset.source, seed=0).test
    with pipeline.load_run(finished, "cpu") as loaded, loaded.pretrained() as backbone, head.applied(backbone):
        again = predict(backbone, test)
    np.testing.assert_array_equal(again.probabilities, finished.predictions.test("probe").probabilities)
    _, metrics = pipeline.evaluate_run(finished, device="cpu")
    assert not metrics["external"]
    assert to_jsonable(metrics["probe"]) == metrics_of(finished)["probe"]


def test_generated_and_public_sets_are_joined(finished: RunFolder) -> None:
    assert on(finished, OTHER)["finetuned"]["cases"] == 24


def test_a_table_with_test_rows_alone_and_other_columns(finished: RunFolder, site: Path, tmp_path: Path) -> None:
    rows = [[name, label, "test", f"p{row // 2}"] for row, (name, label) in enumerate(listed(site))]
    path = table(tmp_path / "other.csv", ["scan", "dx", "split", "who"], rows)
    with pytest.raises(DatasetError, match=r"no column .*for the path; it has 'scan', 'dx', 'split', 'who'"):
        on(finished, path)
    columns = {"path": "scan", "label": "dx", "group": "who"}
    predictions, metrics = pipeline.evaluate_run(finished, str(path), settings={"columns": columns}, device="cpu")
    assert metrics["finetuned"]["cases"] == 12
    assert len(set(predictions.groups)) == 6
    assert metrics["warnings"] == []
    assert metrics["finetuned"] == evaluate(predictions).to_dict()


def test_a_missing_class_is_said_and_the_internal_test_is_of_the_same_classes(
    finished: RunFolder, site: Path, tmp_path: Path
) -> None:
    shutil.copytree(site, tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / "exudates")
    metrics = on(finished, tmp_path / "site")
    assert metrics["warnings"][0].startswith("There is no image of exudates")
    inside = metrics_of(finished)["finetuned"]["per_class"]
    assert metrics["internal"]["cases"] == sum(row["cases"] for row in inside if row["name"] != "exudates")
    (tmp_path / "site" / "healthy").rename(tmp_path / "site" / "helthy")
    with pytest.raises(
        ClassMismatch, match=r"has the class 'helthy', which the model does not know.*Did you mean healthy"
    ):
        on(finished, tmp_path / "site")


def test_train_and_test_folders_are_joined(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "both" / "test")
    (tmp_path / "both" / "train" / "healthy").mkdir(parents=True)
    first = next((tmp_path / "both" / "test" / "healthy").iterdir())
    first.rename(tmp_path / "both" / "train" / "healthy" / first.name)
    assert len(load_external(tmp_path / "both", CLASSES).split) == 12
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDataset, match="no images"):
        load_external(tmp_path / "empty", CLASSES)


def test_images_of_the_run_itself_are_noticed(finished: RunFolder) -> None:
    metrics = on(finished, f"{finished.config.dataset.source}&seed=0")
    everything = load_dataset(finished.config.dataset.source).splits
    assert metrics["finetuned"]["cases"] == sum(map(len, everything))
    assert metrics["warnings"][0].endswith("are among the run's own validation or test images.")


def test_a_run_without_a_stored_probe_says_so(finished: RunFolder, site: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "old")
    (tmp_path / "old" / "probe.safetensors").unlink()
    metrics = on(RunFolder.open(tmp_path / "old"), site)
    assert "probe" not in metrics
    assert any("does not store its linear probe" in warning for warning in metrics["warnings"])


def test_the_change_is_of_independent_resamples(finished: RunFolder) -> None:
    test = finished.predictions.test()
    same = change(test, test)
    assert same["accuracy"].value == 0
    assert same["accuracy"].low < 0 < same["accuracy"].high


def test_the_command_says_what_limits_the_result_first(finished: RunFolder, site: Path) -> None:
    lines = shpeft("evaluate", finished.path, "--data", site, "--device", "cpu").stdout.splitlines()
    assert lines[0] == f"finished on all 12 images of {site.name}"
    assert lines[1].startswith("Warning: No patients or groups are known")
    assert lines[2].split() == [
        *("fine-tuned", "linear", "probe", "difference", "internal", "test", "external", "-", "internal"),
    ]
    assert (
        "--leakage has no effect"
        in shpeft("evaluate", finished.path, "--data", site, "--leakage", "drop", code=2).stderr
    )
    assert "--window has no effect" in shpeft("evaluate", finished.path, "--window", "full", code=2).stderr
