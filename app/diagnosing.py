"""The parts of the Diagnose page. Nothing here keeps, shows or writes the name of a file."""

import hashlib
import json
from dataclasses import dataclass

import datacard
import judging
import pictures
import shared
import streamlit as st
import working
from PIL import Image

from shpeft.diagnosis import CAPTION, Diagnosis
from shpeft.errors import ShpeftError
from shpeft.images import Decoding, open_image
from shpeft.runs import RunFolder
from shpeft.runs.formats import plain
from shpeft.saliency import Sanity, overlay

UPLOAD, SAMPLE = "Upload an image", "A test image of this run"


@dataclass(frozen=True)
class Case:
    """An image to diagnose; ``digest`` is made of its content and stands for it."""

    image: Image.Image
    digest: str
    label: str | None = None


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
    found = None if data is None else _read(data, run.config.dataset.window, run.config.dataset.frame)
    if isinstance(found, ShpeftError):
        shared.complain(found)
        return None
    if found is not None and st.button("Remove the image", icon=":material/close:"):
        del st.session_state["uploaded"]
        working.forget()
        st.rerun()
    return found


def _read(data: bytes, window: str, frame: int | None) -> Case | ShpeftError:
    """The image as the run's images were shown, or what is wrong with it."""
    try:
        return Case(open_image(data, Decoding(window, frame)), hashlib.sha256(data).hexdigest()[:12])
    except ShpeftError as error:
        return error


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
    return Case(test.image(position), test.ids[position], test.classes[test.labels[position]])


def ranking(case: Case, found: Diagnosis) -> None:
    """The prediction, and every class's probability."""
    st.metric("Prediction", found.predicted)
    for name, probability in found.ranked():
        st.progress(probability, f"{name}: {probability:.1%}")
    judging.show(found)
    if case.label:
        st.caption(f"The dataset's own label is **{case.label}**.")


def view(case: Case, explained: Diagnosis | None) -> float:
    """The image, large and unmarked, or with the overlay at the opacity that is returned."""
    left, right = st.columns(2, vertical_alignment="center")
    size = left.segmented_control(
        "Size",
        ["Fit", "Actual pixels"],
        default="Fit",
        required=True,
        key="set_size_of_view",
        label_visibility="collapsed",
    )
    opacity = 0.5
    if explained is not None:
        opacity = right.slider("Opacity", 0.0, 1.0, opacity, 0.05, key="set_opacity", help="0 shows the image alone.")
    drawn = case.image
    words = "the image under diagnosis"
    if explained is not None and explained.saliency is not None:
        drawn = overlay(case.image, explained.saliency.map, opacity)
        words += " with its saliency map in blue"
    pictures.scan(drawn, words, actual_size=size == "Actual pixels")
    width, height = case.image.size
    if explained is None:
        st.caption(f"{width} × {height} pixels, shown as they are.")
    else:
        st.caption(
            f"**{CAPTION}** The stronger the blue, the more the score for *{explained.target}* depends on the pixels "
            "there."
        )
    return opacity


def downloads(case: Case, found: Diagnosis, opacity: float, checked: Sanity | None) -> None:
    """The diagnosis as JSON and, where there is one, the overlay as PNG; named by content."""
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
                pictures.png(overlay(case.image, found.saliency.map, opacity)),
                f"overlay_{case.digest}.png",
                "image/png",
                on_click="ignore",
                icon=":material/download:",
            )
