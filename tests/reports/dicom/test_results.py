"""The results of a diagnosis in DICOM: what they hold, where they are filed, and what they do not repeat."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_voi_lut
from pydicom.sr.codedict import codes

from shpeft import NOTICE
from shpeft.diagnosis import Diagnosis
from shpeft.errors import DiagnosisError, UnreadableImage
from shpeft.evaluation import OODScore
from shpeft.images import Decoding, Pixels, open_pixels
from shpeft.pipeline import LoadedRun
from shpeft.reports.dicom import dicom_results
from shpeft.reports.dicom.made_by import SERIES_NUMBERS
from shpeft.reports.dicom.presentation_state import center_width
from shpeft.runs import RunFolder
from tests.helpers.dicom_files import dicom_bytes, scan
from tests.helpers.dicom_studies import PLANTED, STUDY, enhanced, errors_of, photograph, slice_of
from tests.helpers.present import present
from tests.helpers.report_pages import diagnosed

PDF = b"%PDF-1.4 odd"
Diagnose = Callable[[bytes], Diagnosis]


def opened(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def texts(report: Dataset) -> list[str]:
    """Return every text, code meaning and number of a structured report, in order."""
    out = []
    for item in report.get("ContentSequence", ()):
        if "TextValue" in item:
            out.append(str(item.TextValue))
        if "ConceptCodeSequence" in item:
            out.append(str(item.ConceptCodeSequence[0].CodeMeaning))
        if "MeasuredValueSequence" in item:
            out.append(
                f"{item.ConceptNameCodeSequence[0].CodeMeaning}={item.MeasuredValueSequence[0].FloatingPointValue}"
            )
        out += texts(item)
    return out


@pytest.fixture(scope="module")
def results(run: RunFolder, answered: Diagnose) -> dict[str, bytes]:
    data = slice_of()
    made = dicom_results(answered(data), data, run, pdf=PDF)
    assert made.omitted == ()
    return dict(made.files)


def test_every_kind_is_valid(results: dict[str, bytes], tmp_path: Path) -> None:
    assert set(results) == set(SERIES_NUMBERS)
    for kind, data in results.items():
        (tmp_path / f"{kind}.dcm").write_bytes(data)
        assert errors_of(tmp_path / f"{kind}.dcm") == [], kind


def test_they_belong_to_the_study_under_new_uids(results: dict[str, bytes], run: RunFolder, answered: Diagnose) -> None:
    data = slice_of()
    again = dicom_results(answered(data), data, run, pdf=PDF).files
    uids = set[str]()
    for kind, file in results.items():
        result = opened(file)
        for keyword, value in STUDY.items():
            if keyword not in ("SeriesInstanceUID", "FrameOfReferenceUID", "StudyTime"):
                assert str(result.get(keyword)) == value, (kind, keyword)
        assert str(result.PatientName) == "DOE^JANE"
        assert result.StudyTime == "101530"
        assert result.Manufacturer == "shpeft"
        uids |= {result.SOPInstanceUID, result.SeriesInstanceUID, opened(again[kind]).SOPInstanceUID}
    assert len(uids) == 3 * len(results)
    assert not uids & {"2.25.20000", STUDY["SeriesInstanceUID"]}


@pytest.mark.parametrize("make", [slice_of, enhanced, photograph])
def test_nothing_else_of_the_source_is_repeated(make: Callable[[], bytes], run: RunFolder, answered: Diagnose) -> None:
    data = make()
    for value in PLANTED.values():
        assert value.encode() in data
    for kind, file in dicom_results(answered(data), data, run, pdf=PDF).files.items():
        for keyword, value in PLANTED.items():
            assert value.encode() not in file, (kind, keyword)


def test_names_in_another_alphabet_arrive(run: RunFolder, answered: Diagnose) -> None:
    name = "Müller^Jürgen"
    data = slice_of(SpecificCharacterSet="ISO_IR 100", PatientName=name)
    assert name.encode("latin-1") in data
    for file in dicom_results(answered(data), data, run, pdf=PDF).files.values():
        assert str(opened(file).PatientName) == name


def test_the_report_says_what_the_page_says(results: dict[str, bytes], answered: Diagnose, run: RunFolder) -> None:
    answer, said = answered(slice_of()).answer, texts(opened(results["report"]))
    for text in (NOTICE, answer.headline, *answer.sentences):
        assert text in said
    assert f"Calibrated probability of {answer.probability_of}={answer.probability!r}" in said
    rates = present(answer.rates)
    assert f"Sensitivity on the test images={rates.sensitivity.value!r}" in said
    for name in answer.still_possible:
        assert name in said
    assert any("Delta file" in text and len(text) > 64 for text in said)
    document = opened(results["report"])
    assert (document.VerificationFlag, document.CompletionFlag) == ("UNVERIFIED", "COMPLETE")


def test_highdicom_reads_the_report_and_its_source(results: dict[str, bytes]) -> None:
    content: Any = srread(BytesIO(results["report"])).content
    group = content.get_image_measurement_groups()[0]
    assert group.source_images[0].referenced_sop_instance_uid == "2.25.20000"
    names = [evaluation[0].name.meaning for evaluation in group.get_qualitative_evaluations()]
    assert names[0] == "Answer"


def test_without_an_answer_the_report_names_no_class(model: LoadedRun, run: RunFolder) -> None:
    data = slice_of()
    odd = OODScore(distance=9.0, percentile=1.0, alarm=True)
    diagnosis = replace(diagnosed(model, data, None), ood=odd)
    report = opened(dicom_results(diagnosis, data, run).files["report"])
    said = texts(report)
    assert said.count("No answer") == 2
    assert diagnosis.answer.reasons[0] in said
    assert not [text for text in said for name in diagnosis.classes if name in text]
    assert "probability" not in " ".join(said).lower()


def test_the_map_keeps_its_values_and_its_position(results: dict[str, bytes], answered: Diagnose) -> None:
    saliency = present(answered(slice_of()).saliency)
    image = highdicom.imread(BytesIO(results["map"]))
    assert (image.pixel_array == saliency.map).all()
    shared, frame = image.SharedFunctionalGroupsSequence[0], image.PerFrameFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5 * 48 / 32, 0.7 * 64 / 32]
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    assert position == pytest.approx([-10 + 0.7 * (64 / 32 - 1) / 2, -20 + 0.5 * (48 / 32 - 1) / 2, 30.0])
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == codes.DCM.Saliency.value
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == "2.25.20000"


def test_the_picture_has_the_map_and_a_legend(results: dict[str, bytes]) -> None:
    picture = opened(results["picture"])
    assert picture.Columns == 640
    assert picture.Rows > 480
    values = picture.pixel_array
    assert (values[:480, :, 2] > values[:480, :, 0]).any()  # blue
    assert values[480:].any()


def test_a_picture_of_a_marked_image_is_marked(run: RunFolder, answered: Diagnose) -> None:
    data = slice_of(BurnedInAnnotation="YES")
    files = dicom_results(answered(data), data, run, pdf=PDF).files
    assert opened(files["picture"]).BurnedInAnnotation == "YES"
    assert opened(files["document"]).BurnedInAnnotation == "YES"


def test_a_withheld_map_is_in_no_file(run: RunFolder, answered: Diagnose) -> None:
    class Failed:
        withheld = "No map is shown: it fails both checks."

    data = slice_of()
    made = dicom_results(answered(data), data, run, sanity=cast("object", Failed()))  # type: ignore[arg-type]
    assert set(made.files) == {"report", "window"}
    assert made.omitted == (Failed.withheld,)


def test_the_document_is_the_pdf(results: dict[str, bytes]) -> None:
    document = opened(results["document"])
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == PDF
    assert document.SourceInstanceSequence[0].ReferencedSOPInstanceUID == "2.25.20000"


def test_the_window_is_the_models(results: dict[str, bytes]) -> None:
    state = opened(results["window"]).SoftcopyVOILUTSequence[0]
    assert (state.WindowCenter, state.WindowWidth, state.VOILUTFunction) == (40, 400, "LINEAR")
    assert opened(results["window"]).RescaleIntercept == -1024


@pytest.mark.parametrize("decoding", [Decoding("lung"), Decoding("full"), Decoding("auto"), Decoding("-100.5:31")])
def test_the_window_gives_the_models_gray(decoding: Decoding) -> None:
    """pydicom's own windowing with these numbers differs from the model's gray by rounding alone."""
    pixels: Pixels = open_pixels(slice_of(), decoding)
    center, width, function = center_width(pixels.view)
    state = Dataset()
    state.WindowCenter, state.WindowWidth, state.VOILUTFunction = center, width, function
    state.BitsStored, state.PhotometricInterpretation, state.PixelRepresentation = 16, "MONOCHROME2", 1
    units = pixels.units(pixels.values)
    shown = apply_voi_lut(units, state)
    low, high = shown.min(), shown.max()
    expected = pixels.to_uint8().astype(float)
    scaled = expected.min() + (shown - low) / (high - low) * (expected.max() - expected.min())
    assert np.abs(scaled - expected).max() <= 1


def test_results_of_a_frame_refer_to_it(run: RunFolder, answered: Diagnose, tmp_path: Path) -> None:
    data = enhanced()
    made = dicom_results(answered(data), data, run)
    for kind, file in made.files.items():
        (tmp_path / f"{kind}.dcm").write_bytes(file)
        assert errors_of(tmp_path / f"{kind}.dcm") == [], kind
    image = opened(made.files["map"])
    assert image.SourceImageSequence[0].ReferencedFrameNumber == 3
    assert image.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] == 4
    assert opened(made.files["window"]).SoftcopyVOILUTSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber == 3


def test_a_photograph_has_no_map_in_the_patient_and_no_window(
    run: RunFolder, answered: Diagnose, tmp_path: Path
) -> None:
    data = photograph()
    made = dicom_results(answered(data), data, run, pdf=PDF)
    assert set(made.files) == {"report", "picture", "document"}
    assert [sentence.split(":")[0] for sentence in made.omitted] == [
        "There is no Parametric Map",
        "There is no presentation state",
    ]
    for kind, file in made.files.items():
        (tmp_path / f"{kind}.dcm").write_bytes(file)
        assert errors_of(tmp_path / f"{kind}.dcm") == [], kind


VENDORS = (
    *("693_J2KI", "CT_small", "ExplVR_BigEnd", "JPEG2000", "MR_small", "MR_small_RLE", "MR_small_bigendian"),
    *("SC_rgb_jpeg_dcmtk", "SC_rgb_small_odd", "SC_ybr_full_422_uncompressed", "examples_palette", "image_dfl"),
    *("liver_1frame", "rtdose", "examples_overlay"),
)
"""pydicom's test files: several vendors, transfer syntaxes, kinds of pixels, and dates of old standards."""


