"""The worklist and the report's buttons, without a browser."""

import csv
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from PIL import Image, ImageDraw
from streamlit.testing.v1 import AppTest

from app.views.diagnose import batch
from shpeft import NOTICE
from shpeft.batch import BatchSnapshot, diagnose, list_batches, worker
from shpeft.batch.worklist import in_order, worklist_rows
from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.explanation.saliency import PassTime
from shpeft.images.burnt_in import BurntIn
from shpeft.pipeline import set_decision_rules
from shpeft.runs import RunFolder
from shpeft.runs.audit import AuditLog
from tests.helpers import dicomweb
from tests.helpers.app_accounts import Be
from tests.helpers.app_pages import button_labels, find_button, open_page, page_text, press, until_done
from tests.helpers.dicom_studies import photograph, slice_of
from tests.helpers.dicomweb import DicomWeb
from tests.helpers.present import present


@pytest.fixture
def zipped() -> bytes:
    """A zip of three images, one damaged image and one other file; the names contain a patient's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, color in enumerate(("red", "green", "black")):
            with archive.open(f"DOE_JANE_{number}.png", "w") as file:
                Image.new("RGB", (20, 20), color).save(file, "PNG")
        archive.writestr("DOE_JANE_damaged.png", b"no image")
        archive.writestr("letter.txt", b"Dear Jane Doe")
    return buffer.getvalue()


def until_ended(run: RunFolder) -> BatchSnapshot:
    """Wait until the run's only batch has ended."""
    (folder,) = list_batches(run)
    deadline = time.monotonic() + 30
    while (snapshot := worker().snapshot(folder)).active:
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.02)
    return snapshot


def download_labels(app: AppTest) -> list[str]:
    """Return the labels of all download buttons."""
    buttons: list[Any] = list(app.get("download_button"))
    return [button.label for button in buttons]


@pytest.fixture
def without_batches(finished: RunFolder) -> Iterator[RunFolder]:
    """The finished run; its batches are deleted after the test."""
    yield finished
    for folder in list_batches(finished):
        worker().discard(folder)


def dropped(run: str, data: bytes, name: str = "images.zip") -> AppTest:
    """Drop a file on the Diagnose page."""
    app = open_page("diagnose", run)
    app.file_uploader[0].upload(name, data, "application/zip").run()
    return app


