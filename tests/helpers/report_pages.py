"""Helpers of the report tests: hostile class names, a DICOM file full of patient tags, and the parsed page."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import html5lib
import numpy as np

from shpeft.diagnosis import Diagnosis, diagnose
from shpeft.explanation.attribution import WeightAttribution
from shpeft.explanation.saliency import Sanity
from shpeft.images import ImageSource
from shpeft.pipeline import LoadedRun
from tests.helpers.dicom_files import dicom_bytes
from tests.helpers.dicom_files import dicom_of as dicom
from tests.helpers.present import present

HOSTILE = ("</table><script>alert(1)</script>", 'a" onload="alert(2)', "{{ 7 * 7 }} & <img src=//host/x.png>")
"""Class names from a hostile table of labels."""

MADE = datetime(2026, 11, 25, 9, 14, tzinfo=UTC)

TAGS = {
    "PatientBirthDate": "19700131",
    "PatientAddress": "12 Telltale Lane",
    "OtherPatientIDs": "TELL-4711",
    "AccessionNumber": "ACC-0815",
    "InstitutionName": "Telltale Clinic",
    "ReferringPhysicianName": "HOUSE^GREG",
    "OperatorsName": "TELL^TALE",
    "StudyDescription": "Telltale study",
    "PatientComments": "Telltale comment",
    "StudyDate": "20010203",
    "DeviceSerialNumber": "SN-TELL",
}


FullReport = tuple[str, Diagnosis, Sanity, WeightAttribution, Path]
"""HTML of a report with every section, its parts, and the path of the image."""


def telling() -> bytes:
    """Return a DICOM file full of patient tags."""
    values = np.random.default_rng(1).integers(0, 4000, (40, 48)).astype(np.uint16)
    return dicom_bytes(dicom(values, **TAGS))


def diagnosed(loaded: LoadedRun, image: ImageSource, method: str | None = "integrated_gradients") -> Diagnosis:
    """Diagnose an image as the run's pages do."""
    return diagnose(
        loaded.backbone,
        image,
        decoding=loaded.decoding,
        method=method,
        reliability=loaded.reliability,
        ood_detector=loaded.ood_detector,
    )


def parsed(text: str) -> ET.Element:
    """Parse the page with a strict HTML5 parser, which raises on any error of syntax or nesting."""
    page: ET.Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    return page


def said(text: str) -> str:
    """Return the text of the page in one line."""
    body = present(parsed(text).find("body"))
    return " ".join("".join(body.itertext()).split())


def cells(page: ET.Element, caption: str) -> list[list[str]]:
    """Return the body cells of the table with this caption."""
    table = next(t for t in page.iter("table") if present(t.find("caption")).text == caption)
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in present(table.find("tbody"))]
