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
from shpeft.batch import Entry, Series, Source, by_series, open_source
from shpeft.batch.series_rules import rules_for
from shpeft.config.schema import SeriesRule
from shpeft.datasets import Split
from shpeft.delta.file import read_header, task_of
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain

DROP, FOLDER, SAMPLES = "Drop images", "Folder or zip", "Test images"
MOST_SAMPLES = 48
"""Test images in a worklist."""

EACH_SLICE = "each"
RULES = {
    "highest-risk": "Riskiest slice",
    "mean": "Mean of all slices",
    "attention": "Attention to risky slices",
    EACH_SLICE: "Each slice by itself",
}
HELP_RULES = (
    "*Riskiest slice*: the answer of the slice with the highest probability of the class that must not be missed. "
    "*Mean*: of all slices' probabilities. *Attention*: their mean, in which a slice counts by its odds of that class. "
    "Which of them is right for your series was not measured."
)

Images = Sequence[str | Path | bytes]
"""Folders and zips, by path or by content."""

FORMATS = "PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM, one, many, or a zip of them."


@dataclass(eq=False, repr=False)
class Worklist:
    """The images of this browser session.

    Attributes:
        images: for the worker; empty for test images.
        source: its files; None for test images.
        grouped: the cases where the files of a series are one.
        rule: how a series is answered; None: every file is a case.
        samples: the run's test images; None for others.
        opened: keeps zips open.
        token: another one for each list; Python's ``id`` would come back for a later list.
    """

    images: Images = ()
    source: Source | None = None
    grouped: Sequence[Entry | Series] = ()
    rule: SeriesRule | None = None
    samples: Split | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def identity(self) -> str:
        """What results of these images are remembered by: test images are the same in every list."""
        return f"{self.token}/{self.rule}" if self.samples is None else self.samples.fingerprint

    @property
    def cases(self) -> Sequence[Entry | Series]:
        """The cases, in the order of their first files; none of test images."""
        if self.source is None:
            return ()
        return self.source.entries if self.rule is None else self.grouped

    @property
    def series(self) -> list[Series]:
        """The series of several files, whether or not they are cases."""
        return [case for case in self.grouped if isinstance(case, Series)]

    @property
    def files(self) -> int:
        """The number of images."""
        return len(self) if self.source is None else len(self.source.entries)

    def __len__(self) -> int:
        return len(self.cases) if self.samples is None else min(MOST_SAMPLES, len(self.samples))


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
    worklist = _dropped() if origin == DROP else _in_folder()
    if worklist is not None and worklist.series:
        _choose_rule(run, worklist)
    return worklist


def _choose_rule(run: RunFolder, worklist: Worklist) -> None:
    """Draw the choice of how a series is answered, among the rules that the model can follow."""
    rules = rules_for(task_of(read_header(run.delta_path)), run.reliability.read())
    if not rules:
        worklist.rule = None
        st.caption("Every slice is a case: this model gives no single probability that could answer a series.")
        return
    options = [*rules, EACH_SLICE]
    if st.session_state.get("set_series_rule") not in (None, *options):
        del st.session_state["set_series_rule"]  # of another model
    chosen = st.segmented_control(
        "Answer to a series",
        options,
        default=options[0],
        required=True,
        key="set_series_rule",
        persist_state="session",
        format_func=lambda rule: RULES[rule],
        on_change=_close_case,
        help=HELP_RULES,
    )
    worklist.rule = next((rule for rule in rules if rule == chosen), None)
    several = len(worklist.series)
    st.caption(
        f"{several:,} series of {sum(map(len, worklist.series)):,} slices"
        + (", a case each, in the order of their position." if worklist.rule else "; every slice is a case.")
    )


def _close_case() -> None:
    """Go back to the list, whose positions are others now."""
    st.session_state["open_case"] = None
    st.session_state["list_page"] = 1


def forget() -> None:
    """Drop the images, the open case and all work on them."""
    for name in ("worklist", "open_case", "case", "slices", "thumbnails", "set_images_path"):
        st.session_state.pop(name, None)
    model_tasks.forget()


def _keep(images: Images) -> None:
    """Open the images and keep them for this session; open the only one."""
    worklist = Worklist(images)
    with st.spinner("Looking for images"):
        worklist.source = worklist.opened.enter_context(open_source(images))
        worklist.grouped = by_series(worklist.source).cases
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
        st.caption(f"{worklist.files:,} image{'s' * (worklist.files != 1)} in memory.", width="content")
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
    st.caption(f"{worklist.files:,} images. They are read where they are.")
    return worklist
