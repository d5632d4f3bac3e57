"""Runs that another process carries out: the same bytes, and an end of that process that ends nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.jobs import JobManager
from shpeft.jobs import manager as manager_of
from shpeft.jobs.process_engine import ProcessEngine
from shpeft.jobs.worker import work
from shpeft.runs import RunFolder, deleted_runs
from tests.helpers.app_pages import TINY
from tests.helpers.background_jobs import epochs, until, until_ended
from tests.helpers.command_line import TINY as TINY_YAML
from tests.helpers.command_line import shpeft

CONFIG = RunConfig()
ENDLESS = RunConfig.parse(TINY | {"training": {"epochs": 1000, "batch_size": 8}})


STAND_IN = """
import sys, time
from shpeft.errors import DatasetError
from shpeft.runs import RunFolder
folder = RunFolder.open(sys.argv[1])
if folder.config.seed == 2:
    sys.exit(3)
with folder.state.recording():
    if folder.config.seed == 1:
        raise DatasetError("No images.")
    for step in range(10_000):
        folder.state.record_progress("Working", step, 10_000, interval=0.1)
        time.sleep(0.05)
"""
"""A worker without torch, which takes seconds to import."""


class WatchedEngine(ProcessEngine):
    """A process engine that remembers its processes."""

    def __init__(self, worker: str | None = None) -> None:
        self.worker = worker
        self.processes: list[subprocess.Popen[bytes]] = []

    def submit(self, command: Sequence[str], device: str) -> "subprocess.Popen[bytes]":
        if self.worker is None:
            process = super().submit(command, device)
        else:
            stand_in = [sys.executable, "-c", self.worker, *command[1:]]
            process = subprocess.Popen(stand_in, start_new_session=True, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process


@pytest.fixture
def engine() -> WatchedEngine:
    return WatchedEngine()


@pytest.fixture
def manager(tmp_path: Path, engine: WatchedEngine) -> Iterator[JobManager]:
    manager = JobManager(tmp_path / "runs", engine=engine)
    yield manager
    manager.shutdown()
    assert all(process.poll() is not None for process in engine.processes)


@pytest.fixture
def stand_in(manager: JobManager, engine: WatchedEngine) -> JobManager:
    engine.worker = STAND_IN
    return manager


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_process_leaves_a_run_that_resumes(manager: JobManager, engine: WatchedEngine) -> None:
    run = manager.submit(ENDLESS)
    until(lambda: epochs(manager, run) >= 2)
    engine.processes[-1].send_signal(signal.SIGKILL)
    killed = until_ended(manager, run)
    assert killed.status == "interrupted"
    assert "killed by signal 9, as the system does where memory runs out" in killed.message
    assert "Resume it" in killed.message
    before = epochs(manager, run)
    manager.resume(run)
    until(lambda: epochs(manager, run) > before)
    manager.stop(run)
    stopped = until_ended(manager, run)
    assert stopped.status == "finished"
    assert "Stopped after epoch" in stopped.message


def test_a_discarded_run_ends_its_process(stand_in: JobManager, engine: WatchedEngine, tmp_path: Path) -> None:
    run = stand_in.submit(CONFIG)
    until(lambda: stand_in.snapshot(run).stage == "Working")
    stand_in.discard(run)
    until(lambda: deleted_runs(tmp_path / "runs"))
    assert engine.processes[-1].poll() is not None
    assert stand_in.active() is None


def test_the_end_of_the_app_interrupts_the_run(stand_in: JobManager, tmp_path: Path) -> None:
    run = stand_in.submit(CONFIG)
    until(lambda: stand_in.snapshot(run).stage == "Working")
    stand_in.shutdown()
    assert RunFolder.open(tmp_path / "runs" / run).state.status == "interrupted"


def test_what_fails_in_the_process_is_the_message_of_the_run(stand_in: JobManager) -> None:
    snapshot = until_ended(stand_in, stand_in.submit(CONFIG.model_copy(update={"seed": 1})))
    assert (snapshot.status, snapshot.message) == ("failed", "No images.")


def test_a_process_that_ends_at_once_is_reported(stand_in: JobManager) -> None:
    snapshot = until_ended(stand_in, stand_in.submit(CONFIG.model_copy(update={"seed": 2})))
    assert snapshot.status == "interrupted"
    assert "is gone (exit code 3). No epoch was over yet." in snapshot.message


def test_a_run_that_no_engine_takes_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(self: ProcessEngine, command: Sequence[str], device: str) -> None:
        raise RunError("No cluster answers.")

    monkeypatch.setattr(ProcessEngine, "submit", submit)
    manager = JobManager(tmp_path, engine=ProcessEngine())
    snapshot = until_ended(manager, manager.submit(CONFIG))
    assert (snapshot.status, snapshot.message) == ("interrupted", "No cluster answers.")
    manager.shutdown()


def test_a_worker_whose_watcher_is_gone_interrupts_its_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig.parse(TINY))
    folder.state.unlock()
    work(folder.path, alive=lambda: False)
    state = folder.state.read()
    assert (state.status, state.message) == ("interrupted", "The process that watched it is gone.")


@pytest.mark.slow
def test_a_process_arrives_at_the_bytes_of_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    for engine in ("thread", "process"):
        command = ["finetune", "--config", tmp_path / "tiny.yaml", "--out", tmp_path / engine, "--engine", engine]
        assert f"Run folder: {tmp_path / engine}" in shpeft(*command).stdout
    thread, process = (RunFolder.open(tmp_path / engine) for engine in ("thread", "process"))
    assert process.delta_path.read_bytes() == thread.delta_path.read_bytes()
    assert len(process.history.read()) == len(thread.history.read()) > 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--engine", "slurm"],
            "There is no engine 'slurm'. The engines are thread, process, ray and ray://HOST:PORT.",
        ),
        (["--engine", "process", "--seeds", "0..1"], "The engine process carries out one run"),
    ],
)
def test_engines_that_cannot_are_refused(options: list[str], sentence: str, tmp_path: Path) -> None:
    refused = shpeft("finetune", "--out", tmp_path / "run", *options, code=2)
    assert sentence in refused.stderr
    assert not (tmp_path / "run").exists()


def test_the_engine_of_the_app_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHPEFT_ENGINE", "process")
    app = manager_of(tmp_path)
    run = app.submit(RunConfig.parse(TINY))
    until(lambda: app.snapshot(run).stage == "Starting a process")
    app.discard(run)
    until(lambda: app.active() is None)
