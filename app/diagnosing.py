"""The parts of the Diagnose page. Nothing here keeps, shows or writes the name of a file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import datacard
import judging
import pictures
import shared
import streamlit as st
import viewer
import working
from PIL import Image

from shpeft.diagnosis import Diagnosis
from shpeft.errors import ShpeftError
from shpeft.images import Decoding, Pixels, open_pixels
from shpeft.runs import RunFolder
from shpeft.runs.formats import plain
from shpeft.saliency import Sanity, overlay

UPLOAD, SAMPLE = "Upload an image", "A test image of this run"


@dataclass(frozen=True, eq=False)
class Case:
    """An image to diagnose.

    Attributes:
        pixels: one frame, as the model is shown it unless another window is chosen.
        digest: made of the content, stands for the image and its frame.
        series: the same for all frames of a file.
        frame: gives another frame of the file; None where there is none to be had.
    """

    pixels: Pixels
    digest: str
    series: str
    label: str | None = None
    frame: Callable[[int], Pixels] | None = None

    @cached_property
    def image(self) -> Image.Image:
        """What the model is shown, before it is resized: ``open_image``'s."""
        return Image.fromarray(self.pixels.shown()).convert("RGB")


def choose_image(run: RunFolder) -> Case | None:
    """Let an image be uploaded or taken from the run's test images; None before there is one."""
    origin = st.segmented_control(
        "Image", [UPLOAD, SAMPLE], default=UPLOAD, required=True, key="set_origin", label_visibility="collapsed"
    )
    return _sample(run) if origin == SAMPLE else _upload(run)


def _upload(run: RunFolder) -> Case | None:
    """The uploaded image. The widget is emptied at once: it would show the file's name for as long as it holds it."""
    st.html("<style>[data-testid='stFileChip']{visibility:hidden}</style>")
    number = st.session_state.setdefault("uploads", 0)
    file = st.file_uploader(
        "Image",
        key=f"upload-{number}",
        label_visibility="collapsed",
        help="PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM.",
    )
    if file is not None:
        st.session_state["uploads"] = number + 1
        st.session_state["uploaded"] = file.getvalue()
        st.rerun()
    data = st.session_state.get("uploaded")
    found = None if data is None else _kept(data, run.config.dataset.window, run.config.dataset.frame)
    if isinstance(found, ShpeftError):
        shared.complain(found)
        st.caption("Upload another file, or this one exported anew.")
        return None
    if found is not None and st.button("Remove the image", icon=":material/close:"):
        del st.session_state["uploaded"]
        st.session_state.pop("case", None)
        working.forget()
        st.rerun()
    return found


def _kept(data: bytes, window: str, frame: int | None) -> Case | ShpeftError:
    """The uploaded image, which is decoded once for many drawings of the page."""
    series = hashlib.sha256(data).hexdigest()[:12]
    frame = st.session_state.get(f"frame-{series}", frame)
    known, case = st.session_state.get("case", (None, None))
    if known != (series, window, frame):
        case = _read(data, series, window, frame)
        st.session_state["case"] = ((series, window, frame), case)
    return case


def _read(data: bytes, series: str, window: str, frame: int | None) -> Case | ShpeftError:
    """The image as the run's images were shown, or what is wrong with it."""

    def frame_of(position: int) -> Pixels:
        return open_pixels(data, Decoding(window, position))

    try:
        pixels = open_pixels(data, Decoding(window, frame))
    except ShpeftError as error:
        return error
    if pixels.frames == 1:
        return Case(pixels, series, series)
    return Case(pixels, f"{series}-{pixels.frame}", series, frame=frame_of)


def _sample(run: RunFolder) -> Case | None:
    test = datacard.load_of(run.config).test
    number = st.number_input(
        f"Which of the {len(test):,} test images",
        1,
        len(test),
        1,
        key=f"sample-{run.name}",
        help="The model has seen none of them in training.",
    )
    position = range(len(test))[number - 1]
    pixels = replace(test.pixels(position), frame=0, frames=1)
    return Case(pixels, test.ids[position], test.ids[position], test.classes[test.labels[position]])


def ranking(case: Case, found: Diagnosis) -> None:
    """The prediction, and every class's probability."""
    st.metric("Prediction", found.predicted)
    for name, probability in found.ranked():
        st.progress(probability, f"{name}: {probability:.1%}")
    judging.show(found)
    if case.label:
        st.caption(f"The dataset's own label is **{case.label}**.")


@st.fragment
def view(case: Case, explained: Diagnosis | None = None) -> None:
    """The image in its viewer. What is done there draws nothing else again, and another frame draws only this."""
    wanted = viewer.frame_wanted(case.series)
    if case.frame is None or wanted is None or wanted == case.pixels.frame:
        saliency = None if explained is None else explained.saliency
        viewer.show(case.pixels, case.series, saliency, "" if explained is None else explained.target)
        return
    viewer.show(case.frame(wanted), case.series)
    st.caption(f"This is frame {wanted + 1}. What is said of the image is about frame {case.pixels.frame + 1}.")
    if st.button(f"Diagnose frame {wanted + 1}"):
        st.session_state[f"frame-{case.series}"] = wanted
        st.rerun()


def downloads(case: Case, found: Diagnosis, checked: Sanity | None) -> None:
    """The diagnosis as JSON and, where there is a map, the image with it as PNG; named by content."""
    sanity = None if checked is None else checked.to_dict()
    entry = plain({"id": case.digest, **found.to_dict(), "ranked": found.ranked(), "sanity": sanity})
    with st.container(horizontal=True):
        st.download_button(
            "Diagnosis (JSON)",
            json.dumps(entry, indent=1, ensure_ascii=False),
            f"diagnosis_{case.digest}.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )
        if found.saliency is not None:
            st.download_button(
                "Overlay (PNG)",
                pictures.png(overlay(case.image, found.saliency.map)),
                f"overlay_{case.digest}.png",
                "image/png",
                on_click="ignore",
                icon=":material/download:",
            )