@pytest.mark.parametrize("name", VENDORS)
def test_odd_files_get_valid_results(name: str, run: RunFolder, answered: Diagnose, tmp_path: Path) -> None:
    path = get_testdata_file(f"{name}.dcm", download=False)
    assert path is not None
    data = Path(str(path)).read_bytes()
    made = dicom_results(answered(data), data, run, pdf=PDF)
    assert {"report", "picture", "document"} <= set(made.files)
    for kind, file in made.files.items():
        (tmp_path / f"{kind}.dcm").write_bytes(file)
        assert errors_of(tmp_path / f"{kind}.dcm") == [], kind


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x89PNG", "this image is none"),
        (dicom_bytes(scan()), "has no StudyInstanceUID"),
        (slice_of(SOPClassUID="1.2.840.10008.5.1.4.1.1.6"), "of a kind that results cannot refer to"),
    ],
)
def test_files_without_a_study_are_refused(data: bytes, sentence: str, run: RunFolder, answered: Diagnose) -> None:
    diagnosis = answered(slice_of())
    with pytest.raises((DiagnosisError, UnreadableImage)) as error:
        dicom_results(diagnosis, data, run)
    assert sentence in str(error.value) or data.startswith(b"\x89PNG")


def test_another_image_is_refused(run: RunFolder, answered: Diagnose) -> None:
    with pytest.raises(DiagnosisError, match="another image"):
        dicom_results(answered(slice_of()), slice_of(shape=(32, 32)), run)


def test_hostile_class_names_stay_text(run: RunFolder, answered: Diagnose, tmp_path: Path) -> None:
    data, names = slice_of(), ("a\\b", "<script>", "x" * 100)
    diagnosis = replace(
        answered(data), classes=names, predicted=names[0], target=names[2], reliability=None, saliency=None
    )
    file = dicom_results(diagnosis, data, run).files["report"]
    (tmp_path / "report.dcm").write_bytes(file)
    assert errors_of(tmp_path / "report.dcm") == []
    assert any("a\\b" in text for text in texts(opened(file))) or any("x" * 100 in text for text in texts(opened(file)))


def test_a_damaged_file_is_refused(run: RunFolder) -> None:
    with pytest.raises(UnreadableImage):
        dicom_results(cast(Diagnosis, None), slice_of()[:400], run)
