"""The Batch page and the report's button, without a browser."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import io
import time
import zipfile

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from shpeft import NOTICE
from shpeft.batch import BatchSnapshot, list_batches, running, worker
from shpeft.runs import RunFolder
from shpeft.saliency import Pace
from tests.test_app import _own_settings, finished, opened, runs, with_run, words
from tests.test_app_diagnose import diagnosing, overlay, timed


@pytest.fixture
def zipped() -> bytes:
    """Three images and one that is none, under telling names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, colour in enumerate(("red", "green", "black")):
            with archive.open(f"DOE_JANE_{number}.png", "w") as file:
                Image.new("RGB", (20, 20), colour).save(file, "PNG")
        archive.writestr("DOE_JANE_damaged.png", b"no image")
        archive.writestr("letter.txt", b"Dear Jane Doe")
    return buffer.getvalue()


def button(app: AppTest, label: str):
    return next(found for found in app.button if found.label == label)


def until_ended(run: RunFolder) -> BatchSnapshot:
    (folder,) = list_batches(run)
    deadline = time.monotonic() + 30
    while (snapshot := worker().snapshot(folder)).active:
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.02)
    return snapshot


@pytest.fixture
def without_batches(finished):
    yield finished
    for folder in list_batches(finished):
        worker().discard(folder)


def test_a_zip_is_diagnosed_stopped_and_gone_on_with(with_run, without_batches, zipped, monkeypatch):
    run, row = without_batches, running._row

    def slow(loaded, entry, made_by, progress):
        while entry.name.endswith("2.png"):
            progress("", 0, 0)
            time.sleep(0.01)
        return row(loaded, entry, made_by, progress)

    app = opened("batch", with_run, zip=zipped)
    assert "No batch has been started" in words(app)
    with monkeypatch.context() as patch:
        patch.setattr(running, "_row", slow)
        button(app, "Diagnose all").click().run()
        (folder,) = list_batches(run)
        while folder.summary().done < 2:  # not those that are only read so far
            time.sleep(0.02)
        app.run()
        begin = time.monotonic()
        button(app, "Stop").click().run()
        assert until_ended(run).status == "stopped"
        assert time.monotonic() - begin < 3
    app.run()
    assert "2 of 4 rows are there" in words(app)
    assert [found.label for found in app.button][-2:] == ["Go on", "Delete the results"]
    assert NOTICE in words(app)
    button(app, "Go on").click().run()
    assert until_ended(run).status == "finished"
    app.run()
    assert not app.error
    assert "4 of 4 files. Most probable:" in words(app)
    assert "**1** cannot be read; 1 more is no image." in words(app)
    assert [download.label for download in app.get("download_button")] == [
        "Results (CSV)",
        "Which id is which file (CSV)",
    ]
    assert "DOE_JANE_damaged.png: The file cannot be read as an image" in app.code[0].value
    assert len(app.dataframe[0].value) == 4

    other = opened("batch", with_run)  # another browser: the results, and no name of a file
    assert "4 of 4 files" in words(other)
    assert not other.code
    assert [download.label for download in other.get("download_button")] == ["Results (CSV)"]
    assert not [found for found in other.button if found.label == "Find out which id is which file"]
    before = folder.results.read_bytes()
    other = opened("batch", with_run, zip=zipped)
    button(other, "Find out which id is which file").click().run()
    assert until_ended(run).status == "finished"
    other.run()
    assert "DOE_JANE_damaged.png" in other.code[0].value
    assert folder.results.read_bytes() == before

    button(other, "Delete the results").click().run()
    assert list_batches(run) == []


def test_a_folder_is_diagnosed_where_it_is_and_a_wrong_one_is_a_sentence(with_run, without_batches, zipped, tmp_path):
    place = tmp_path / "Ward 7"
    zipfile.ZipFile(io.BytesIO(zipped)).extractall(place)
    app = opened("batch", with_run)
    app.segmented_control(key="set_batch_origin").set_value("A folder or zip on this computer").run()
    app.text_input(key="place").set_value(str(tmp_path / "none")).run()
    assert [error.value for error in app.error] == ["There is no such folder or file on this computer. Check the path."]
    assert button(app, "Diagnose all").disabled
    app.text_input(key="place").set_value(str(place)).run()
    button(app, "Diagnose all").click().run()
    assert until_ended(without_batches).done == 4
    (folder,) = list_batches(without_batches)
    for path in folder.path.iterdir():
        assert b"Ward" not in path.read_bytes()
        assert b"DOE" not in path.read_bytes()


def test_a_refused_zip_says_why(with_run, without_batches):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../DOE.png", b"")
    app = opened("batch", with_run, zip=buffer.getvalue())
    button(app, "Diagnose all").click().run()
    assert until_ended(without_batches).status == "failed"
    app.run()
    assert "names that lead out of it" in app.error[0].value
    assert "../DOE.png" in app.code[0].value
    assert "DOE" not in "".join(error.value for error in opened("batch", with_run).error)


def test_the_report_holds_what_the_page_shows(with_run, timed, monkeypatch):
    timed(Pace(1e-4, 1e-4))
    made = []
    app = diagnosing(with_run)
    monkeypatch.setattr("streamlit.download_button", lambda label, data, *_, **how: made.append((label, data)))
    overlay(app).set_value(True).run()
    app.toggle(key="set_weights").set_value(True).run()
    make = latest(made)
    text = make()
    for title in ("Sanity checks of the map", "By block", "Versions and fingerprints", NOTICE):
        assert title in text
    assert make.keywords["case"] in text
    overlay(app).set_value(False).run()
    assert "Sanity checks of the map" not in latest(made)()


def latest(made):
    return [data for label, data in made if label == "Report (HTML)"][-1]
