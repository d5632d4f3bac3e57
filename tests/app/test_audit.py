"""What the app with accounts writes into its audit log, and that no diagnosis is shown without it."""

import time
from pathlib import Path

from shpeft.batch import worker
from shpeft.datasets import load_dataset
from shpeft.diagnosis import case_id
from shpeft.runs import RunFolder
from shpeft.runs.audit import AuditEntry, AuditLog
from tests.helpers.app_accounts import Be
from tests.helpers.app_pages import open_page, open_test_image, page_text


def entries() -> list[AuditEntry]:
    """Return the lines that can be read."""
    return [entry for entry in AuditLog().entries() if entry is not None]


def test_a_diagnosis_is_recorded_once_for_whoever_asked(own_run: RunFolder, be: Be) -> None:
    reader = be("reader")
    app = open_test_image(own_run.name)
    app.run()
    [first] = entries()
    assert (first.account, first.run, first.case[:5]) == (reader.id, own_run.name, "case-")
    other = be("other")
    open_test_image(own_run.name)
    assert [entry.account for entry in entries()] == [reader.id, other.id]
    assert entries()[1].model == first.model


def test_nothing_is_shown_that_cannot_be_recorded(own_run: RunFolder, be: Be) -> None:
    be("reader")
    AuditLog().path.mkdir()
    text = page_text(open_test_image(own_run.name))
    assert "so nothing is diagnosed" in text
    assert "probability" not in text


def test_the_images_of_a_list_are_recorded_before_their_rows(own_run: RunFolder, be: Be, tmp_path: Path) -> None:
    reader = be("reader")
    images, data = tmp_path / "images", load_dataset("phantom:fundus?n=36&size=32").test
    images.mkdir()
    for number in range(2):
        data.image(number).save(images / f"DOE_{number}.png")
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    folder = worker().submit(own_run, [images], reader)
    while worker().snapshot(folder).active:
        time.sleep(0.05)
    cases = [case_id((images / f"DOE_{number}.png").read_bytes()) for number in range(2)]
    assert [(entry.account, entry.case) for entry in entries()] == [(reader.id, case) for case in cases]
    assert entries()[0].model in folder.text()
    assert "DOE" not in AuditLog().path.read_text()
    folder.results.unlink()
    AuditLog().path.unlink()
    AuditLog().path.mkdir()
    worker().resume(own_run, folder, [images], reader)
    while worker().snapshot(folder).active:
        time.sleep(0.05)
    assert "so nothing is diagnosed" in worker().snapshot(folder).message
    assert folder.summary().done == 0


def test_test_images_are_recorded(own_run: RunFolder, be: Be) -> None:
    be("reader")
    open_page("diagnose", own_run.name, set_origin="Test images")
    deadline = time.monotonic() + 60
    while not (recorded := entries()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert recorded


def test_without_accounts_there_is_no_log(own_run: RunFolder) -> None:
    open_test_image(own_run.name)
    assert not AuditLog().path.parent.exists()
