"""Trackers get settings, epochs and results of a run, on this computer, and nothing else."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shpeft.config.schema import RunConfig
from shpeft.errors import ConfigError, MissingExtra
from shpeft.pipeline import tracking
from shpeft.pipeline.tracking import TRACKERS, epoch_values, result_values, tracked
from shpeft.training.loop import EpochReport

START = EpochReport(0, 2, float("nan"), 0.7, 0.75, 0.6, 0.5, True)
EPOCH = EpochReport(1, 2, 0.5, 0.6, 0.8, 0.7, 1.0, True)
METRICS = {
    model: {"macro_auroc": {"value": 0.8 + shift}, "mcc": {"value": None}}
    for model, shift in (("finetuned", 0.1), ("probe", 0.0))
}
CONFIG = RunConfig.parse({"dataset": {"source": "/data/hospital/secret-folder/set"}, "training": {"epochs": 2}})


def follow(spec: str, folder: Path) -> None:
    with tracked(spec, "first", CONFIG, folder) as tracker:
        for report in (START, EPOCH):
            tracker.log(report.epoch, epoch_values(report))
        tracker.finish(result_values(METRICS))


def test_numbers_are_finite_and_named() -> None:
    assert epoch_values(START) == {"val_loss": 0.7, "val_auroc": 0.75, "val_balanced_accuracy": 0.6}
    assert result_values(METRICS) == {"test/macro_auroc": 0.9, "test/macro_auroc_probe": 0.8}


def assert_no_path(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not any(b"secret-folder" in path.read_bytes() for path in files)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "first"))
    events.Reload()
    assert [e.step for e in events.Scalars("val_loss")] == [0, 1]
    assert [e.value for e in events.Scalars("val_loss")] == pytest.approx([0.7, 0.6])
    assert [e.value for e in events.Scalars("test/macro_auroc")] == [pytest.approx(0.9)]
    assert_no_path(tmp_path)
    follow(f"tensorboard={tmp_path / 'mine'}", tmp_path)
    assert (tmp_path / "mine" / "first").is_dir()
    with pytest.raises(ConfigError, match="TensorBoard reads a folder"):
        follow("tensorboard=https://example.org", tmp_path)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_mlflow(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    pytest.importorskip("alembic", reason="alembic is not installed")
    from mlflow import MlflowClient

    follow("mlflow", tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shpeft")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["training.epochs"] == "2"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "val_loss")] == [0.7, 0.6]
    assert run.data.metrics["test/macro_auroc"] == pytest.approx(0.9)
    assert_no_path(tmp_path)


def test_wandb_stays_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    follow("wandb", tmp_path)
    [file] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"val_loss" in file.read_bytes()
    assert_no_path(tmp_path)


def test_a_run_without_results_is_aborted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = list[str]()

    class Fake(tracking.Untracked):
        def abort(self) -> None:
            calls.append("abort")

    monkeypatch.setitem(TRACKERS, "fake", lambda *_: Fake())
    with pytest.raises(KeyboardInterrupt), tracked("fake", "first", CONFIG, tmp_path):
        raise KeyboardInterrupt
    assert calls == ["abort"]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_an_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorboard", "mlflow", "wandb", "trackio", "alembic", "sqlalchemy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'shpeft\[{name}\]'"):
        follow(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no tracker 'tensorbord'\. Did you mean tensorboard"):
        follow("tensorbord", tmp_path)


def test_trackio_takes_a_space_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict[str, Any]()

    class Module(ModuleType):
        def init(self, **options: Any) -> "Module":
            given.update(options)
            return self

        def finish(self) -> None:
            given["ended"] = True

    monkeypatch.setitem(sys.modules, "trackio", Module("trackio"))
    with pytest.raises(ConfigError, match="in a folder of its own, which TRACKIO_DIR names, or in a Space"):
        follow("trackio=results/first", tmp_path)
    assert given == {}  # nothing was begun, and nothing sent
    with tracked("trackio=https://huggingface.co/spaces/me/runs", "first", CONFIG, tmp_path) as tracker:
        tracker.abort()
    assert (given["space_id"], given["ended"]) == ("me/runs", True)
