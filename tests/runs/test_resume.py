"""A resumed run gives the numbers of an uninterrupted one, and checkpoints that do not match are refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.datasets import load_dataset
from shpeft.errors import Cancelled, CheckpointMismatch, RunError, ShpeftError
from shpeft.linear_probe import Head
from shpeft.pipeline import setup
from shpeft.runs import Interrupted, RunFolder
from shpeft.runs.checkpoint import FOLDER as CHECKPOINT
from shpeft.runs.checkpoint import checkpoint_bytes, parse_checkpoint
from shpeft.training.checkpoint import Checkpoint
from shpeft.training.loop import EpochReport
from tests.helpers.command_line import TINY, shpeft
from tests.helpers.run_metrics import metrics_of

EXACT = ("delta.safetensors", "support.safetensors", "predictions.csv", "predictions_val.csv", "trust.json")
"""Files that must be the same to the byte."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    raw = RunConfig.from_yaml(path).model_dump()
    raw["selection"]["scope"] = "last:2"  # blocks below are cached
    raw["training"] |= {"epochs": 4, "lr": 1e-2, "augment": "flip"}
    return RunConfig.parse(raw)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run without interruption."""
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "whole", config)
    pipeline.run(config, folder)
    return folder


def interrupted(path: Path, config: RunConfig, at: str, error: type[BaseException] = Interrupted) -> RunFolder:
    """Return a run that was interrupted at the beginning of a stage."""
    folder = RunFolder.create(path, config)

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith(at):
            raise error

    with pytest.raises(error):
        pipeline.run(config, folder, progress=progress)
    return RunFolder.open(path)


def assert_same(resumed: RunFolder, expected: RunFolder) -> None:
    """Check that all results are the same, except seconds."""
    for name in EXACT:
        assert (resumed.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    ours, theirs = ({**metrics_of(run), "seconds": None} for run in (resumed, expected))
    assert ours == theirs
    for mine, its in zip(resumed.history.read(), expected.history.read(), strict=True):
        assert str(mine) == str(its)
        assert (mine.loss, mine.val_loss, mine.best) == (its.loss, its.val_loss, its.best)
    assert resumed.state.status == "finished"
    assert not (resumed.path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("at", "epochs"), [("Scoring", 0), ("Fine-tuning, epoch 2", 1), ("Fine-tuning, epoch 4", 3), ("Calibrating", 4)]
)
def test_a_resumed_run_gives_the_same_numbers(
    config: RunConfig, whole: RunFolder, tmp_path: Path, at: str, epochs: int
) -> None:
    folder = interrupted(tmp_path / "run", config, at)
    assert folder.state.status == "interrupted"
    assert [report.epoch for report in folder.history.read()] == ([*range(epochs + 1)] if epochs else [])
    reports: list[EpochReport] = []
    pipeline.run(folder.config, folder, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [0, 1, 2, 3, 4]
    assert folder.state.read().message == ""
    assert_same(folder, whole)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_numbers(config: RunConfig, whole: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    code = (
        "import sys, time, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from shpeft import pipeline; from shpeft.config.schema import RunConfig; from shpeft.runs import RunFolder\n"
        "config = RunConfig.from_yaml('run.yaml')\n"
        "def progress(stage, done, total):\n"
        "    if stage.startswith('Fine-tuning, epoch 3'): print('epoch 3', flush=True); time.sleep(60)\n"
        "pipeline.run(config, RunFolder.create(sys.argv[1], config), progress=progress)"
    )
    command = [sys.executable, "-c", code, "run", str(torch.get_num_threads())]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "epoch 3"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.state.status, folder.state.read().resumable) == ("interrupted", True)
    assert folder.history.read()[-1].epoch == 2
    pipeline.run(folder.config, folder)
    assert_same(folder, whole)


def test_the_checkpoint_is_small_and_contains_no_local_path(config: RunConfig, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    [file] = (folder.path / CHECKPOINT).iterdir()
    assert file.stat().st_size < 20_000  # three times 40 values and a head of 3 classes, twice
    assert str(tmp_path).encode() not in file.read_bytes()


def test_stopping_early_writes_every_file(config: RunConfig, whole: RunFolder, tmp_path: Path) -> None:
    folder, reports = RunFolder.create(tmp_path / "run", config), list[EpochReport]()
    pipeline.run(config, folder, on_epoch=reports.append, stop=lambda: len(reports) == 3)
    assert folder.state.status == "finished"
    assert folder.state.read().message == "Stopped after epoch 2 of 4."
    assert {entry.name for entry in folder.path.iterdir()} == {entry.name for entry in whole.path.iterdir()}
    assert "2 epochs (stopped; 4 were planned)" in (folder.path / "README.md").read_text()
    assert [str(report) for report in folder.history.read()] == [str(report) for report in whole.history.read()[:3]]
    assert pipeline.load_run(folder, "cpu").delta.k == 40


def test_a_different_number_of_threads_is_reported(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(tmp_path / "run", config, "Calibrating", Cancelled)
    assert (folder.state.status, folder.state.read().resumable) == ("cancelled", True)
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    pipeline.run(folder.config, folder)
    assert "another number of threads" in folder.state.read().message


def test_different_images_are_refused_and_the_checkpoint_remains(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    monkeypatch.setattr(
        setup, "load_dataset", lambda source, **rest: load_dataset("phantom:fundus?n=51&size=32", **rest)
    )
    with pytest.raises(CheckpointMismatch, match="is of other images"):
        pipeline.run(folder.config, folder)
    assert "other images" in folder.state.read().message
    monkeypatch.undo()
    pipeline.run(folder.config, folder)
    assert folder.state.status == "finished"


def test_a_changed_configuration_and_a_damaged_checkpoint_are_refused(config: RunConfig, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    text = (folder.path / "config.yaml").read_text()
    (folder.path / "config.yaml").write_text(text.replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(RunError, match="was changed after its last checkpoint"):
        RunFolder.open(folder.path).checkpoint.read()
    (folder.path / "config.yaml").write_text(text)
    [file] = (folder.path / CHECKPOINT).iterdir()
    data = file.read_bytes()
    for damaged in (b"", b"{}", data[:400], data[:-9]):
        file.write_bytes(damaged)
        with pytest.raises(ShpeftError, match="checkpoint"):
            folder.checkpoint.read()


def test_the_command_line_resumes(config: RunConfig, whole: RunFolder, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 3")
    assert (
        "its own settings: leave out --epochs"
        in shpeft("finetune", "--resume", folder.path, "--epochs", 9, code=2).stderr
    )
    metrics = json.loads(shpeft("finetune", "--resume", folder.path, "--json").stdout)
    assert metrics["training"] == metrics_of(whole)["training"]
    assert_same(folder, whole)
    assert "nothing to resume" in shpeft("finetune", "--resume", folder.path, code=2).stderr
    assert "There is no run" in shpeft("finetune", "--resume", tmp_path / "none", code=2).stderr


@pytest.mark.parametrize("complete", [True, False])
def test_a_checkpoint_file_has_the_mean_and_the_factors(config: RunConfig, complete: bool) -> None:
    def head(number: float) -> Head:
        return Head(torch.full((2, 3), number), torch.full((2,), number))

    history = tuple(EpochReport(epoch, 4, float(epoch), 0.5, 0.8, 0.7, 1.0, True) for epoch in (1, 2))
    state = (torch.arange(5.0), head(1), torch.ones(5), head(2), ({"step": torch.tensor(3.0)},), history)
    checkpoint = Checkpoint("base", ("a", "b", "c"), *state)
    if complete:
        checkpoint = replace(checkpoint, mean_values=torch.rand(5), mean_head=head(3), lr_scale=torch.rand(5))
    restored = parse_checkpoint(checkpoint_bytes(checkpoint, config, "score")).checkpoint
    assert restored.history == history
    for name in ("values", "best_values", "mean_values", "lr_scale"):
        ours, theirs = getattr(restored, name), getattr(checkpoint, name)
        assert (ours is None) is (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    assert (restored.mean_head is None) is not complete
    assert restored.mean_head is None or restored.mean_head.equals(head(3))
