"""A run in the app: followed, stopped, discarded, resumed, renamed, annotated, exported and compared."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.jobs import JobManager
from shpeft.runs import Interrupted, RunFolder, deleted_runs, export_bytes, find_run, import_run, list_runs
from shpeft.support.progress import Progress
from shpeft.training.loop import EpochReport
from tests.helpers.app_pages import TINY, button_labels, open_page, page_text, press, run_in_address


@pytest.fixture
def held(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobManager]:
    """A job manager whose runs report one epoch and then wait until they are stopped."""
    release = threading.Event()

    def execute(
        config: RunConfig,
        folder: RunFolder,
        *,
        progress: Progress,
        on_epoch: Callable[[EpochReport], None] | None,
        stop: Callable[[], bool],
    ) -> None:

        assert on_epoch is not None
        with folder.state.recording() as remarks:
            on_epoch(EpochReport(1, 3, 0.5, 0.6, 0.8, 0.7, 1.0, True))
            while not release.is_set():
                progress("Fine-tuning, epoch 2 of 3", 1, 3)
                if stop():
                    remarks.append("Stopped after epoch 1 of 3.")
                    return
                release.wait(0.01)

    manager = JobManager(runs, execute=execute, device_of=str)
    monkeypatch.setattr("shpeft.jobs.job_manager._managers", {runs.resolve(): manager})
    yield manager
    release.set()
    manager.shutdown(5)


def run_until(app: AppTest, text: str) -> AppTest:
    """Draw the page again until it shows this text or button."""
    for _ in range(100):
        if text in page_text(app) or text in button_labels(app):
            return app
        threading.Event().wait(0.05)
        app.run()
    raise AssertionError(f"{text!r} is not in {page_text(app)!r}, {button_labels(app)!r}")


def test_a_run_is_stopped_after_its_best_epoch(held: JobManager) -> None:
    name = held.submit(RunConfig())
    app = run_until(open_page("train", name), "Stop and keep the best epoch")
    assert "validation AUROC 0.800" in page_text(app)
    press(app, "Stop and keep the best epoch")
    run_until(app, "Stopped after epoch 1 of 3.")
    assert find_run(name).state.status == "finished"


def test_a_run_is_discarded_and_restored(held: JobManager) -> None:
    name = held.submit(RunConfig())
    app = run_until(open_page("train", name), "Discard")
    press(app, "Discard")
    run_until(app, f"The run {name} is in the trash.")
    assert list_runs() == []
    press(app, "Undo")
    assert run_in_address(app) == name
    assert "Resume" in button_labels(app)
    press(app, "Resume")
    assert held.snapshot(name).status in ("queued", "running")


def test_the_queue_is_in_order_and_a_run_can_be_removed(held: JobManager) -> None:
    first, second, third = (held.submit(RunConfig()) for _ in range(3))
    app = run_until(open_page("train"), "number 2 in the queue")
    text = page_text(app)
    assert text.index("Running") < text.index("number 1 in the queue") < text.index("number 2 in the queue")
    app.button(key=f"out-{second}").click().run()
    assert held.queue() == (third,)
    assert "number 2" not in page_text(app)
    app = open_page("train", third)
    assert button_labels(app).count("Remove from the queue") == 1
    assert first == held.active()


def test_an_interrupted_run_is_resumed_on_the_runs_page(runs: Path) -> None:
    folder = RunFolder.create(runs / "broken", RunConfig.parse({**TINY, "training": {"epochs": 2}}))

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("Fine-tuning, epoch 2"):
            raise Interrupted

    with pytest.raises(Interrupted):
        pipeline.run(folder.config, folder, progress=progress)
    app = open_page("runs", "broken")
    assert "The process that ran it was closed." in page_text(app)
    press(app, "Resume")
    for _ in range(1200):
        if find_run("broken").state.read().ended:
            break
        threading.Event().wait(0.1)
    assert find_run("broken").state.status == "finished", find_run("broken").state.read().message
    assert [report.epoch for report in find_run("broken").history.read()] == [0, 1, 2]


@pytest.fixture
def own(finished: RunFolder, runs: Path) -> RunFolder:
    """A finished run that a test may change."""
    return import_run(export_bytes(finished), runs, name="own")


def test_names_and_notes_are_saved_and_wrong_names_are_sentences(own: RunFolder) -> None:
    app = open_page("runs", "own")
    app.text_area(key="notes-own").set_value("worked at once").run()
    assert find_run("own").notes.read() == "worked at once\n"
    app.text_input(key="name-own").set_value("../up").run()
    assert "cannot be a run's name" in app.error[0].value
    app.text_input(key="name-own").set_value("better").run()
    assert not app.error
    assert run_in_address(app) == "better"
    assert find_run("better").notes.read() == "worked at once\n"


def test_a_run_is_deleted_and_undone_and_the_trash_emptied(own: RunFolder) -> None:
    app = open_page("runs", "own")
    press(app, "Delete")
    assert list_runs() == []
    press(app, "Undo")
    assert run_in_address(app) == "own"
    press(app, "Delete")
    press(app, "Delete for good")
    assert deleted_runs() == []
    assert "There are no runs yet." in page_text(app)


def test_an_exported_run_is_imported(own: RunFolder) -> None:
    app = open_page("runs", "own")
    app.file_uploader(key="import").upload("x.zip", export_bytes(own), "application/zip").run()
    assert not app.error
    assert {run.name for run in list_runs()} == {"own", "own_2"}
    app = open_page("runs")
    app.file_uploader(key="import").upload("x.zip", b"no archive", "application/zip").run()
    assert "cannot be imported" in app.error[0].value


def test_a_configuration_shows_paths_only_on_request(own: RunFolder, runs: Path, tmp_path: Path) -> None:
    config = own.config.model_copy(
        update={"dataset": own.config.dataset.model_copy(update={"source": str(tmp_path / "scans")})}
    )
    (runs / "own" / "config.yaml").write_text(config.to_yaml())
    app = open_page("runs", "own")
    shown = "\n".join(code.value for code in app.code)
    assert str(Path(tmp_path).resolve()) not in shown + page_text(app)
    assert "--data scans" in shown
    app.toggle(key="paths-own").set_value(True).run()
    assert f"--data {tmp_path / 'scans'}" in "\n".join(code.value for code in app.code)


def _comparison() -> None:
    from app.widgets import run_management
    from shpeft.runs import list_runs

    run_management.compare_runs(list_runs())


def test_runs_are_compared_with_paired_intervals_and_by_their_settings(own: RunFolder, runs: Path) -> None:
    other = import_run(export_bytes(own), runs, name="other")
    raw = own.config.model_dump()
    raw["training"]["lr"] = 0.5
    (other.path / "config.yaml").write_text(RunConfig.parse(raw).to_yaml())
    app = AppTest.from_function(_comparison, default_timeout=60).run()
    assert not app.exception
    results, settings = (frame.value for frame in app.dataframe)
    [paired] = [column for column in results.columns if "−" in column]
    assert set(results[paired]) == {"+0.000 [+0.000, +0.000]"}  # the same predictions
    assert list(settings["setting"]) == ["training.lr"]
    assert set(settings.iloc[0][["own", "other"]]) == {"0.5", "0.01"}
