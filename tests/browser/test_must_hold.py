"""While a run trains: nothing is lost, pages respond, and no patient is named."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from tests.helpers.dicom_files import PATIENT, dicom_of

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Page, expect

from tests.browser.driver import Server, new_context
from tests.browser.steps import A_WHILE, FILES, PHANTOM, OpenPage, answered, assert_no_name, ready, start_run

pytestmark = pytest.mark.browser

RUN = "endless"
NAMES = ("MUELLER", "PID-4711", PATIENT, PATIENT.split("^")[0])
"""Names that must appear nowhere."""


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clinic's folder of images, with patients' names in file names and their numbers in the manifest."""
    folder, lines = tmp_path_factory.mktemp("clinic"), ["file,group"]
    test = load_dataset(PHANTOM).train
    for at in range(len(test)):
        name = f"{test.classes[test.labels[at]]}/MUELLER_Anna_{at}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        test.image(at).save(folder / name)
        lines.append(f"{name},PID-4711-{at}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def watching(chromium: Browser, address: str, trained: str, patients: Path) -> Iterator[Page]:
    """A page that follows a run on the clinic's images; it starts after ``trained`` and never ends by itself."""
    context = new_context(chromium, address)
    context.set_default_timeout(A_WHILE)
    page = context.new_page()
    page.goto(f"{address}/train")
    page.get_by_text("Folder", exact=True).click()
    folder = page.get_by_label("Folder or table", exact=True)
    folder.fill(str(patients))
    folder.press("Enter")
    expect(page.locator("img[alt^='a training image']").first).to_be_visible(timeout=A_WHILE)
    assert_no_name(page, *NAMES)
    start_run(page, RUN, 1000)
    yield page
    context.close()


def assert_unnamed(text: str, *more: str) -> None:
    assert [name for name in (*NAMES, *more) if name in text] == []


def epoch(page: Page, beyond: int = 0) -> int:
    """Wait until the page shows an epoch after ``beyond``; return it."""
    page.wait_for_function(
        "beyond => Number(document.body.innerText.match(/Epoch (\\d+) of 1000/)?.[1]) > beyond", arg=beyond, polling=100
    )
    match = re.search(r"Epoch (\d+) of 1000", page.inner_text("body"))
    assert match is not None
    return int(match[1])


def running(page: Page) -> bool:
    expect(page.get_by_role("heading", name=RUN)).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_text("Running", exact=True)).to_be_visible(timeout=A_WHILE)
    return True


def test_a_refresh_and_another_browser_show_the_same_run(watching: Page, open_page: OpenPage) -> None:
    seen = epoch(watching)
    watching.reload()
    assert running(watching)
    seen = epoch(watching, seen)
    other = open_page("/train")  # only the app's address
    expect(other.get_by_text(f"Run {RUN}", exact=True)).to_be_visible(timeout=A_WHILE)
    other.get_by_role("button", name="Show run").click()
    assert running(other)
    assert epoch(other, seen) > seen
    other.reload()
    assert running(other)
    assert re.search(f"run={RUN}", other.url)


def test_the_page_of_an_active_run_is_accessible(watching: Page) -> None:
    pytest.importorskip("axe_playwright_python.sync_playwright")
    from tests.browser.accessibility import faults

    epoch(watching)
    assert faults(watching) == []


def test_pages_respond_while_a_run_trains(
    watching: Page, trained: str, chromium: Browser, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within ten times the limits of benchmarks/app_latency.py, which are for an idle computer."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from app_latency import ACTS, answered, opened, shown

    page = opened(chromium, f"{address}/importance?run={trained}")
    paint, notice, _ = shown(page)
    assert paint <= notice < 10 * 3
    for act, do in ACTS["importance"].items():
        assert 0 < answered(page, do) < 10 * 1, act
    page.context.close()


def test_no_patient_is_named_on_pages_in_logs_or_in_files(
    watching: Page, trained: str, open_page: OpenPage, server: Server, patients: Path, tmp_path: Path
) -> None:
    epoch(watching)
    assert_unnamed(watching.content(), str(patients))
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    upload = tmp_path / "MUELLER_Anna.dcm"
    upload.write_bytes(b"")
    data = dicom_of(np.arange(4096, dtype=np.uint16).reshape(64, 64), InstitutionName="MUELLER")
    data.save_as(upload, enforce_file_format=True)
    page.locator(FILES).first.set_input_files(upload)
    answered(page)
    assert_no_name(page, *NAMES)
    with page.expect_download() as download:
        page.get_by_role("button", name="Diagnosis (JSON)").click()
    assert_unnamed(download.value.path().read_text() + download.value.suggested_filename)
    for name in ("Runs", "Train"):
        page.get_by_role("link", name=name, exact=True).click()
        assert_no_name(page, *NAMES, str(server.runs), str(patients))

    assert_unnamed(server.log.read_text(errors="replace"), str(patients), str(server.runs), upload.name)
    files = [file for file in server.runs.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        assert not any(name.encode() in file.read_bytes() for name in NAMES), file.name
        if file.name != "config.yaml":  # the only file with the path of the images
            assert str(patients).encode() not in file.read_bytes(), file.name


def test_a_killed_server_comes_back_with_every_run(
    watching: Page, trained: str, open_page: OpenPage, server: Server
) -> None:
    def contents() -> dict[str, str]:
        files = sorted(file for file in (server.runs / trained).rglob("*") if file.is_file())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    epoch(watching)
    before = contents()
    server.kill()
    server.launch()
    expect(watching.get_by_text("Interrupted", exact=True)).to_be_visible(timeout=A_WHILE)  # without a reload
    expect(watching.get_by_role("heading", name=RUN)).to_be_visible()
    assert contents() == before
    page = open_page(f"/?run={trained}")
    expect(page.get_by_text("Finished", exact=True)).to_be_visible(timeout=A_WHILE)
    page.get_by_role("link", name="Evaluate", exact=True).click()
    expect(page.get_by_role("tab", name="One class against the rest")).to_be_visible(timeout=A_WHILE)
    assert contents() == before
