"""The gate of a run on DICOM files: what the file says is compared with the training images, from end to end."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.diagnosis import diagnose
from shpeft.evaluation import TrainingFacts
from shpeft.images import NO_FACTS, Acquisition, Facts, open_image, open_pixels, read_facts
from shpeft.pipeline import LoadedRun, load_run
from shpeft.reports import report
from shpeft.reports.dicom import dicom_results
from shpeft.runs import RunFolder
from shpeft.runs.reliability import detector_bytes, parse_detector
from tests.helpers.command_line import TINY, shpeft
from tests.helpers.dicom_files import PATIENT, dicom_bytes, dicom_of
from tests.helpers.dicom_studies import STUDY
from tests.helpers.present import present


def ultrasound(seed: int, modality: str = "US", body_part: str = "BREAST", **tags: Any) -> bytes:
    """Return a DICOM file of random squares, of the right side, with stripes if ``seed`` is odd."""
    squares = np.random.default_rng(seed).integers(0, 160, (8, 8)).astype(np.uint8)
    values = np.kron(squares, np.ones((4, 4), np.uint8))
    values[:, ::4] += np.uint8(90 * (seed % 2))
    stated = {"Laterality": "R", "PixelSpacing": [0.2, 0.2], **tags}
    return dicom_bytes(dicom_of(values, Modality=modality, BodyPartExamined=body_part, **stated))


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
    images = present(detector.training).images
    assert detector.training == TrainingFacts(images, sides={"R": images}, spacing=(0.2, 0.2), spaced=images)
    assert images >= 20
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


def test_another_side_or_spacing_is_said_before_the_answer_everywhere(
    folder: RunFolder, loaded: LoadedRun, tmp_path: Path
) -> None:
    file = tmp_path / "left.dcm"
    file.write_bytes(ultrasound(3, Laterality="L", PixelSpacing=[0.05, 0.2]))
    diagnosis = diagnose(loaded.backbone, file, reliability=loaded.reliability, ood_detector=loaded.ood_detector)
    side, spacing = diagnosis.cautions
    images = present(present(loaded.ood_detector).training).images
    assert side == (
        f"The file is marked left; of {images} training images, {images} are marked right, and fewer than 5 like it: "
        "read the answer with care."
    )
    assert spacing == (
        f"A pixel of the file is 0.05 × 0.2 mm; in {images} of {images} training images it is 0.2 mm: "
        "read the answer with care."
    )
    right = diagnose(loaded.backbone, ultrasound(3), reliability=loaded.reliability, ood_detector=loaded.ood_detector)
    assert right.cautions == ()
    assert right.answer == diagnosis.answer  # a caution withholds nothing
    printed = shpeft("diagnose", folder.path, file).stdout
    assert printed.index(side) < printed.index(spacing) < printed.index(diagnosis.answer.headline)
    entry = json.loads(shpeft("diagnose", folder.path, file, "--json").stdout)[0]
    assert entry["cautions"] == [side, spacing]
    shpeft("diagnose", folder.path, file, "--csv", tmp_path / "rows.csv")
    row = next(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert row["cautions"] == f"{side} {spacing}"
    assert list(row).index("cautions") < list(row).index("answer")
    page = report(diagnosis, file.read_bytes(), folder)
    assert page.index(side) < page.index(spacing) < page.index('id="answer"')


def test_the_structured_report_has_the_cautions_before_the_answer(folder: RunFolder, loaded: LoadedRun) -> None:
    pytest.importorskip("highdicom", reason="needs the extra dicom")
    data = ultrasound(3, Laterality="L", **STUDY)
    diagnosis = diagnose(loaded.backbone, data, reliability=loaded.reliability, ood_detector=loaded.ood_detector)
    (side,) = diagnosis.cautions
    written = dicom_results(diagnosis, data, folder).files["report"]
    assert written.index(side.encode()) < written.rindex(diagnosis.answer.headline.encode())


def test_a_run_of_an_older_version_says_nothing_about_facts(loaded: LoadedRun) -> None:
    detector = present(loaded.ood_detector)
    older = parse_detector(detector_bytes(replace(detector, training=None)))
    data = ultrasound(3, Laterality="L", PixelSpacing=[0.05, 0.2])
    diagnosis = diagnose(loaded.backbone, data, reliability=loaded.reliability, ood_detector=older)
    assert older.training is None
    assert diagnosis.cautions == ()
    assert parse_detector(detector_bytes(detector)).training == detector.training


def test_right_file_has_no_mismatch(loaded: LoadedRun) -> None:
    diagnosis = diagnose(
        loaded.backbone, ultrasound(101), reliability=loaded.reliability, ood_detector=loaded.ood_detector
    )
    assert present(diagnosis.ood).mismatches == ()


def test_facts_are_read_from_the_header_alone(tmp_path: Path) -> None:
    file = tmp_path / "scan.dcm"
    file.write_bytes(ultrasound(0, "MR", "HEAD"))
    stated = Facts(Acquisition("MR", "HEAD"), "R", spacing=(0.2, 0.2))
    assert read_facts(file) == Facts.of_image(open_image(file)) == open_pixels(file).facts == stated
    file.write_bytes(file.read_bytes()[:-500])  # the pixels are incomplete, the header is not
    assert read_facts(file) == stated
    file.write_bytes(ultrasound(0, "US", "Doe, Jane: left"))
    assert read_facts(file).acquisition == Acquisition("US")
    file.write_bytes(b"no image")
    assert read_facts(file) == read_facts(tmp_path / "missing") == NO_FACTS
