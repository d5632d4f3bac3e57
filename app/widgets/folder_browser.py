"""Choose a folder of this computer: type its path, or walk through the folders."""

from pathlib import Path

import streamlit as st

from shpeft.support.allowed_folders import allowed_folders, is_allowed
from shpeft.support.markdown import code, plain

MOST = 200
"""Folders that the list shows."""


def choose_path(label: str, key: str, *, help: str, placeholder: str) -> str:
    """Draw a field for a path with a check of it, beside a walk through the folders; return the path, or "".

    Args:
        key: of the field, which other pages' values survive under.
    """
    field, walk = st.columns([5, 1], vertical_alignment="bottom")
    text = field.text_input(label, key=key, persist_state="session", help=help, placeholder=placeholder).strip()
    with walk.popover("Browse", icon=":material/folder_open:", width="stretch"):
        _walk(key)
    if text and "/" in text and not is_allowed(text):
        st.error(f"{plain(text)} is outside the folders that this server may read.", icon=":material/error:")
        return ""
    if text and "/" in text and not Path(text).expanduser().exists():
        st.error(f"There is no file or folder {plain(text)} on this computer. Check the path.", icon=":material/error:")
        return ""
    return text


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
