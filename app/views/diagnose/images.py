"""The images to diagnose: dropped on the page, in a folder of this computer, or test images of the run.

They stay where they are or in memory; file names are shown only where a list of damaged files needs them.
"""

import io
import secrets
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from app.views.diagnose import model_tasks
from app.widgets import dataset_card, layout, uploads
from app.widgets.folder_browser import choose_path
from shpeft.batch import Source, open_source
from shpeft.datasets import Split
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain

DROP, FOLDER, SAMPLES = "Drop images", "Folder or zip", "Test images"
MOST_SAMPLES = 48
"""Test images in a worklist."""

Images = Sequence[str | Path | bytes]
"""Folders and zips, by path or by content."""

FORMATS = "PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM, one, many, or a zip of them."


@dataclass(eq=False, repr=False)
class Worklist:
    """The images of this browser session.

    Attributes:
        images: for the worker; empty for test images.
        source: its files; None for test images.
        samples: the run's test images; None for others.
        opened: keeps zips open.
        token: another one for each list; Python's ``id`` would come back for a later list.
    """

    images: Images = ()
    source: Source | None = None
    samples: Split | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def identity(self) -> str:
        """What results of these images are remembered by: test images are the same in every list."""
        return self.token if self.samples is None else self.samples.fingerprint

    def __len__(self) -> int:
        if self.source is not None:
            return len(self.source.entries)
        return 0 if self.samples is None else min(MOST_SAMPLES, len(self.samples))


def choose(run: RunFolder) -> Worklist | None:
    """Draw the choice of images; return them, or None while there are none."""
    origin = st.segmented_control(
        "Images",
        [DROP, FOLDER, SAMPLES],
        default=DROP,
        required=True,
        key="set_origin",
        persist_state="session",
        label_visibility="collapsed",
        on_change=forget,
    )
    if origin == SAMPLES:
        return Worklist(samples=dataset_card.load_run_dataset(run.config).test)
    return _dropped() if origin == DROP else _in_folder()


def chosen(run: RunFolder) -> Worklist | None:
    """Return the images already chosen, without drawing anything but the progress of loading a dataset."""
    if st.session_state.get("set_origin") == SAMPLES:
        return Worklist(samples=dataset_card.load_run_dataset(run.config).test)
    worklist: Worklist | None = st.session_state.get("worklist")
    return worklist


def forget() -> None:
    """Drop the images, the open case and all work on them."""
    for name in ("worklist", "open_case", "case", "thumbnails", "set_images_path"):
        st.session_state.pop(name, None)
    model_tasks.forget()


def _keep(images: Images) -> None:
    """Open the images and keep them for this session; open the only one."""
    worklist = Worklist(images)
    with st.spinner("Looking for images"):
        worklist.source = worklist.opened.enter_context(open_source(images))
    st.session_state["worklist"] = worklist
    st.session_state["open_case"] = 0 if len(worklist) == 1 else None


def _dropped() -> Worklist | None:
    worklist: Worklist | None = st.session_state.get("worklist")
    if worklist is None:
        left, right = st.columns(2)
        with left:
            files = uploads.drop("Images or a zip", "case-files", "images", help=FORMATS)
        with right:
            files = files or uploads.drop("Or a folder", "case-folder", "folder", help=FORMATS)
        if files:
            st.session_state.pop("images_error", None)
            try:
                _keep([_as_zip(files)])
            except ShpeftError as error:
                st.session_state["images_error"] = error
            st.rerun()
        if failure := st.session_state.get("images_error"):
            layout.show_error(failure)
        st.caption(
            f"They stay in the memory of {plain(layout.computer())} until you remove them or close this tab: neither "
            "an image nor its name is saved."
        )
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(worklist):,} image{'s' * (len(worklist) != 1)} in memory.", width="content")
        st.button("Remove the images", icon=":material/close:", on_click=forget)
    return worklist


def _as_zip(files: Sequence[Any]) -> bytes:
    """Return a zip alone as it is, and other files as a zip in memory."""
    if len(files) == 1 and files[0].name.lower().endswith(".zip"):
        return bytes(files[0].getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, file in enumerate(files):
            name = f"{number:06}/{Path(file.name).name}" if len(files) > 1 else "image.png"  # one needs no name
            archive.writestr(name, file.getvalue())
    return buffer.getvalue()


def _in_folder() -> Worklist | None:
    path = choose_path(
        "Folder or zip",
        "set_images_path",
        "images",
        help="It is read where it is; its path is not saved.",
        placeholder="/home/me/images",
    )
    if not path:
        return None
    worklist: Worklist | None = st.session_state.get("worklist")
    if worklist is None or list(worklist.images) != [Path(path).expanduser()]:
        with layout.error_boundary():
            _keep([Path(path).expanduser()])
            st.rerun()
        return None
    st.caption(f"{len(worklist):,} images. They are read where they are.")
    return worklist
