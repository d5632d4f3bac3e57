"""The report: what is in it, what must not be, and that a hostile name stays a name."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from itertools import pairwise

import html5lib
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import shpeft as library
from shpeft.attribution import attribute_weights
from shpeft.diagnosis import case_id, diagnose
from shpeft.images import open_image
from shpeft.pipeline import choose_trust, load_run
from shpeft.runs import RunFolder
from shpeft.saliency import check_saliency, overlay
from shpeft.trust import Choices, ThresholdRule
from tests.commands import TINY, shpeft
from tests.dicom_files import made as dicom
from tests.dicom_files import written

HOSTILE = ("</table><script>alert(1)</script>", 'a" onload="alert(2)', "{{ 7 * 7 }} & <img src=//host/x.png>")
"""Class names that are as bad as a table of labels can make them."""

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> RunFolder:
    """A finished run whose classes have hostile names, with a threshold."""
    place, rng = tmp_path_factory.mktemp("Ward 7 of Telltale Clinic"), np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(48):
        pixels = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
        pixels[:, 10 * (number % 3) : 10 * (number % 3) + 10] += 90
        Image.fromarray(pixels).save(place / f"DOE_JANE_{number}.png")
        label = HOSTILE[number % 3].replace('"', '""')
        lines.append(f'DOE_JANE_{number}.png,"{label}"')
    (place / "labels.csv").write_text("\n".join(lines))
    config = place / "tiny.yaml"
    config.write_text(TINY.replace("phantom:fundus?n=48&size=32", str(place / "labels.csv")))
    run = tmp_path_factory.mktemp("runs") / "hostile"
    shpeft("finetune", "--config", config, "--out", run)
    opened = RunFolder.open(run)
    choose_trust(opened, Choices(ThresholdRule(HOSTILE[0])))
    return opened


@pytest.fixture(scope="module")
def loaded(folder):
    return load_run(folder, "cpu")


def telling() -> bytes:
    """A DICOM file full of tags about a patient."""
    values = np.random.default_rng(1).integers(0, 4000, (40, 48)).astype(np.uint16)
    return written(dicom(values, **TAGS))


@pytest.fixture(scope="module")
def everything(folder, loaded, tmp_path_factory):
    """A report with every part, of a telling file."""
    path = tmp_path_factory.mktemp("Telltale ward") / "DOE_JANE_1970.dcm"
    path.write_bytes(telling())
    found = diagnosed(loaded, path)
    inputs = loaded.backbone.transform(open_image(path, loaded.decoding))
    sanity = check_saliency(loaded.backbone, inputs, found.saliency)
    with loaded.pretrained() as base:
        attribution = attribute_weights(base, loaded.delta, inputs, 1)
    note = "Compare <b>both</b> sides\nand follow up."
    text = library.report(found, path, folder, sanity=sanity, attribution=attribution, note=note, made=MADE)
    return text, found, sanity, attribution, path


def diagnosed(loaded, image, saliency="integrated_gradients"):
    return diagnose(
        loaded.backbone,
        image,
        decoding=loaded.decoding,
        saliency=saliency,
        trust=loaded.trust,
        novelty=loaded.novelty,
    )


def parsed(text: str) -> ET.Element:
    """The page as a strict HTML5 parser reads it: any error of syntax or nesting raises."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def said(text: str) -> str:
    """All that the page says, in one line."""
    body = parsed(text).find("body")
    return " ".join("".join(body.itertext()).split())


def cells(page: ET.Element, caption: str) -> list[list[str]]:
    found = next(t for t in page.iter("table") if t.find("caption").text == caption)
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in found.find("tbody")]


def test_the_page_is_valid_html_that_can_be_read_aloud(everything):
    text = everything[0]
    page = parsed(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.get("lang") == "en"
    levels = [int(element.tag[1]) for element in page.iter() if re.fullmatch("h[1-6]", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [len(list(page.iter(tag))) for tag in ("header", "main", "footer")] == [1, 1, 1]
    pictures = list(page.iter("img"))
    assert len(pictures) == 2
    assert len({picture.get("alt") for picture in pictures}) == 2
    for table in page.iter("table"):
        assert table.find("caption").text
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in table.find("tbody"))
        if (head := table.find("thead")) is not None:
            assert all(cell.get("scope") == "col" for cell in head[0])
            assert {len(row) for row in table.find("tbody")} == {len(head[0])}
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {section.get("aria-labelledby") for section in page.iter("section")} == set(ids)


def test_the_page_needs_no_script_and_asks_nobody_for_anything(everything):
    text = everything[0]
    page = parsed(text)
    tags = {str(element.tag) for element in page.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "video", "audio", "base", "a", "svg"}
    for element in page.iter():
        assert not [name for name in element.attrib if name.startswith("on") or name in ("href", "srcset", "action")]
        assert element.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    style = "".join(element.text for element in page.iter("style"))
    assert not re.search(r"url\(|@import|@font-face|expression", style)
    policy = next(m for m in page.iter("meta") if m.get("http-equiv") == "Content-Security-Policy").get("content")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_hostile_names_and_notes_stay_words(everything):
    text = everything[0]
    for name in HOSTILE:
        assert name in said(text)
        assert name not in text
    assert "Compare <b>both</b> sides and follow up." in said(text)
    assert "49" not in [row[0] for row in cells(parsed(text), "Results of each class")]
    assert {row[0] for row in cells(parsed(text), "Results of each class")} == {" ".join(n.split()) for n in HOSTILE}
    assert not list(parsed(text).iter("b"))


def test_nothing_of_the_patient_the_file_or_this_computer_is_in_it(everything, folder):
    text, *_, path = everything
    hidden = ["DOE", "JANE", "Telltale", "1970", path.name, str(path.parent), str(folder.path), "Ward", *TAGS.values()]
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", text)]
    rest = re.sub(r"base64,[^\"]+", "", text)
    for word in hidden:
        assert not re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", rest, re.IGNORECASE), word
        assert not [word for picture in pictures if word.encode() in picture]
    for picture in pictures:
        assert chunks(picture) <= {b"IHDR", b"IDAT", b"IEND"}


def chunks(data: bytes) -> set[bytes]:
    """The kinds of chunks of a PNG."""
    found, at = set(), 8
    while at < len(data):
        found.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


def test_texts_and_profiles_of_an_image_stay_behind(folder, loaded):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    image.info |= {"icc_profile": b"Telltale profile", "comment": b"Telltale", "exif": b"Exif\0\0Telltale"}
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Patient", "Telltale")
    image.save(buffer, "PNG", pnginfo=info)
    for source in (image, buffer.getvalue(), io.BytesIO(buffer.getvalue())):
        text = library.report(diagnosed(loaded, image, None), source, folder, made=MADE)
        (picture,) = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", text)]
        assert chunks(picture) <= {b"IHDR", b"IDAT", b"IEND"}
        assert b"Telltale" not in text.encode() + picture
    assert case_id(buffer.getvalue()) in text


def test_the_pictures_have_every_pixel(everything, loaded):
    text, found, *_, path = everything
    pictures = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([^\"]+)", text)]
    image = open_image(path, loaded.decoding)
    assert np.array_equal(np.asarray(pictures[0]), np.asarray(image))
    assert np.array_equal(np.asarray(pictures[1]), np.asarray(overlay(image, found.saliency.map, 0.5)))
