"""Choose a folder of this computer: type its path, with what it holds as it is typed, or walk through the folders."""

from pathlib import Path

import streamlit as st

from app.widgets import account
from shpeft.datasets.path_check import Kind, PathCheck, check_path
from shpeft.errors import DatasetError
from shpeft.support.allowed_folders import allowed_folders, is_allowed
from shpeft.support.markdown import code, plain

MOST = 200
"""Folders that the list shows."""

FIELD_PIXELS = 68
"""Height of a text field with its label, at whose lower edge the button beside it stands."""

ICONS = {"ready": ":material/check:", "incomplete": ":material/more_horiz:", "wrong": ":material/error:"}


def choose_path(label: str, key: str, kind: Kind, *, help: str, placeholder: str) -> str:
    """Draw a field for a path and what is there, beside a walk through the folders; return the path once it is ready.

    The sentence follows the typing; the page is drawn again only when a path becomes ready, or is so no more.

    Args:
        key: of the field, which other pages' values survive under.
        kind: what the path should hold.
    """
    field, walk = st.columns([5, 1], vertical_alignment="top")
    beside = walk.container(vertical_alignment="bottom", height=FIELD_PIXELS, border=False)
    with beside.popover("Browse", icon=":material/folder_open:", width="stretch"):
        _walk(key)
    with field:
        _typed(label, key, kind, help, placeholder)
    ready: str = st.session_state.get(f"ready-{key}", "")
    return ready


@st.fragment
def _typed(label: str, key: str, kind: Kind, help: str, placeholder: str) -> None:
    """Draw the field, and the sentence on the path in it."""
    text = st.text_input(label, key=key, persist_state="session", help=help, placeholder=placeholder, live=True).strip()
    ready = ""
    if text:
        check = _check(text, kind)
        draw = {"ready": st.success, "incomplete": st.info, "wrong": st.error}[check.state]
        draw(plain(check.sentence), icon=ICONS[check.state])
        ready = text if check.state == "ready" else ""
    if ready != st.session_state.get(f"ready-{key}", ""):
        st.session_state[f"ready-{key}"] = ready
        st.rerun()


def _check(text: str, kind: Kind) -> PathCheck:
    """Return what a path holds; of another account's upload nothing."""
    try:
        account.check_images(text)
    except DatasetError as error:
        return PathCheck("wrong", str(error))
    return check_path(text, kind)


def _walk(key: str) -> None:
    """Draw the folder that is open, with its folders; choosing one opens it, a button takes it."""
    state = f"walk-{key}"
    current = Path(st.session_state.get(state) or next(iter(allowed_folders()), Path.home()))
    if not is_allowed(current):
        current = allowed_folders()[0]
    st.caption(code(current))
    with st.container(horizontal=True):
        st.button("Up", key=f"up-{key}", icon=":material/arrow_upward:", on_click=_open, args=(state, current.parent))
        st.button("Use this folder", key=f"use-{key}", icon=":material/check:", on_click=_take, args=(key, current))
    try:
        folders = sorted(entry.name for entry in current.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        st.error(f"This folder cannot be read: {plain(error.strerror)}.")
        return
    if not folders:
        st.caption("No folders in here.")
    for name in folders[:MOST]:
        st.button(
            plain(name),
            key=f"{state}-{current}-{name}",
            type="tertiary",
            icon=":material/folder:",
            on_click=_open,
            args=(state, current / name),
        )
    if len(folders) > MOST:
        st.caption(f"The first {MOST} of {len(folders):,} folders. Type the path of another one.")


def _open(state: str, folder: Path) -> None:
    st.session_state[state] = str(folder)


def _take(key: str, folder: Path) -> None:
    st.session_state[key] = str(folder)
