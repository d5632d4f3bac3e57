"""From a DICOM file to the results in a folder or a zip."""

import json
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pydicom
import pytest

from shpeft.errors import DiagnosisError
from shpeft.pipeline import LoadedRun
from shpeft.reports.dicom import diagnose_dicom, results_with_report
from shpeft.runs import RunFolder
from shpeft.support.headless_browser import unavailable_reason
from tests.helpers.command_line import shpeft
from tests.helpers.dicom_studies import PLANTED, errors_of, slice_of
from tests.helpers.report_pages import diagnosed


def test_the_command_writes_results_and_what_is_missing(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "DOE_JANE.dcm").write_bytes(slice_of())
    printed = shpeft("diagnose", run.path, tmp_path / "DOE_JANE.dcm", "--dicom-out", tmp_path / "out", "--json").stdout
    [entry] = json.loads(printed)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert sorted(entry["dicom"]["files"]) == written
    assert f"{entry['id']}_report.dcm" in written
    if not unavailable_reason():
        assert f"{entry['id']}_document.dcm" in written
    for path in (tmp_path / "out").iterdir():
        assert errors_of(path) == []
        for value in (*PLANTED.values(), "DOE_JANE"):
            assert value.encode() not in path.read_bytes()
    text = shpeft("diagnose", run.path, tmp_path / "DOE_JANE.dcm", "--dicom-out", tmp_path / "out").stdout
    assert "DICOM files in" in text


def test_an_image_without_a_study_is_refused_and_nothing_is_written(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(slice_of(StudyInstanceUID=None))
    error = shpeft("diagnose", run.path, tmp_path / "scan.dcm", "--dicom-out", tmp_path / "out", code=2).stderr
    assert "has no StudyInstanceUID" in error
    assert not list((tmp_path / "out").iterdir())


def test_a_csv_has_no_results_in_dicom(run: RunFolder, tmp_path: Path) -> None:
    error = shpeft("diagnose", run.path, tmp_path, "--csv", tmp_path / "a.csv", "--dicom-out", tmp_path, code=2).stderr
    assert "--dicom-out is for single images" in error


def test_the_map_is_checked(run: RunFolder, model: LoadedRun) -> None:
    diagnosis, results = diagnose_dicom(model, run, slice_of(), method="saliency", remarks=("Slice 3 of 7.",))
    assert ("map" in results.files) == (not any("No map" in sentence for sentence in results.omitted))
    assert "Slice 3 of 7." in str(pydicom.dcmread(BytesIO(results.files["report"])))
    assert diagnosis.probabilities == diagnosed(model, slice_of()).probabilities


def test_the_zip_has_the_files(run: RunFolder, model: LoadedRun, capfd: pytest.CaptureFixture[str]) -> None:
    data = slice_of(PatientName="Cher")
    archive = ZipFile(BytesIO(results_with_report(run, data, diagnosed(model, data, None)).as_zip()))
    assert {"report.dcm", "window.dcm"} <= set(archive.namelist())
    assert str(pydicom.dcmread(BytesIO(archive.read("report.dcm"))).PatientName) == "Cher"
    assert "Cher" not in "".join(capfd.readouterr())


def test_damaged_files_are_refused(run: RunFolder, model: LoadedRun) -> None:
    with pytest.raises(DiagnosisError, match="this image is none"):
        diagnose_dicom(model, run, b"GIF89a")
