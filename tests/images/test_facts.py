"""What DICOM files state about how they were made."""

from typing import Any

import pytest
from pydicom.sr.codedict import codes

from shpeft.images import Acquisition, Decoding, Facts, open_pixels
from shpeft.images.facts import VIEW_CODES
from tests.helpers.dicom_files import dicom_bytes, items, scan

AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def facts_of(**tags: Any) -> Facts:
    """Return the facts of a CT slice with these tags."""
    return open_pixels(dicom_bytes(scan(**tags))).facts


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [(AXIAL, "axial"), (CORONAL, "coronal"), (SAGITTAL, "sagittal"), ([0.9, 0.3, 0.3, -0.3, 0.9, 0.2], "axial")],
)
def test_plane_is_the_nearest_one(orientation: list[float], plane: str) -> None:
    assert facts_of(ImageOrientationPatient=orientation).plane == plane


def test_a_radiograph_without_an_orientation_in_the_patient_has_no_plane() -> None:
    facts = facts_of(PatientOrientation=["L", "F"])
    assert (facts.plane, facts.edges) == ("", ("R", "L", "H", "F"))


def test_side_of_a_frame_goes_before_that_of_the_series() -> None:
    assert facts_of(Laterality="R").laterality == "R"
    assert facts_of(Laterality="R", ImageLaterality="L").laterality == "L"
    own = items(FrameAnatomySequence=items(FrameLaterality="B"))
    assert facts_of(Laterality="R", SharedFunctionalGroupsSequence=own).laterality == "B"


MLO, PA = {"CodeValue": "399368009"}, {"CodeValue": "R-40888", "CodingSchemeDesignator": "SRT"}


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewCodeSequence": items(CodingSchemeDesignator="SCT", **MLO)}, "MLO"),
        ({"ViewCodeSequence": items(**PA)}, "PA"),
        ({"ViewCodeSequence": items(CodingSchemeDesignator="SCT", **MLO), "ViewPosition": "CC"}, "MLO"),
        ({"ViewCodeSequence": items(CodingSchemeDesignator="99LOCAL", **MLO), "ViewPosition": "CC"}, "CC"),
        ({"ViewCodeSequence": items(CodeValue="399061009", CodingSchemeDesignator="SCT")}, ""),  # axial: no term
        ({"ViewCodeSequence": items(CodeMeaning="DOE^JANE")}, ""),
        ({"ViewPosition": "AP"}, "AP"),
        ({}, ""),
    ],
)
def test_a_view_is_read_by_its_code_first(tags: dict[str, Any], view: str) -> None:
    assert facts_of(**tags).view == view


def test_codes_of_views_are_those_of_the_standard() -> None:
    known: dict[str, str] = {}
    for name in ("cid4010", "cid4014"):
        group = getattr(codes, name)
        known |= {getattr(group, concept).value: getattr(group, concept).meaning for concept in group.dir()}
    terms = {"399173006": "left lateral", "399368009": "medio-lateral oblique", "272479007": "postero-anterior"}
    assert {value for value in VIEW_CODES if value.isdigit()} <= known.keys()
    assert {value: known[value] for value in terms} == terms


@pytest.mark.parametrize("spacing", [["0", "0"], ["-1", "1"], ["1e400", "1"], ["0.5"]])
def test_a_spacing_that_cannot_be_is_missing(spacing: list[str]) -> None:
    assert facts_of(PixelSpacing=spacing).spacing is None


def test_facts_of_a_frame() -> None:
    groups = [items(PixelMeasuresSequence=items(PixelSpacing=[size, size]))[0] for size in (0.5, 0.25)]
    data = scan(PerFrameFunctionalGroupsSequence=groups, NumberOfFrames=2)
    data.PixelData = data.PixelData * 2
    assert [open_pixels(dicom_bytes(data), Decoding(frame=f)).facts.spacing for f in (0, 1)] == [
        (0.5, 0.5),
        (0.25, 0.25),
    ]


def test_line_has_what_is_stated_and_no_more() -> None:
    assert Facts().line == ""
    chest = Facts(Acquisition("CT", "CHEST"), spacing=(0.7, 0.7), thickness=5.0, plane="axial")
    assert chest.line == "CT · chest · axial · 0.7 × 0.7 mm · slice 5 mm"
    assert Facts(Acquisition("DX"), "L", "PA", (0.143, 0.143), at_detector=True).line == (
        "X-ray · 0.143 × 0.143 mm at the detector · left · PA"
    )
