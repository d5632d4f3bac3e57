"""The gate of a run on DICOM files: what the file says is compared with the training images, from end to end."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from shpeft.diagnosis import diagnose
from shpeft.images import Acquisition, open_image, open_pixels, read_acquisition
from shpeft.pipeline import LoadedRun, load_run
from shpeft.runs import RunFolder
from tests.helpers.command_line import TINY, shpeft
from tests.helpers.dicom_files import PATIENT, dicom_bytes, dicom_of
from tests.helpers.present import present


def ultrasound(seed: int, modality: str = "US", body_part: str = "BREAST") -> bytes:
    """Return a DICOM file of random squares, with stripes if ``seed`` is odd."""
    squares = np.random.default_rng(seed).integers(0, 160, (8, 8)).astype(np.uint8)
    values = np.kron(squares, np.ones((4, 4), np.uint8))
    values[:, ::4] += np.uint8(90 * (seed % 2))
    return dicom_bytes(dicom_of(values, Modality=modality, BodyPartExamined=body_part))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("scans")
    for number in range(60):
        file = root / ("benign", "malignant")[number % 2] / f"{number}.dcm"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(ultrasound(number))
    config = root / "tiny.yaml"
    config.write_text(TINY.replace("phantom:fundus?n=36&size=32", str(root)))
    run = tmp_path_factory.mktemp("runs") / "dicom"
    shpeft("finetune", "--config", config, "--must-not-miss", "malignant", "--out", run)
    return RunFolder.open(run)


@pytest.fixture(scope="module")
def loaded(folder: RunFolder) -> LoadedRun:
    return load_run(folder, "cpu")


def test_run_stores_codes_that_many_training_images_share_and_nothing_else(folder: RunFolder) -> None:
    detector = present(folder.reliability.detector())
    assert (detector.modalities, detector.body_parts) == (("US",), ("BREAST",))
    stored = b"".join(path.read_bytes() for path in folder.path.iterdir() if path.is_file() and path.suffix != ".yaml")
    assert PATIENT.encode() not in stored


@pytest.mark.parametrize(
    ("modality", "body_part", "reason"),
    [
        ("CT", "BREAST", "The file is marked as CT; the training images are ultrasound."),
        ("US", "HEAD", "The file is marked with another body part than the training images (breast)."),
    ],
)
def test_wrong_modality_or_body_part_gets_no_answer(
    folder: RunFolder, loaded: LoadedRun, tmp_path: Path, modality: str, body_part: str, reason: str
) -> None:
    file = tmp_path / "wrong.dcm"
    file.write_bytes(ultrasound(3, modality, body_part))
    for source in (file, file.read_bytes(), open_image(file), open_pixels(file).to_image()):
        diagnosis = diagnose(loaded.backbone, source, reliability=loaded.reliability, ood_detector=loaded.ood_detector)
        assert diagnosis.answer.headline == "No answer"
        assert reason in diagnosis.answer.reasons
    printed = shpeft("diagnose", folder.path, file).stdout
    assert "No answer" in printed.splitlines()[0]
    assert reason in printed
    entry = json.loads(shpeft("diagnose", folder.path, file, "--json").stdout)[0]
    assert (entry["answer"]["answered"], entry["predicted_is_an_answer"]) == (False, False)
    assert reason in entry["answer"]["reasons"]
    shpeft("diagnose", folder.path, file, "--csv", tmp_path / "rows.csv")
    row = next(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert (row["answer"], row["unlike_training"]) == ("No answer", "yes")
    assert reason in row["reasons"]
    assert row["predicted"].startswith("not an answer: ")


def test_right_file_has_no_mismatch(loaded: LoadedRun) -> None:
    diagnosis = diagnose(
        loaded.backbone, ultrasound(101), reliability=loaded.reliability, ood_detector=loaded.ood_detector
    )
    assert present(diagnosis.ood).mismatches == ()


def test_acquisition_is_read_from_the_header_alone(tmp_path: Path) -> None:
    file = tmp_path / "scan.dcm"
    file.write_bytes(ultrasound(0, "MR", "HEAD"))
    assert read_acquisition(file) == Acquisition.of_image(open_image(file)) == Acquisition("MR", "HEAD")
    file.write_bytes(file.read_bytes()[:-500])  # the pixels are incomplete, the header is not
    assert read_acquisition(file) == Acquisition("MR", "HEAD")
    file.write_bytes(ultrasound(0, "US", "Doe, Jane: left"))
    assert read_acquisition(file) == Acquisition("US")
    file.write_bytes(b"no image")
    assert read_acquisition(file) == read_acquisition(tmp_path / "missing") == Acquisition()
