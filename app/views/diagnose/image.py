"""The image under diagnosis: its pixels, its viewer, downloads. File names are never shown or saved."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import streamlit as st
from PIL import Image

from app.views.diagnose import images
from app.views.diagnose.images import Worklist
from app.widgets import layout, thumbnails, viewer
from shpeft.delta.file import read_header
from shpeft.diagnosis import Diagnosis
from shpeft.errors import ShpeftError
from shpeft.explanation.saliency import Sanity, overlay
from shpeft.images import Decoding, InputTransform, Pixels, open_pixels
from shpeft.images.dicom_header import is_dicom
from shpeft.images.model_view import model_view
from shpeft.images.reading import HEAD
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.support.markdown import plain


@dataclass(frozen=True, eq=False)
class Case:
    """An image to diagnose.

    Attributes:
        pixels: one frame, with the window that the model sees.
        digest: a hash of the content, which identifies the image and its frame.
        series: the same for all frames of a file.
        label: the class in the dataset; None for an upload.
        frame: opens another frame of the file; None if there is only one.
        file: the DICOM file; None for other images.
    """

    pixels: Pixels
    digest: str
    series: str
    label: str | None = None
    frame: Callable[[int], Pixels] | None = None
    file: bytes | None = None

    @property
    def id(self) -> str:
        """The id of the file in a batch's CSV."""
        return f"case-{self.series}"

    @cached_property
    def image(self) -> Image.Image:
        """What the model sees, before it is resized, as ``open_image`` reads it."""
        return self.pixels.to_image()


def choose_image(run: RunFolder) -> Case | None:
    """Draw the choice of images and of one among several; return it, or None while there is none."""
    worklist = images.choose(run)
    if worklist is None or not len(worklist):
        return None
    position = 0
    if len(worklist) > 1:
        number = st.number_input(f"Image, 1 to {len(worklist):,}", 1, len(worklist), 1, key=f"number-{run.name}")
        position = int(number) - 1
    opened = open_case(run, worklist, position)
    if isinstance(opened, ShpeftError):
        layout.show_error(opened)
        return None
    return opened


def open_case(run: RunFolder, worklist: Worklist, position: int) -> Case | ShpeftError:
    """Return an image of the worklist, or why it cannot be read."""
    if worklist.samples is not None:
        test = worklist.samples
        pixels = replace(test.pixels(position), frame=0, frames=1)
        return Case(
            pixels, test.ids[position], test.ids[position], test.task.shown(test.labels[position], test.classes)
        )
    assert worklist.source is not None
    try:
        data = worklist.source.entries[position].read()
    except ShpeftError as error:
        return error
    return _decode_once(data, run.config.dataset.window, run.config.dataset.frame)


def _decode_once(data: bytes, window: str, frame: int | None) -> Case | ShpeftError:
    """Return the uploaded image or its error; decode it only if it differs from the last one."""
    series = hashlib.sha256(data).hexdigest()[:12]
    frame = st.session_state.get(f"frame-{series}", frame)
    last: tuple[object, Case | ShpeftError] | None = st.session_state.get("case")
    if last is None or last[0] != (series, window, frame):
        last = (series, window, frame), _decode(data, series, window, frame)
        st.session_state["case"] = last
    return last[1]


def _decode(data: bytes, series: str, window: str, frame: int | None) -> Case | ShpeftError:
    """Decode the image as the run's images were decoded; return the error if that fails."""

    def frame_of(position: int) -> Pixels:
        return open_pixels(data, Decoding(window, position))

    try:
        pixels = open_pixels(data, Decoding(window, frame))
    except ShpeftError as error:
        return error
    file = data if is_dicom(data[:HEAD]) else None
    if pixels.frames == 1:
        return Case(pixels, series, series, file=file)
    return Case(pixels, f"{series}-{pixels.frame}", series, frame=frame_of, file=file)


def facts(case: Case) -> None:
    """Draw what the file states about the image, in a line."""
    if case.pixels.facts.line:
        st.caption(plain(case.pixels.facts.line))


def seen_by_model(run: RunFolder, case: Case) -> None:
    """Draw which part, frame and window of the image the model gets."""
    transform = InputTransform.from_dict(read_header(run.delta_path)["transform"])
    st.caption(plain(model_view(case.pixels, transform)))


def dataset_label(case: Case) -> None:
    """Draw the class that the dataset gives for a test image."""
    if case.label:
        st.caption(f"Label in the dataset: **{plain(case.label)}**.")


@st.fragment
def view_image(case: Case, explained: Diagnosis | None = None) -> None:
    """Draw the image in its viewer, with the map of ``explained``; another frame redraws only the viewer."""
    frame = viewer.selected_frame(case.series)
    if case.frame is None or frame is None or frame == case.pixels.frame:
        saliency = None if explained is None else explained.saliency
        viewer.image_viewer(case.pixels, case.series, saliency, "" if explained is None else explained.target)
        return
    viewer.image_viewer(case.frame(frame), case.series)
    st.caption(f"This is frame {frame + 1}. The diagnosis is of frame {case.pixels.frame + 1}.")
    if st.button(f"Diagnose frame {frame + 1}"):
        st.session_state[f"frame-{case.series}"] = frame
        st.rerun()


def download_buttons(case: Case, diagnosis: Diagnosis, sanity: Sanity | None) -> None:
    """Draw downloads of the diagnosis as JSON and of the overlay as PNG; files are named by content."""
    checks = None if sanity is None else sanity.to_dict()
    ranked = {} if diagnosis.estimate is not None else {"ranked": diagnosis.ranked()}
    entry = to_jsonable({"id": case.digest, **diagnosis.to_dict(), **ranked, "sanity": checks})
    with st.container(horizontal=True):
        st.download_button(
            "Diagnosis (JSON)",
            json.dumps(entry, indent=1, ensure_ascii=False),
            f"diagnosis_{case.digest}.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )
        if diagnosis.saliency is not None:
            st.download_button(
                "Overlay (PNG)",
                thumbnails.png_bytes(overlay(case.image, diagnosis.saliency.map)),
                f"overlay_{case.digest}.png",
                "image/png",
                on_click="ignore",
                icon=":material/download:",
            )
