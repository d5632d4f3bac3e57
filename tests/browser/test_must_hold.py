"""What must hold while a run trains: nothing is lost, pages answer, and nobody is named."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from tests.dicom_files import PATIENT, made

expect = pytest.importorskip("playwright.sync_api").expect
from tests.browser.steps import A_WHILE, PHANTOM, nobody_is_named, ready, start  # noqa: E402

pytestmark = pytest.mark.browser

RUN = "endless"
NAMES = ("MUELLER", "PID-4711", PATIENT, PATIENT.split("^")[0])
"""Who must be named nowhere."""


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    """A folder of images as a clinic keeps it: named after patients, whose numbers are in the manifest."""
    place, lines = tmp_path_factory.mktemp("clinic"), ["file,group"]
    test = load_dataset(PHANTOM).train
    for at in range(len(test)):
        name = f"{test.classes[test.labels[at]]}/MUELLER_Anna_{at}.png"
        (place / name).parent.mkdir(exist_ok=True)
        test.image(at).save(place / name)
        lines.append(f"{name},PID-4711-{at}")
    (place / "manifest.csv").write_text("\n".join(lines))
    return place


@pytest.fixture(scope="module")
def watching(chromium, address, trained, patients):  # in this order: a device carries out one run at a time
    """A page that looks at a run on the clinic's images, which was started there and trains until it is stopped."""
    context = chromium.new_context()
    context.set_default_timeout(A_WHILE)
    page = context.new_page()
    page.goto(address)
    page.get_by_text("My images").click()
    folder = page.get_by_label("Folder or table", exact=True)
    folder.fill(str(patients))
    folder.press("Enter")
    page.get_by_role("button", name="Look at the images").click()
    expect(page.locator("img[alt^='the first training image']").first).to_be_visible(timeout=A_WHILE)
    nobody_is_named(page, *NAMES)
    start(page, RUN, 1000)
    yield page
    context.close()


def named_nowhere(text: str, *more: str) -> None:
    assert [name for name in (*NAMES, *more) if name in text] == []


def epoch(page, beyond: int = 0) -> int:
    """The epoch that the page tells of, once it is a later one than ``beyond``."""
    page.wait_for_function(
        "beyond => Number(document.body.innerText.match(/Epoch (\\d+) of 1000/)?.[1]) > beyond", arg=beyond, polling=100
    )
    return int(re.search(r"Epoch (\d+) of 1000", page.inner_text("body"))[1])


def running(page) -> bool:
    expect(page.get_by_role("heading", name=RUN)).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_text("Running", exact=True)).to_be_visible(timeout=A_WHILE)
    return True


def test_a_refresh_and_another_browser_show_the_same_run(watching, open_page):
    seen = epoch(watching)
    watching.reload()
    assert running(watching)
    seen = epoch(watching, seen)
    other = open_page()  # with no more than the app's address
    expect(other.get_by_text(f"The run {RUN}", exact=True)).to_be_visible(timeout=A_WHILE)
    other.get_by_role("button", name="Look at it").click()
    assert running(other)
    assert epoch(other, seen) > seen
    other.reload()
    assert running(other)
    assert re.search(f"run={RUN}", other.url)


def test_a_page_of_a_run_under_way_is_accessible(watching):
    faults = pytest.importorskip("tests.browser.test_accessibility").faults
    epoch(watching)
    assert faults(watching) == []


def test_pages_answer_while_a_run_trains(watching, trained, chromium, address, monkeypatch):
    """Within three times what they may take on a computer of their own, where benchmarks/app_latency.py measures it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from app_latency import ACTS, answered, opened, shown

    page = opened(chromium, f"{address}/importance?run={trained}")
    paint, notice, _ = shown(page)
    assert paint <= notice < 3 * 3
    for act, do in ACTS["importance"].items():
        assert 0 < answered(page, do) < 3 * 1, act
    page.context.close()


def test_nobody_is_named_on_pages_in_logs_or_in_files(watching, trained, open_page, server, patients, tmp_path):
    epoch(watching)
    named_nowhere(watching.content(), str(patients))
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    upload = tmp_path / "MUELLER_Anna.dcm"
    upload.write_bytes(b"")
    data = made(np.arange(4096, dtype=np.uint16).reshape(64, 64), InstitutionName="MUELLER")
    data.save_as(upload, enforce_file_format=True)
    page.locator("input[type=file]").set_input_files(upload)
    expect(page.get_by_text("Prediction")).to_be_visible(timeout=A_WHILE)
    nobody_is_named(page, *NAMES)
    with page.expect_download() as download:
        page.get_by_role("button", name="Diagnosis (JSON)").click()
    named_nowhere(download.value.path().read_text() + download.value.suggested_filename)
    for name in ("Runs", "Train"):
        page.get_by_role("link", name=name, exact=True).click()
        nobody_is_named(page, *NAMES, str(server.runs), str(patients))

    named_nowhere(server.log.read_text(errors="replace"), str(patients), str(server.runs), upload.name)
    kept = [file for file in server.runs.rglob("*") if file.is_file()]
    assert len(kept) > 10
    for file in kept:
        assert not any(name.encode() in file.read_bytes() for name in NAMES), file.name
        if file.name != "config.yaml":  # which says where the images are, so that the run can be repeated
            assert str(patients).encode() not in file.read_bytes(), file.name


def test_a_killed_server_comes_back_with_every_run(watching, trained, open_page, server):
    def contents() -> dict[str, str]:
        files = sorted(file for file in (server.runs / trained).rglob("*") if file.is_file())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    epoch(watching)
    before = contents()
    server.kill()
    server.start()
    expect(watching.get_by_text("Interrupted", exact=True)).to_be_visible(timeout=A_WHILE)  # without being reloaded
    expect(watching.get_by_role("heading", name=RUN)).to_be_visible()
    assert contents() == before
    page = open_page(f"/?run={trained}")
    expect(page.get_by_text("Finished", exact=True)).to_be_visible(timeout=A_WHILE)
    page.get_by_role("link", name="Evaluate", exact=True).click()
    expect(page.get_by_text("Temperature", exact=True).first).to_be_visible(timeout=A_WHILE)
    assert contents() == before
