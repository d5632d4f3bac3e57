"""Run folders: creation, opening and the states of a run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import platformdirs
import pytest

from shpeft.config.schema import RunConfig
from shpeft.errors import Cancelled, DatasetError, Interrupted, RunError
from shpeft.runs import RunFolder, damaged_runs, find_run, list_runs, new_run, runs_root

CONFIG = RunConfig()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


def entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


# -- creation and opening


def test_a_new_run_is_queued_and_reopens(folder: RunFolder) -> None:
    again = RunFolder.open(folder.path)
    assert again.config == CONFIG
    assert again.state.status == "queued"
    assert entries(folder.path) == {".lock", "config.yaml", "state.json"}


def test_an_empty_folder_is_fine_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", CONFIG).name == "empty"
    assert RunFolder.create(tmp_path / "a" / "b", CONFIG).name == "b"


def test_what_a_process_leaves_that_is_killed_while_it_makes_a_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".lock", ".config.yaml.0a1b2c3d.tmp"):
        (tmp_path / "run" / name).touch()
    RunFolder.create(tmp_path / "run", CONFIG).state.unlock()
    assert entries(tmp_path / "run") - {".lock"} == {"config.yaml", "state.json"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_without_a_run_is_not_changed(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty and holds no run"):
        RunFolder.create(tmp_path / "mine", CONFIG, overwrite=overwrite)
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "mine" / "thesis.txt", CONFIG, overwrite=overwrite)
    assert entries(tmp_path / "mine") == {"thesis.txt"}


def test_overwriting_deletes_only_the_files_of_the_old_run(folder: RunFolder) -> None:
    folder.metrics.write({"old": 1})
    (folder.path / "notes.txt").write_text("mine")
    folder.state.unlock()
    with pytest.raises(RunError, match="--overwrite"):
        RunFolder.create(folder.path, CONFIG)
    new = RunFolder.create(folder.path, CONFIG, overwrite=True)
    assert new.metrics.read() is None
    assert (folder.path / "notes.txt").exists()


def test_a_live_run_is_not_overwritten(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="being worked on"):
        RunFolder.create(folder.path, CONFIG, overwrite=True)
    assert folder.state.status == "queued"


def test_runs_get_free_names_and_invalid_names_are_refused(tmp_path: Path) -> None:
    first = new_run(CONFIG, tmp_path)
    second = new_run(CONFIG, tmp_path)
    assert first.name == f"{time.strftime('%Y-%m-%d')}_fundus_1"
    assert second.name.endswith("_fundus_2")
    odd = CONFIG.model_copy(update={"dataset": CONFIG.dataset.model_copy(update={"source": "/data/My Scans (B)"})})
    assert new_run(odd, tmp_path).name.endswith("_my-scans-b_1")
    for name in ("../up", "a/b", ".hidden", "", "x" * 81):
        with pytest.raises(RunError, match="cannot be a run's name"):
            find_run(name, tmp_path)


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    config = RunConfig.parse({"dataset": {"source": "scans"}, "backbone": {"weights": "gone.safetensors"}})
    made = RunFolder.create("run", config).config
    assert made.dataset.source == str(tmp_path / "scans")
    assert made.backbone.weights == "gone.safetensors"


def test_root_is_the_variable_then_an_existing_folder_then_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHPEFT_RUNS", "/somewhere")
    assert runs_root() == Path("/somewhere")
    monkeypatch.delenv("SHPEFT_RUNS")
    assert runs_root() == platformdirs.user_data_path("shpeft", appauthor=False) / "runs"
    assert runs_root().is_absolute()
    (tmp_path / "runs").mkdir()
    assert runs_root() == Path("runs")


# -- states


def test_a_run_without_an_error_is_finished(folder: RunFolder) -> None:
    with folder.state.recording():
        during = folder.state.status
        assert folder.state.read().pid == os.getpid()
    assert (during, folder.state.status) == ("running", "finished")
    with pytest.raises(RunError, match="is finished and cannot become running"), folder.state.recording():
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
def test_the_end_of_a_run_is_recorded(folder: RunFolder, error: BaseException, status: str, message: str) -> None:
    with pytest.raises(type(error)), folder.state.recording():
        raise error
    assert folder.state.status == status
    assert message in folder.state.read().message
    assert (folder.path / "error.log").exists() == (status == "failed" and "bug" in message)


def test_the_log_of_a_bug_has_the_code_but_no_image(folder: RunFolder) -> None:
    image = "/ward 3/Doe John 1957.png"
    with pytest.raises(FileNotFoundError), folder.state.recording():
        Path(image).read_bytes()
    with_path = (folder.path / "error.log").read_text()
    assert "test_folder.py" in with_path
    assert "FileNotFoundError" in with_path
    assert "Doe" not in with_path
    assert "ward" not in with_path


@pytest.mark.parametrize(
    "message", ["cannot open Doe_John.dcm now", "in '/a b/Doe.tif'", r"C:\x\Doe.jpg", 'bad "Doe J.png"']
)
def test_image_names_are_removed_from_the_log(folder: RunFolder, message: str) -> None:
    with pytest.raises(RuntimeError), folder.state.recording():
        raise RuntimeError(message)
    assert "Doe" not in (folder.path / "error.log").read_text()


def test_progress_is_written_at_most_once_a_second(folder: RunFolder) -> None:
    with folder.state.recording():
        folder.state.record_progress("Fine-tuning", 1, 9)
        folder.state.record_progress("Fine-tuning", 2, 9)
        assert folder.state.read().done == 1
        folder.state.record_progress("Fine-tuning", 3, 9, interval=0)
        assert (folder.state.read().stage, folder.state.read().done, folder.state.read().total) == ("Fine-tuning", 3, 9)


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    code = (
        "import sys; from shpeft.config.schema import RunConfig; from shpeft.runs import RunFolder\n"
        "folder = RunFolder.create(sys.argv[1], RunConfig())\n"
        "with folder.state.recording():\n    print('running', flush=True); input()"
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
    with RunFolder.open(path).state.recording():  # it can be resumed
        pass
    assert RunFolder.open(path).state.status == "finished"


@pytest.mark.parametrize(
    "text",
    ["seed: !!float x", "seed: 2026-11-23", "training: {lr: .inf}", "a: &a [*a]", "[" * 50_000, "\0", "seed: {[]: 1}"],
    ids=range(7),
)
def test_a_hostile_configuration_damages_its_own_run_alone(tmp_path: Path, text: str) -> None:
    for name in ("good", "bad"):
        RunFolder.create(tmp_path / name, RunConfig()).state.unlock()
    (tmp_path / "bad" / "config.yaml").write_text(text)
    assert [run.name for run in list_runs(tmp_path)] == ["good"]
    assert list(damaged_runs(tmp_path)) == ["bad"]


@pytest.mark.parametrize("name", ["state.json", "metrics.json", "trust.json"])
@pytest.mark.parametrize("text", ['{"a": Infinity}', "[" * 100_000, '{"format": 1, "format": 2}'], ids=range(3))
def test_a_hostile_file_is_a_damaged_run(tmp_path: Path, name: str, text: str) -> None:
    run = RunFolder.create(tmp_path / "run", RunConfig())
    run.state.unlock()
    (run.path / name).write_text(text)
    with pytest.raises(RunError, match=f"damaged: {name}"):
        {"state.json": run.state.read, "metrics.json": run.metrics.read, "trust.json": run.reliability.read}[name]()