def test_a_list_is_stopped_resumed_and_opened(
    with_run: str, without_batches: RunFolder, zipped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, opened, released = without_batches, diagnose._open, threading.Event()

    def slow(entry: Any, loaded: Any) -> Any:
        if entry is not None and entry.name.endswith("2.png"):
            released.wait(60)
        return opened(entry, loaded)

    with monkeypatch.context() as patch:
        patch.setattr(diagnose, "_open", slow)
        app = dropped(with_run, zipped)
        (folder,) = list_batches(run)
        while folder.summary().done < 2:  # rows that are diagnosed, not only read
            time.sleep(0.02)
        app.run()
        began = time.monotonic()
        find_button(app, "Stop").click().run()
        assert until_ended(run).status == "stopped"
        assert time.monotonic() - began < 20
    released.set()
    app.run()
    assert "2 of 4 rows are done" in page_text(app)
    assert {"Resume", "Delete results"} <= {button.label for button in app.button}
    find_button(app, "Resume").click().run()
    assert until_ended(run).status == "finished"
    app.run()
    assert not app.error
    assert "4 of 4 files." in page_text(app)
    assert "**1** cannot be read; 1 other file is not an image." in page_text(app)
    assert download_labels(app) == ["List with my findings (CSV)", "Results (CSV)", "File names by id (CSV)"]
    assert "DOE_JANE_damaged.png: The file cannot be read as an image" in app.code[0].value
    assert app.button(key="open-3").label == "Cannot be read" or "Cannot be read" in button_labels(app)

    other = open_page("diagnose", with_run)  # another browser: the results, without images and file names
    assert NOTICE in page_text(other)
    assert "4 of 4 files" in page_text(other)
    assert not other.code
    assert download_labels(other) == ["Results (CSV)"]
    find_button(other, "Delete results").click().run()
    assert list_batches(run) == []


def test_cases_are_sorted_filtered_read_and_exported(
    with_run: str, without_batches: RunFolder, zipped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: dict[str, Any] = {}
    app = dropped(with_run, zipped)
    assert until_ended(without_batches).status == "finished"
    app.run()
    (folder,) = list_batches(without_batches)
    rows = worklist_rows(folder.text())
    order = [row.position for row in in_order(rows, "urgency")]
    opened = [button.key for button in app.button if str(button.key).startswith("open-")]
    assert opened == [f"open-{position}" for position in order]
    app.segmented_control(key="set_order").set_value("given").run()
    opened = [button.key for button in app.button if str(button.key).startswith("open-")]
    assert opened == [f"open-{position}" for position in range(4)]

    readable = next(row for row in rows if not row.error)
    app.button(key=f"open-{readable.position}").click().run()
    assert app.title[0].value == readable.headline
    finding = next(control for control in app.segmented_control if control.label == "Your finding")
    finding.set_value("exudates").run()
    assert f"{readable.position + 1} of 4" in page_text(app)
    press(app, "All images")
    assert "You: exudates" in page_text(app)
    monkeypatch.setattr("streamlit.download_button", lambda label, data, *_, **__: downloads.setdefault(label, data))
    app.run()
    table = list(csv.DictReader(io.StringIO(downloads["List with my findings (CSV)"]())))
    assert [row["reader_finding"] for row in table if row["id"] == readable.id] == ["exudates"]
    assert sum(bool(row["reader_finding"]) for row in table) == 1


def test_one_image_is_a_list_of_one(with_run: str, without_batches: RunFolder) -> None:
    image = io.BytesIO()
    Image.new("RGB", (20, 20), "maroon").save(image, "PNG")
    app = dropped(with_run, image.getvalue(), "DOE_JANE.png")
    assert not app.error
    assert "All images" not in button_labels(app)
    assert list_batches(without_batches) == []
    press(app, "Remove the images")
    assert app.title[0].value == "Diagnose"


def test_text_in_an_image_is_said_before_its_answer(with_run: str, without_batches: RunFolder) -> None:
    image, file = Image.new("RGB", (120, 90), (40, 40, 40)), io.BytesIO()
    ImageDraw.Draw(image).text((20, 20), "DOE JANE 4711", fill="white")
    image.save(file, "PNG")
    app = dropped(with_run, file.getvalue(), "image.png")
    caution = f":orange[:material/warning:] {BurntIn.of_image(image).sentence}"
    drawn = [getattr(each, "value", "") for each in app.main if each.type in ("markdown", "title")]
    titles = [each.value for each in app.title]
    assert drawn.index(caution) < drawn.index(titles[0])


def test_facts_of_a_file_and_what_the_model_gets_stand_under_the_image(
    with_run: str, without_batches: RunFolder
) -> None:
    app = dropped(with_run, slice_of(BodyPartExamined="CHEST", Laterality="L"), "DOE_JANE.dcm")
    captions = [each.value for each in app.caption]
    at = captions.index("CT · chest · axial · 0.5 × 0.7 mm · slice 3 mm · left")
    assert captions[at + 1].startswith(
        "The model gets the whole image at 32 × 32 pixels, window center 40, width 400 HU"
    )


@pytest.fixture
def study() -> bytes:
    """A zip of two series, whose files are named against the order of their slices, and a photograph."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(4):
            archive.writestr(f"{9 - number}_DOE.dcm", slice_of(number))
        for number in range(4, 6):
            archive.writestr(f"other{number}.dcm", slice_of(number, SeriesInstanceUID="2.25.9"))
        archive.writestr("photo.dcm", photograph(SeriesInstanceUID="2.25.10"))
    return buffer.getvalue()


def test_a_series_is_a_case_with_its_slices_in_order(
    own_run: RunFolder, study: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_decision_rules(own_run, DecisionRules(ThresholdRule("exudates")))
    (own_run.path / "novelty.safetensors").unlink()  # no image looks unlike the training images
    app = dropped(own_run.name, study)
    assert until_ended(own_run).status == "finished"
    app.run()
    assert not app.error
    assert "2 series of 6 slices, a case each" in page_text(app)
    assert "3 of 3 cases." in page_text(app)
    (folder,) = list_batches(own_run)
    rows = worklist_rows(folder.text())
    assert [row.slices for row in rows] == [4, 2, 1]
    key = present(rows[0].key_slice)
    assert f"4 slices, riskiest {key + 1}" in page_text(app)
    opened = [button.key for button in app.button if str(button.key).startswith("open-")]
    assert opened == [f"open-{row.position}" for row in in_order(rows, "urgency")]

    downloads: dict[str, Any] = {}
    monkeypatch.setattr("streamlit.download_button", lambda label, data, *_, **__: downloads.update({label: data}))
    until_done(app.button(key="open-0").click().run())
    assert not app.error
    assert app.title[0].value == rows[0].headline
    assert f"that of slice {key + 1}" in page_text(app)
    assert f"frame {key + 1} of 4" in page_text(app)
    assert "of 3" in page_text(app)
    assert json.loads(downloads["Diagnosis (JSON)"])["key_slice"] == key + 1
    report = zipfile.ZipFile(io.BytesIO(downloads["Results (DICOM)"]())).read("report.dcm")
    assert f"2.25.2{key:04}" in pydicom.dcmread(io.BytesIO(report)).to_json()

    press(app, "All images")
    for rule in ("attention", "mean"):
        app.segmented_control(key="set_series_rule").set_value(rule).run()
        until_done(app.button(key="open-0").click().run())
        assert {"attention": "is by attention", "mean": "is the mean"}[rule] in page_text(app)
        press(app, "All images")
    app.segmented_control(key="set_series_rule").set_value("each").run()
    assert len([button for button in app.button if str(button.key).startswith("open-")]) == 7


def test_a_single_series_is_opened_and_answered(own_run: RunFolder, study: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(study)) as archive:
        archive.extractall(tmp_path / "study")
    for path in (tmp_path / "study").glob("[op]*"):
        path.unlink()
    (own_run.path / "novelty.safetensors").unlink()
    app = open_page("diagnose", own_run.name, set_origin="Folder or zip")
    until_done(app.text_input(key="set_images_path").set_value(str(tmp_path / "study")).run())
    assert not app.error
    assert "the mean of the probabilities of its 4 slices" in page_text(app)  # the run has no class to rank by
    assert list_batches(own_run) == []


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DicomWeb]:
    """An archive that the app was given."""
    pytest.importorskip("dicomweb_client")
    monkeypatch.setattr("shpeft.reports.dicom.diagnose.unavailable_reason", lambda: "No browser.")  # for speed
    with dicomweb.running() as running:
        monkeypatch.setenv("SHPEFT_ARCHIVE", running.url)
        yield running


def test_results_are_stored_on_a_click_and_once(own_run: RunFolder, archive: DicomWeb) -> None:
    app = until_done(dropped(own_run.name, slice_of(), "DOE_JANE.dcm"))
    assert archive.stored == 0
    archive.refusing = True
    until_done(press(app, "Store in the archive"))
    app.run()
    assert "The archive refused" in app.error[0].value
    press(app, "Try again")
    archive.refusing = False
    button = find_button(app, "Store in the archive")
    button.click().run()
    button.click().run()  # it was clicked twice
    until_done(app)
    app.run()
    assert archive.stored == 2
    assert "Store in the archive" not in " ".join(button_labels(app))
    assert "stored in the archive" in page_text(app)
    other = until_done(dropped(own_run.name, slice_of(), "again.dcm"))
    assert "Store in the archive" not in " ".join(button_labels(other))


def test_who_stores_results_is_recorded(own_run: RunFolder, archive: DicomWeb, be: Be) -> None:
    reader = be("reader")
    app = until_done(dropped(own_run.name, slice_of(), "DOE_JANE.dcm"))
    until_done(press(app, "Store in the archive"))
    assert archive.stored > 0
    recorded = [entry for entry in AuditLog().entries() if entry is not None]
    assert {entry.account for entry in recorded} == {reader.id}
    assert [entry.action for entry in recorded] == ["diagnosed", "stored"]
    assert recorded[0].case == recorded[1].case


def test_results_of_a_whole_list_are_stored_on_a_click(own_run: RunFolder, study: bytes, archive: DicomWeb) -> None:
    app = dropped(own_run.name, study)
    assert until_ended(own_run).status == "finished"
    app.run()
    until_done(press(app, "Store the results of all 3"))
    app.run()
    assert not app.error
    assert archive.stored == 3
    assert "The results of 3 cases are stored in the archive." in [each.value for each in app.success]


def test_without_an_archive_nothing_is_offered_to_be_stored(own_run: RunFolder, study: bytes) -> None:
    app = until_done(dropped(own_run.name, study))
    assert "archive" not in " ".join(button_labels(app)).lower()


def test_a_deleted_list_is_not_made_again(with_run: str, without_batches: RunFolder, zipped: bytes) -> None:
    app = dropped(with_run, zipped)
    assert until_ended(without_batches).status == "finished"
    app.run()
    press(app, "Delete results")
    assert list_batches(without_batches) == []
    assert "neither an image nor its" in page_text(app)


def test_a_folder_is_read_in_place_and_a_wrong_path_is_a_sentence(
    with_run: str, without_batches: RunFolder, zipped: bytes, tmp_path: Path
) -> None:
    folder_of_images = tmp_path / "Ward 7"
    zipfile.ZipFile(io.BytesIO(zipped)).extractall(folder_of_images)
    app = open_page("diagnose", with_run, set_origin="Folder or zip")
    app.text_input(key="set_images_path").set_value(str(tmp_path / "none")).run()
    assert "There is no file or folder" in app.error[0].value
    app.text_input(key="set_images_path").set_value(str(folder_of_images)).run()
    assert until_ended(without_batches).done == 4
    (folder,) = list_batches(without_batches)
    for path in folder.path.iterdir():
        assert b"Ward" not in path.read_bytes()
        assert b"DOE" not in path.read_bytes()


def test_a_refused_zip_says_why(with_run: str, without_batches: RunFolder) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../DOE.png", b"")
    app = dropped(with_run, buffer.getvalue())
    assert "names that lead out of it" in app.error[0].value
    assert "../DOE.png" in app.code[0].value
    assert list_batches(without_batches) == []


def test_a_list_of_many_images_waits_for_a_click(
    with_run: str, without_batches: RunFolder, zipped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "UNASKED", 2)
    app = dropped(with_run, zipped)
    assert list_batches(without_batches) == []
    press(app, "Diagnose all 4 images")
    assert until_ended(without_batches).status == "finished"


def test_answers_to_images_that_were_not_read_stay_hidden(
    with_run: str, without_batches: RunFolder, zipped: bytes
) -> None:
    app = dropped(with_run, zipped)
    assert until_ended(without_batches).status == "finished"
    app.toggle(key="set_read_first").set_value(True).run()
    (folder,) = list_batches(without_batches)
    shown = {str(button.label) for button in app.button if str(button.key).startswith("open-")}
    assert shown == {"Not read yet", "Cannot be read"}
    assert not shown & {row.headline for row in worklist_rows(folder.text()) if not row.error}


def test_the_report_contains_what_the_page_shows(
    with_run: str, assume_pass_time: Callable[[PassTime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(PassTime(1e-4, 1e-4))
    downloads: list[tuple[str, Any]] = []
    app = until_done(open_page("attribution", with_run, set_origin="Test images", open_case=0))
    assert "trained weights add up to" in page_text(app)
    app.switch_page("views/diagnose/page.py")
    app.run()
    monkeypatch.setattr("streamlit.download_button", lambda label, data, *_, **__: downloads.append((label, data)))
    until_done(app.run())
    make_report = latest_report(downloads)
    text = make_report()
    for title in ("Sanity checks of the map", "By block", "Versions and fingerprints", NOTICE):
        assert title in text
    assert make_report.keywords["case"] in text


def latest_report(downloads: list[tuple[str, Any]]) -> Any:
    """Return the function behind the latest report button."""
    return [data for label, data in downloads if label == "Report (HTML)"][-1]


def test_a_dicom_file_gives_results_for_its_archive(
    with_run: str, without_batches: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: dict[str, Any] = {}
    monkeypatch.setattr(
        "streamlit.download_button",
        lambda label, data, *_, **options: downloads.update({label: (data, options.get("disabled"))}),
    )
    app = until_done(dropped(with_run, slice_of(), "DOE_JANE.dcm"))
    assert not app.error
    make, disabled = downloads["Results (DICOM)"]
    assert not disabled
    archive = zipfile.ZipFile(io.BytesIO(make()))
    assert {"report.dcm", "window.dcm"} <= set(archive.namelist())

    press(app, "Remove the images")
    downloads.clear()
    until_done(dropped(with_run, slice_of(StudyInstanceUID=None), "DOE_JANE.dcm"))
    assert downloads["Results (DICOM)"][1]
