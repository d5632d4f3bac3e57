"""Run folders: made, opened, and how a run stands and ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shpeft.config import RunConfig
from shpeft.errors import Cancelled, DatasetError, RunError
from shpeft.runs import RunFolder, find_run, list_runs, new_run, runs_root
from shpeft.runs.state import Interrupted

CONFIG = RunConfig()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


def entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


# -- making and opening


def test_a_new_run_is_queued_and_reopens(folder):
    again = RunFolder.open(folder.path)
    assert again.config == CONFIG
    assert again.state.status == "queued"
    assert entries(folder.path) == {".lock", "config.yaml", "state.json"}


def test_an_empty_folder_is_fine_and_parents_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", CONFIG).name == "empty"
    assert RunFolder.create(tmp_path / "a" / "b", CONFIG).name == "b"


@pytest.mark.parametrize("overwrite", [False, True])
def test_anything_but_a_run_is_left_alone(tmp_path, overwrite):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty and holds no run"):
        RunFolder.create(tmp_path / "mine", CONFIG, overwrite=overwrite)
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "mine" / "thesis.txt", CONFIG, overwrite=overwrite)
    assert entries(tmp_path / "mine") == {"thesis.txt"}


def test_overwriting_takes_away_the_old_runs_files_only(folder):
    folder.write_metrics({"old": 1})
    (folder.path / "notes.txt").write_text("mine")
    folder.release()
    with pytest.raises(RunError, match="--overwrite"):
        RunFolder.create(folder.path, CONFIG)
    new = RunFolder.create(folder.path, CONFIG, overwrite=True)
    assert new.metrics() is None
    assert (folder.path / "notes.txt").exists()


def test_a_live_run_is_not_overwritten(folder):
    with pytest.raises(RunError, match="being worked on"):
        RunFolder.create(folder.path, CONFIG, overwrite=True)
    assert folder.state.status == "queued"


def test_names(tmp_path):
    one = new_run(CONFIG, tmp_path)
    two = new_run(CONFIG, tmp_path)
    assert one.name == f"{time.strftime('%Y-%m-%d')}_fundus_1"
    assert two.name.endswith("_fundus_2")
    odd = CONFIG.model_copy(update={"dataset": CONFIG.dataset.model_copy(update={"source": "/data/My Scans (B)"})})
    assert new_run(odd, tmp_path).name.endswith("_my-scans-b_1")
    for name in ("../up", "a/b", ".hidden", "", "x" * 81):
        with pytest.raises(RunError, match="cannot be a run's name"):
            find_run(name, tmp_path)


def test_local_places_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    config = RunConfig.parse({"dataset": {"source": "scans"}, "backbone": {"weights": "gone.safetensors"}})
    made = RunFolder.create("run", config).config
    assert made.dataset.source == str(tmp_path / "scans")
    assert made.backbone.weights == "gone.safetensors"


def test_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("SHPEFT_RUNS", "/somewhere")
    assert runs_root() == Path("/somewhere")
    monkeypatch.delenv("SHPEFT_RUNS")
    assert runs_root() == Path("runs")


# -- states


def test_a_run_that_ends_well_is_finished(folder):
    with folder.recording():
        assert folder.state.status == "running"
        assert folder.state.pid == os.getpid()
    assert folder.state.status == "finished"
    with pytest.raises(RunError, match="is finished and cannot become running"), folder.recording():
        pass


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Cancelled(), "cancelled", "Cancelled"),
        (KeyboardInterrupt(), "cancelled", "Cancelled"),
        (Interrupted(), "interrupted", "closed"),
        (DatasetError("Only one class was found."), "failed", "Only one class was found."),
        (ZeroDivisionError("boom"), "failed", "bug in shpeft (ZeroDivisionError)"),
    ],
)
def test_how_a_run_ended_is_written_down(folder, error, status, message):
    with pytest.raises(type(error)), folder.recording():
        raise error
    assert folder.state.status == status
    assert message in folder.state.message
    assert (folder.path / "error.log").exists() == (status == "failed" and "bug" in message)


def test_the_log_of_a_bug_has_the_code_but_no_image(folder):
    image = "/ward 3/Doe John 1957.png"
    with pytest.raises(FileNotFoundError), folder.recording():
        Path(image).read_bytes()
    with_path = (folder.path / "error.log").read_text()
    assert "test_runs.py" in with_path
    assert "FileNotFoundError" in with_path
    assert "Doe" not in with_path
    assert "ward" not in with_path


@pytest.mark.parametrize(
    "message", ["cannot open Doe_John.dcm now", "in '/a b/Doe.tif'", r"C:\x\Doe.jpg", 'bad "Doe J.png"']
)
def test_names_of_images_are_blotted_out(folder, message):
    with pytest.raises(RuntimeError), folder.recording():
        raise RuntimeError(message)
    assert "Doe" not in (folder.path / "error.log").read_text()


def test_progress_is_written_at_most_once_a_second(folder):
    with folder.recording():
        folder.note("Fine-tuning", 1, 9)
        folder.note("Fine-tuning", 2, 9)
        assert folder.state.done == 1
        folder.note("Fine-tuning", 3, 9, every=0)
        assert (folder.state.stage, folder.state.done, folder.state.total) == ("Fine-tuning", 3, 9)


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path):
    code = (
        "import sys; from shpeft.config import RunConfig; from shpeft.runs import RunFolder\n"
        "folder = RunFolder.create(sys.argv[1], RunConfig())\n"
        "with folder.recording():\n    print('running', flush=True); input()"
    )
    path = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "running"
    assert [run.state.status for run in list_runs(tmp_path)] == ["running"]
    process.kill()
    process.communicate()
    assert [run.state.status for run in list_runs(tmp_path)] == ["interrupted"]
    assert json.loads((path / "state.json").read_text())["status"] == "interrupted"
    with RunFolder.open(path).recording():  # and can be taken up again
        pass
    assert RunFolder.open(path).state.status == "finished"
