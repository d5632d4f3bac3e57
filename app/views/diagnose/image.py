"""The image under diagnosis: its pixels, its viewer, downloads. File names are never shown or saved."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import streamlit as st
from PIL import Image

from app.slices import Slices, publish
from app.views.diagnose import images
from app.views.diagnose.images import Worklist
from app.widgets import layout, thumbnails, viewer
from shpeft.batch import Series
from shpeft.batch.series_rules import SeriesDiagnosis
from shpeft.config.schema import SeriesRule
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
        slices: of a series, its slices; the image is then one of them.
        rule: how the series is answered.
    """

    pixels: Pixels
    digest: str
    series: str
    label: str | None = None
    frame: Callable[[int], Pixels] | None = None
    file: bytes | None = None
    slices: Series | None = None
    rule: SeriesRule | None = None

    @property
    def frame_of_file(self) -> int:
        """The frame of the file that the image is; a slice of a series is a frame of its own file."""
        return self.pixels.frame if self.slices is None else self.slices.slices[self.pixels.frame].header.frame

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
    if opened.slices is not None:
        return replace(opened, digest=f"{opened.digest}-{opened.pixels.frame}")  # this slice alone
    return opened


def open_case(run: RunFolder, worklist: Worklist, position: int, number: int | None = None) -> Case | ShpeftError:
    """Return an image of the worklist, or why it cannot be read.

    Args:
        number: which slice of a series, from 0; None: the one that was shown last, at first the middle one.
    """
    if worklist.samples is not None:
        test = worklist.samples
        pixels = replace(test.pixels(position), frame=0, frames=1)
        return Case(
            pixels, test.ids[position], test.ids[position], test.task.shown(test.labels[position], test.classes)
        )
    opened = worklist.cases[position]
    if isinstance(opened, Series):
        return _open_slice(opened, worklist.rule, run.config.dataset.window, number)
    try:
        data = opened.read()
    except ShpeftError as error:
        return error
    return _decode_once(data, run.config.dataset.window, run.config.dataset.frame)


def show_key_slice(run: RunFolder, worklist: Worklist, position: int, number: int) -> Case:
    """Return a series with the slice that its answer names, which is shown from now on."""
    case = worklist.cases[position]
    assert isinstance(case, Series)
    st.session_state[f"frame-{case.identity}"] = number
    opened = open_case(run, worklist, position)
    if isinstance(opened, ShpeftError):  # it was read a moment ago
        raise opened
    return opened


def _open_slice(series: Series, rule: SeriesRule | None, window: str, number: int | None) -> Case | ShpeftError:
    """Return a series with one of its slices, whose number among them is its frame."""
    number = st.session_state.get(f"frame-{series.identity}", len(series) // 2) if number is None else number

    def read(position: int) -> tuple[Pixels, bytes]:
        each = series.slices[position]
        data = each.entry.read()
        pixels = open_pixels(data, Decoding(window, each.header.frame))
        return replace(pixels, frame=position, frames=len(series)), data

    try:
        pixels, file = read(number)
    except ShpeftError as error:
        return error
    return Case(
        pixels,
        series.identity,
        series.identity,
        frame=lambda position: read(position)[0],
        file=file,
        slices=series,
        rule=rule,
    )


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
def view_image(case: Case, explained: Diagnosis | None = None, *, linked: bool = False, key: str = viewer.KEY) -> None:
    """Draw the image in its viewer, with the map of ``explained``; another frame redraws only the viewer.

    Args:
        linked: scroll together with the page's other linked viewers.
        key: tells several viewers of a page apart.
    """
    frame = viewer.selected_frame(case.series, key)
    address = "" if case.slices is None else _published(case).address
    if case.frame is None or frame is None or frame == case.pixels.frame:
        saliency = None if explained is None else explained.saliency
        target = "" if explained is None else explained.target
        message = viewer.viewer_message(case.pixels, case.series, saliency, target, slices=address, linked=linked)
        viewer.image_viewer(message, key)
        return
    message = viewer.viewer_message(case.frame(frame), case.series, slices=address, linked=linked)
    viewer.image_viewer(message, key)
    if case.slices is not None:
        if explained is not None:
            st.caption(f"This is slice {frame + 1}. The map is of slice {case.pixels.frame + 1}.")
        return
    st.caption(f"This is frame {frame + 1}. The diagnosis is of frame {case.pixels.frame + 1}.")
    if st.button(f"Diagnose frame {frame + 1}"):
        st.session_state[f"frame-{case.series}"] = frame
        st.rerun()


def _published(case: Case) -> Slices:
    """Return the addresses of a series' slices, which this session holds as long as it holds the images."""
    published: dict[str, Slices] = st.session_state.setdefault("slices", {})
    if case.digest not in published:
        read, series, slices = case.frame, case.series, case.slices
        assert read is not None
        assert slices is not None
        published[case.digest] = publish(lambda number: viewer.viewer_message(read(number), series), len(slices))
    return published[case.digest]


def download_buttons(
    case: Case, diagnosis: Diagnosis, sanity: Sanity | None, answered: SeriesDiagnosis | None = None
) -> None:
    """Draw downloads of the diagnosis as JSON and of the overlay as PNG; files are named by content.

    Args:
        answered: of a series, how its answer was made.
    """
    checks = None if sanity is None else sanity.to_dict()
    ranked = {} if diagnosis.estimate is not None else {"ranked": diagnosis.ranked()}
    of_series = {} if answered is None else answered.to_dict()
    entry = to_jsonable({"id": case.digest, **of_series, **diagnosis.to_dict(), **ranked, "sanity": checks})
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
