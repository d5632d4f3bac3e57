"""A run that was interrupted anywhere goes on to the numbers of one that was not, and checkpoints that do not fit are
refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shpeft import pipeline
from shpeft.config import RunConfig
from shpeft.errors import Cancelled, CheckpointMismatch, RunError, ShpeftError
from shpeft.runs import Interrupted, RunFolder
from shpeft.runs.state import CHECKPOINT

from .commands import TINY, shpeft

EXACT = ("delta.safetensors", "support.safetensors", "predictions.csv", "predictions_val.csv", "trust.json")
"""Files that must be the same to the byte."""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    raw = RunConfig.from_yaml(path).model_dump()
    raw["selection"]["scope"] = "last:2"  # blocks below are cached
    raw["training"] |= {"epochs": 4, "lr": 1e-2, "augment": "flip"}
    return RunConfig.parse(raw)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> RunFolder:
    """The run that nothing interrupted."""
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "whole", config)
    pipeline.run(config, folder)
    return folder


def interrupted(path: Path, config: RunConfig, at: str, error: type[BaseException] = Interrupted) -> RunFolder:
    """A run that was interrupted when a stage began."""
    folder = RunFolder.create(path, config)

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith(at):
            raise error

    with pytest.raises(error):
        pipeline.run(config, folder, progress=progress)
    return RunFolder.open(path)


def assert_same(found: RunFolder, expected: RunFolder) -> None:
    """Everything that a run says is the same, but for seconds."""
    for name in EXACT:
        assert (found.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    one, other = ({**run.metrics(), "seconds": None} for run in (found, expected))
    assert one == other
    for mine, its in zip(found.history(), expected.history(), strict=True):
        assert str(mine) == str(its)
        assert (mine.loss, mine.val_loss, mine.best) == (its.loss, its.val_loss, its.best)
    assert found.state.status == "finished"
    assert not (found.path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("at", "epochs"), [("Scoring", 0), ("Fine-tuning, epoch 2", 1), ("Fine-tuning, epoch 4", 3), ("Calibrating", 4)]
)
def test_interrupted_anywhere_it_ends_at_the_same_numbers(config, whole, tmp_path, at, epochs):
    folder = interrupted(tmp_path / "run", config, at)
    assert folder.state.status == "interrupted"
    assert len(folder.history()) == epochs
    told = []
    pipeline.run(folder.config, folder, on_epoch=told.append)
    assert [report.epoch for report in told] == [1, 2, 3, 4]
    assert folder.state.message == ""
    assert_same(folder, whole)


def test_killed_without_a_word_it_ends_at_the_same_numbers(config, whole, tmp_path):
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    code = (
        "import sys, time, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from shpeft import pipeline; from shpeft.config import RunConfig; from shpeft.runs import RunFolder\n"
        "config = RunConfig.from_yaml('run.yaml')\n"
        "def progress(stage, done, total):\n"
        "    if stage.startswith('Fine-tuning, epoch 3'): print('there', flush=True); time.sleep(60)\n"
        "pipeline.run(config, RunFolder.create(sys.argv[1], config), progress=progress)"
    )
    command = [sys.executable, "-c", code, "run", str(torch.get_num_threads())]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "there"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.state.status, folder.state.resumable, len(folder.history())) == ("interrupted", True, 2)
    pipeline.run(folder.config, folder)
    assert_same(folder, whole)


def test_the_checkpoint_is_small_and_says_nothing_of_a_place(config, tmp_path):
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    [file] = (folder.path / CHECKPOINT).iterdir()
    assert file.stat().st_size < 20_000  # three times 40 values and a head of 3 classes, twice
    assert str(tmp_path).encode() not in file.read_bytes()


def test_stopping_keeps_the_best_epoch_and_writes_everything(config, whole, tmp_path):
    folder, told = RunFolder.create(tmp_path / "run", config), []
    pipeline.run(config, folder, on_epoch=told.append, stop=lambda: len(told) == 2)
    assert folder.state.status == "finished"
    assert folder.state.message == "Stopped after epoch 2 of 4."
    assert {entry.name for entry in folder.path.iterdir()} == {entry.name for entry in whole.path.iterdir()}
    assert "2 epochs (stopped; 4 were planned)" in (folder.path / "README.md").read_text()
    assert [str(report) for report in folder.history()] == [str(report) for report in whole.history()[:2]]
    assert pipeline.load_run(folder, "cpu").delta.k == 40


def test_another_number_of_threads_is_said(config, tmp_path, monkeypatch):
    folder = interrupted(tmp_path / "run", config, "Calibrating", Cancelled)
    assert (folder.state.status, folder.state.resumable) == ("cancelled", True)
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    pipeline.run(folder.config, folder)
    assert "another number of threads" in folder.state.message


def test_other_images_are_refused_and_the_checkpoint_stays(config, tmp_path, monkeypatch):
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    load = pipeline.preparing.load_dataset
    monkeypatch.setattr(
        pipeline.preparing, "load_dataset", lambda source, **rest: load("phantom:fundus?n=51&size=32", **rest)
    )
    with pytest.raises(CheckpointMismatch, match="belongs to other images"):
        pipeline.run(folder.config, folder)
    assert "other images" in folder.state.message
    monkeypatch.undo()
    pipeline.run(folder.config, folder)
    assert folder.state.status == "finished"


def test_another_configuration_and_damage_are_refused(config, tmp_path):
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 2")
    text = (folder.path / "config.yaml").read_text()
    (folder.path / "config.yaml").write_text(text.replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(RunError, match="was changed after its last checkpoint"):
        RunFolder.open(folder.path).resumption()
    (folder.path / "config.yaml").write_text(text)
    [file] = (folder.path / CHECKPOINT).iterdir()
    data = file.read_bytes()
    for damaged in (b"", b"{}", data[:400], data[:-9]):
        file.write_bytes(damaged)
        with pytest.raises(ShpeftError, match="checkpoint"):
            folder.resumption()


def test_the_command_line_resumes(config, whole, tmp_path):
    folder = interrupted(tmp_path / "run", config, "Fine-tuning, epoch 3")
    assert (
        "its own settings: leave out --epochs"
        in shpeft("finetune", "--resume", folder.path, "--epochs", 9, code=2).stderr
    )
    found = json.loads(shpeft("finetune", "--resume", folder.path, "--json").stdout)
    assert found["training"] == whole.metrics()["training"]
    assert_same(folder, whole)
    assert "nothing to resume" in shpeft("finetune", "--resume", folder.path, code=2).stderr
    assert "There is no run" in shpeft("finetune", "--resume", tmp_path / "none", code=2).stderr
