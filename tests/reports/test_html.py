"""Report pages: valid and accessible HTML, no network, no patient data, hostile names escaped."""

import base64
import io
import re
from itertools import pairwise

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import shpeft as library
from shpeft.diagnosis import case_id
from shpeft.explanation.saliency import overlay
from shpeft.images import open_image
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from tests.helpers.present import present
from tests.helpers.report_pages import HOSTILE, MADE, TAGS, FullReport, cells, diagnosed, parsed, said


def test_the_page_is_valid_html_that_can_be_read_aloud(everything: FullReport) -> None:
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
        assert present(table.find("caption")).text
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in present(table.find("tbody")))
        if (head := table.find("thead")) is not None:
            assert all(cell.get("scope") == "col" for cell in head[0])
            assert {len(row) for row in present(table.find("tbody"))} == {len(head[0])}
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {section.get("aria-labelledby") for section in page.iter("section")} == set(ids)


def test_page_needs_no_script_and_no_network(everything: FullReport) -> None:
    text = everything[0]
    page = parsed(text)
    tags = {str(element.tag) for element in page.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "video", "audio", "base", "a", "svg"}
    for element in page.iter():
        assert not [name for name in element.attrib if name.startswith("on") or name in ("href", "srcset", "action")]
        assert element.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    style = "".join(element.text or "" for element in page.iter("style"))
    assert not re.search(r"url\(|@import|@font-face|expression", style)
    policy = next(m for m in page.iter("meta") if m.get("http-equiv") == "Content-Security-Policy").get("content")
    assert present(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_hostile_names_and_notes_are_escaped(everything: FullReport) -> None:
    text = everything[0]
    for name in HOSTILE:
        assert name in said(text)
        assert name not in text
    assert "Compare <b>both</b> sides and follow up." in said(text)
    assert "49" not in [row[0] for row in cells(parsed(text), "Results by class")]
    assert {row[0] for row in cells(parsed(text), "Results by class")} == {" ".join(n.split()) for n in HOSTILE}
    assert not list(parsed(text).iter("b"))


def test_nothing_of_the_patient_the_file_or_this_computer_is_in_it(everything: FullReport, folder: RunFolder) -> None:
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
    kinds, at = set(), 8
    while at < len(data):
        kinds.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return kinds


def test_image_metadata_is_dropped(folder: RunFolder, loaded: LoadedRun) -> None:
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


def test_the_pictures_have_every_pixel(everything: FullReport, loaded: LoadedRun) -> None:
    text, diagnosis, *_, path = everything
    pictures = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([^\"]+)", text)]
    image = open_image(path, loaded.decoding)
    assert np.array_equal(np.asarray(pictures[0]), np.asarray(image))
    assert np.array_equal(np.asarray(pictures[1]), np.asarray(overlay(image, present(diagnosis.saliency).map)))
