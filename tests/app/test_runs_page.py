"""A run's life in the app: watched, stopped, discarded, resumed, named, annotated, carried away and compared."""

import threading
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from shpeft import pipeline
from shpeft.config import RunConfig
from shpeft.jobs import JobManager
from shpeft.runs import Interrupted, RunFolder, deleted_runs, export_bytes, find_run, import_run, list_runs

from .test_app import (  # noqa: F401 (fixtures)
    TINY,
    _own_settings,
    finished,
    labels,
    looked_at,
    opened,
    press,
    runs,
    words,
)


@pytest.fixture
def held(runs, monkeypatch):  # noqa: F811
    """A manager whose runs tell one epoch and wait until they are let go or stopped."""
    go = threading.Event()

    def recipe(config, folder, *, progress, on_epoch, stop):
        from shpeft.training import EpochReport

        with folder.recording() as remarks:
            on_epoch(EpochReport(1, 3, 0.5, 0.6, 0.8, 0.7, 1.0, True))
            while not go.is_set():
                progress("Fine-tuning, epoch 2 of 3", 1, 3)
                if stop():
                    remarks.append("Stopped after epoch 1 of 3.")
                    return
                go.wait(0.01)

    manager = JobManager(runs, execute=recipe, device_of=str)
    manager.go = go
    monkeypatch.setattr("shpeft.jobs._managers", {runs.resolve(): manager})
    yield manager
    go.set()
    manager.shutdown(5)


def settled(app, said: str):
    """Draw the page until it says something."""
    for _ in range(100):
        if said in words(app) or said in labels(app):
            return app
        threading.Event().wait(0.05)
        app.run()
    raise AssertionError(f"{said!r} is not in {words(app)!r}, {labels(app)!r}")


def test_a_run_is_stopped_and_kept(held):
    name = held.submit(RunConfig())
    app = settled(opened("train", name), "Stop and keep the best")
    assert "validation AUROC 0.800" in words(app)
    press(app, "Stop and keep the best")
    settled(app, "Stopped after epoch 1 of 3.")
    assert find_run(name).state.status == "finished"


def test_a_run_is_discarded_and_brought_back(held):
    name = held.submit(RunConfig())
    app = settled(opened("train", name), "Discard")
    press(app, "Discard")
    settled(app, f"The run {name} is in the trash.")
    assert list_runs() == []
    press(app, "Undo")
    assert looked_at(app) == name
    assert "Resume" in labels(app)
    press(app, "Resume")
    assert held.snapshot(name).status in ("queued", "running")


def test_the_queue_is_shown_in_order_and_a_run_is_taken_out(held):
    first, second, third = (held.submit(RunConfig()) for _ in range(3))
    app = settled(opened(), "number 2 in the queue")
    text = words(app)
    assert text.index("Running") < text.index("number 1 in the queue") < text.index("number 2 in the queue")
    app.button(key=f"out-{second}").click().run()
    assert held.queue() == (third,)
    assert "number 2" not in words(app)
    app = opened("train", third)
    assert labels(app).count("Take out of the queue") == 1
    assert first == held.active()


def test_an_interrupted_run_is_resumed_on_the_runs_page(runs):  # noqa: F811
    folder = RunFolder.create(runs / "broken", RunConfig.parse({**TINY, "training": {"epochs": 2}}))

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("Fine-tuning, epoch 2"):
            raise Interrupted

    with pytest.raises(Interrupted):
        pipeline.run(folder.config, folder, progress=progress)
    app = opened("runs", "broken")
    assert "The process that ran it was closed." in words(app)
    press(app, "Resume")
    for _ in range(1200):
        if find_run("broken").state.ended:
            break
        threading.Event().wait(0.1)
    assert find_run("broken").state.status == "finished", find_run("broken").state.message
    assert [report.epoch for report in find_run("broken").history()] == [1, 2]


@pytest.fixture
def own(finished, runs) -> RunFolder:  # noqa: F811
    """A finished run that a test may change."""
    return import_run(export_bytes(finished), runs, name="own")


def test_names_and_notes_are_kept_and_refused_in_a_sentence(own):
    app = opened("runs", "own")
    app.text_area(key="notes-own").set_value("worked at once").run()
    assert find_run("own").notes == "worked at once\n"
    app.text_input(key="name-own").set_value("../up").run()
    assert "cannot be a run's name" in app.error[0].value
    app.text_input(key="name-own").set_value("better").run()
    assert not app.error
    assert looked_at(app) == "better"
    assert find_run("better").notes == "worked at once\n"


def test_a_run_is_deleted_and_undone_and_the_trash_emptied(own):
    app = opened("runs", "own")
    press(app, "Delete")
    assert list_runs() == []
    press(app, "Undo")
    assert looked_at(app) == "own"
    press(app, "Delete")
    press(app, "Delete them for good")
    assert deleted_runs() == []
    assert "No run has been made yet." in words(app)


def test_an_exported_run_is_imported(own):
    app = opened("runs", "own")
    app.file_uploader(key="import").upload("x.zip", export_bytes(own), "application/zip").run()
    assert not app.error
    assert {run.name for run in list_runs()} == {"own", "own_2"}
    app = opened("runs")
    app.file_uploader(key="import").upload("x.zip", b"no archive", "application/zip").run()
    assert "cannot be imported" in app.error[0].value


def test_a_configuration_shows_places_only_when_asked(own, runs, tmp_path):  # noqa: F811
    config = own.config.model_copy(
        update={"dataset": own.config.dataset.model_copy(update={"source": str(tmp_path / "scans")})}
    )
    (runs / "own" / "config.yaml").write_text(config.to_yaml())
    app = opened("runs", "own")
    shown = "\n".join(code.value for code in app.code)
    assert str(Path(tmp_path).resolve()) not in shown + words(app)
    assert "--data scans" in shown
    app.toggle(key="places-own").set_value(True).run()
    assert f"--data {tmp_path / 'scans'}" in "\n".join(code.value for code in app.code)


def _compared() -> None:
    import keeping

    from shpeft.runs import list_runs

    keeping.compare(list_runs())


def test_runs_are_compared_with_paired_intervals_and_by_their_settings(own, runs):  # noqa: F811
    other = import_run(export_bytes(own), runs, name="other")
    raw = own.config.model_dump()
    raw["training"]["lr"] = 0.5
    (other.path / "config.yaml").write_text(RunConfig.parse(raw).to_yaml())
    app = AppTest.from_function(_compared, default_timeout=60).run()
    assert not app.exception
    results, settings = (frame.value for frame in app.dataframe)
    [paired] = [column for column in results.columns if "−" in column]
    assert set(results[paired]) == {"+0.000 [+0.000, +0.000]"}  # the same predictions
    assert list(settings["setting"]) == ["training.lr"]
    assert set(settings.iloc[0][["own", "other"]]) == {"0.5", "0.01"}
