"""Background jobs: the order of runs, stopping, discarding, resuming, and the end of the process."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shpeft.config.schema import RunConfig
from shpeft.errors import DatasetError, RunError
from shpeft.jobs import JobManager
from shpeft.runs import RunFolder, deleted_runs, list_runs, restore_run
from shpeft.support.atomic_files import is_locked
from shpeft.support.progress import Progress
from shpeft.training.loop import EpochReport
from tests.helpers.app_pages import TINY
from tests.helpers.background_jobs import until, until_ended

CONFIG = RunConfig()
Make = Callable[..., JobManager]
"""Create a manager from a recipe and the options of `JobManager`."""


class Recipe:
    """A recipe that waits for a gate at each step and records the runs."""

    def __init__(self, steps: int = 3, error: BaseException | None = None, gate: threading.Event | None = None) -> None:
        self.steps, self.error, self.gate = steps, error, gate
        self.ran: list[tuple[str, int]] = []
        self.together = self.most = 0
        self.started = threading.Event()

    def __call__(
        self, config: RunConfig, folder: RunFolder, *, progress: Progress, on_epoch: Any, stop: Callable[[], bool]
    ) -> None:
        with folder.state.recording():
            self.ran.append((folder.name, config.seed))
            self.together += 1
            self.most = max(self.most, self.together)
            self.started.set()
            try:
                for step in range(self.steps):
                    progress("Working", step, self.steps)
                    if self.error:
                        raise self.error
                    while self.gate is not None and not self.gate.wait(0.01):
                        progress("Waiting", step, self.steps)
            finally:
                self.together -= 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    managers = []

    def make(recipe: Any, **options: Any) -> JobManager:
        manager = JobManager(tmp_path, execute=recipe, device_of=options.pop("device_of", lambda device: device))
        managers.append(manager)
        return manager

    yield make
    for manager in managers:
        manager.shutdown(5)
        assert not manager._devices.alive


def test_a_job_runs_and_finishes(make: Make, tmp_path: Path) -> None:
    manager = make(Recipe())
    run = manager.submit(CONFIG, "first")
    snapshot = until_ended(manager, run)
    assert (run, snapshot.status, snapshot.fraction) == ("first", "finished", 1.0)
    assert RunFolder.open(tmp_path / "first").state.status == "finished"
    assert manager.active() is None


def test_two_submits_queue_and_run_in_order(make: Make) -> None:
    gate = threading.Event()
    recipe = Recipe(gate=gate)
    manager = make(recipe)
    first, second = manager.submit(CONFIG), manager.submit(CONFIG.model_copy(update={"seed": 7}))
    assert recipe.started.wait(60)
    assert first != second
    assert (manager.active(), manager.queue()) == (first, (second,))
    assert manager.snapshot(second).status == "queued"
    gate.set()
    assert until_ended(manager, second).status == "finished"
    assert recipe.ran == [(first, 0), (second, 7)]
    assert recipe.most == 1


def test_jobs_of_two_devices_run_together(make: Make) -> None:
    gate = threading.Event()
    recipe = Recipe(gate=gate)
    manager = make(recipe)
    runs = [manager.submit(CONFIG.model_copy(update={"device": device})) for device in ("cpu", "cuda:0")]
    deadline = time.monotonic() + 60
    while recipe.together < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert recipe.most == 2
    gate.set()
    assert {until_ended(manager, run).status for run in runs} == {"finished"}


def test_a_running_job_is_discarded_at_its_next_step_and_moves_to_the_trash(make: Make, tmp_path: Path) -> None:
    recipe = Recipe(gate=threading.Event())
    manager = make(recipe)
    run = manager.submit(CONFIG)
    assert recipe.started.wait(60)
    begin = time.monotonic()
    manager.discard(run)
    assert run not in [folder.name for folder in list_runs(tmp_path)] or manager.snapshot(run).end_request == "discard"
    until(lambda: deleted_runs(tmp_path))
    assert time.monotonic() - begin < 20
    assert not (tmp_path / run).exists()
    until(lambda: manager.active() is None)
    assert restore_run(deleted_runs(tmp_path)[0]).state.status == "cancelled"


def test_a_run_gives_way_to_what_somebody_waits_for(make: Make) -> None:
    def recipe(
        config: RunConfig, folder: RunFolder, *, progress: Progress, on_epoch: Any, stop: Callable[[], bool]
    ) -> None:
        with folder.state.recording():
            for step in range(1_000_000):
                progress("Fine-tuning", step, 1_000_000)
                time.sleep(0.001)

    manager = make(recipe)
    run = manager.submit(CONFIG)
    until(lambda: manager.snapshot(run).done > 0)
    with manager.right_of_way.claimed():
        time.sleep(0.05)  # the step under way
        at = manager.snapshot(run).done
        time.sleep(0.1)
        assert manager.snapshot(run).done == at
    until(lambda: manager.snapshot(run).done > at)
    with manager.right_of_way.claimed():
        begin = time.monotonic()
        manager.discard(run)
        until(lambda: manager.active() is None)
        assert time.monotonic() - begin < 20  # not at the end of the request


def test_interruptions_do_not_change_a_bit(tmp_path: Path) -> None:
    deltas = []
    for name in ("alone", "interrupted"):
        manager, config = JobManager(tmp_path / name), RunConfig.parse(TINY)
        run, waits = manager.submit(config, "first"), 0
        while manager.snapshot(run).status in ("queued", "running"):
            if name == "interrupted":
                with manager.right_of_way.claimed():
                    time.sleep(0.02)
                waits += 1
            time.sleep(0.01)
        assert manager.snapshot(run).status == "finished"
        assert waits > 5 or name == "alone"
        deltas.append((tmp_path / name / "first" / "delta.safetensors").read_bytes())
        manager.shutdown(5)
    assert deltas[0] == deltas[1]


def test_a_discarded_queued_job_never_runs(make: Make, tmp_path: Path) -> None:
    gate = threading.Event()
    recipe = Recipe(gate=gate)
    manager = make(recipe)
    first, second, third = (manager.submit(CONFIG) for _ in range(3))
    assert recipe.started.wait(60)
    assert manager.ahead(third) == (first, second)
    manager.discard(second)
    assert not (tmp_path / second).exists()
    assert (manager.queue(), manager.ahead(third)) == ((third,), (first,))
    gate.set()
    assert until_ended(manager, third).status == "finished"
    assert [name for name, _ in recipe.ran] == [first, third]


def test_a_request_to_stop_shows_at_once(make: Make) -> None:
    def recipe(
        config: RunConfig, folder: RunFolder, *, progress: Progress, on_epoch: Any, stop: Callable[[], bool]
    ) -> None:
        with folder.state.recording() as remarks:
            on_epoch(EpochReport(1, 2, 0.5, 0.6, 0.8, 0.7, 1.0, True))
            while not stop():
                progress("Fine-tuning", 1, 2)
            asked.set()
            assert go.wait(60)
            remarks.append("Stopped after epoch 1 of 2.")

    asked, go = threading.Event(), threading.Event()
    manager = make(recipe)
    run = manager.submit(CONFIG)
    until(lambda: len(manager.snapshot(run).history) == 1)
    manager.stop(run)
    assert manager.snapshot(run).end_request == "stop"
    assert asked.wait(60)
    go.set()
    snapshot = until_ended(manager, run)
    assert (snapshot.status, snapshot.message) == ("finished", "Stopped after epoch 1 of 2.")


def test_a_run_stopped_before_its_first_epoch_can_be_resumed(make: Make, tmp_path: Path) -> None:
    def recipe(
        config: RunConfig, folder: RunFolder, *, progress: Progress, on_epoch: Any, stop: Callable[[], bool]
    ) -> None:
        with folder.state.recording():
            while not go.wait(0.01):
                progress("Reading the images", 1, 2)

    go = threading.Event()
    manager = make(recipe)
    run = manager.submit(CONFIG)
    until(lambda: manager.snapshot(run).stage == "Reading the images")
    manager.stop(run)
    assert until_ended(manager, run).status == "cancelled"
    assert (tmp_path / run).exists()
    go.set()
    manager.resume(run)
    assert until_ended(manager, run).status == "finished"


def test_another_process_ends_running_and_waiting_jobs(make: Make, tmp_path: Path) -> None:
    recipe = Recipe(gate=threading.Event())
    manager, elsewhere = make(recipe), make(Recipe())
    running, waiting = manager.submit(CONFIG, "a"), manager.submit(CONFIG, "b")
    assert recipe.started.wait(60)
    with pytest.raises(RunError, match="nothing to keep"):
        RunFolder.open(tmp_path / running).state.request_end("stop")
    (tmp_path / running / "checkpoint").mkdir()
    (tmp_path / running / "checkpoint" / "last.safetensors").touch()  # as after an epoch
    elsewhere.stop(running)
    until(lambda: manager.snapshot(running).end_request == "stop")
    assert elsewhere.snapshot(running).end_request == "stop"
    elsewhere.discard(waiting)
    until(lambda: not manager.queue())
    elsewhere.discard(running)
    until(lambda: len(deleted_runs(tmp_path)) == 2)
    assert [name for name, _ in recipe.ran] == [running]


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(make: Make, tmp_path: Path) -> None:
    recipe = Recipe(error=DatasetError("No images."))
    manager = make(recipe)
    run = manager.submit(CONFIG)
    assert until_ended(manager, run).status == "failed"
    recipe.error, recipe.gate = None, threading.Event()
    manager.resume(run)
    with pytest.raises(RunError, match="being worked on"):
        manager.resume(run)
    until(lambda: manager.snapshot(run).status == "running")
    recipe.gate.set()
    assert until_ended(manager, run).status == "finished"
    with pytest.raises(RunError, match="is finished and cannot become queued"):
        manager.resume(run)
    assert not is_locked(tmp_path / run / ".lock")


@pytest.mark.parametrize(
    ("error", "message"),
    [(DatasetError("No images."), "No images."), (ZeroDivisionError("x"), "bug"), (SystemExit(), "")],
)
def test_an_exception_ends_the_run_but_not_the_worker(make: Make, error: BaseException, message: str) -> None:
    recipe = Recipe(error=error)
    manager = make(recipe)
    failed = until_ended(manager, manager.submit(CONFIG))
    assert failed.status in ("failed", "cancelled")
    assert message in failed.message
    recipe.error = None
    assert until_ended(manager, manager.submit(CONFIG)).status == "finished"


def test_a_recipe_without_a_final_state_has_failed(make: Make) -> None:
    def forgetful(config: RunConfig, folder: RunFolder, **_: Any) -> None:
        folder.state.change("running")

    manager = make(forgetful)
    snapshot = until_ended(manager, manager.submit(CONFIG))
    assert (snapshot.status, snapshot.message) == ("failed", "The run ended without recording its state.")


def test_shutdown_joins_and_interrupts(make: Make, tmp_path: Path) -> None:
    recipe = Recipe(gate=threading.Event())
    manager = make(recipe)
    running, waiting = manager.submit(CONFIG), manager.submit(CONFIG)
    assert recipe.started.wait(60)
    manager.shutdown(5)
    assert not manager._devices.alive
    assert RunFolder.open(tmp_path / running).state.status == "interrupted"
    assert RunFolder.open(tmp_path / waiting).state.status == "interrupted"
    with pytest.raises(RunError, match="closing"):
        manager.submit(CONFIG)


def test_progress_never_goes_back_and_epochs_arrive(make: Make) -> None:
    seen, release = threading.Event(), threading.Event()
    report = EpochReport(1, 2, 0.5, 0.5, 0.5, 0.5, 1.0, best=True)

    def recipe(config: RunConfig, folder: RunFolder, *, progress: Progress, on_epoch: Any, **_: Any) -> None:
        with folder.state.recording():
            progress("Far", 8, 10)
            on_epoch(report)
            progress("Near", 3, 10)
            seen.set()
            release.wait(60)

    manager = make(recipe)
    run = manager.submit(CONFIG)
    assert seen.wait(60)
    snapshot = manager.snapshot(run)
    assert (snapshot.stage, snapshot.done, snapshot.fraction, snapshot.history) == ("Near", 3, 0.8, (report,))
    release.set()
    until_ended(manager, run)


def test_a_run_of_an_earlier_process_is_read_from_disk(make: Make, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "old", CONFIG)
    with folder.state.recording():
        pass
    snapshot = make(Recipe()).snapshot("old")
    assert (snapshot.status, snapshot.fraction) == ("finished", 1.0)


@pytest.mark.parametrize("name", ["none", "../secret", "", "a/b"])
def test_unknown_runs_are_refused(make: Make, name: str) -> None:
    with pytest.raises(RunError):
        make(Recipe()).snapshot(name)


def test_ending_an_ended_run_does_nothing(make: Make) -> None:
    manager = make(Recipe())
    run = manager.submit(CONFIG)
    until_ended(manager, run)
    for end in (manager.stop, manager.discard):
        end(run)
        end("never")
    assert manager.snapshot(run).status == "finished"


def test_a_process_that_ends_interrupts_its_worker_before_its_pools_close(tmp_path: Path) -> None:
    code = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shpeft import jobs
from shpeft.config.schema import RunConfig

started = threading.Event()

def recipe(config, folder, *, progress, on_epoch, stop):
    with folder.state.recording(), ThreadPoolExecutor(1) as pool:
        while True:
            progress("Working", 0, 1)
            pool.submit(started.set).result()

manager = jobs.manager(Path(sys.argv[1]))
assert manager is jobs.manager(Path(sys.argv[1]))
manager._execute, manager._device_of = recipe, str
manager.submit(RunConfig(), "run")
assert started.wait(10)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert RunFolder.open(tmp_path / "run").state.status == "interrupted"
