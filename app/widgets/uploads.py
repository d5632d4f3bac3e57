"""Files dropped on the page: stored where a run needs them, and the widget emptied, because it shows file names."""

from typing import Any, Literal

import streamlit as st

from app.widgets import account, layout
from shpeft.runs import runs_root
from shpeft.runs.uploads import save_upload

LARGEST = 2000
"""Megabytes of one file."""


def drop(
    label: str, key: str, kind: Literal["folder", "zip", "images", "weights"], *, help: str | None = None
) -> list[Any]:
    """Draw a zone for files and return those dropped, once; the zone is empty afterwards.

    Args:
        kind: what the zone takes.
    """
    st.html("<style>[data-testid='stFileChip']{visibility:hidden}</style>")
    number = st.session_state.setdefault(f"drops-{key}", 0)
    types = {"zip": "zip", "weights": "safetensors"}.get(kind)
    multiple: Any = {"folder": "directory", "images": True}.get(kind, False)
    files = st.file_uploader(
        label, types, multiple, key=f"{key}-{number}", help=help, max_upload_size=LARGEST if types else None
    )
    if not files:
        return []
    st.session_state[f"drops-{key}"] = number + 1
    return files if isinstance(files, list) else [files]


def store(files: list[tuple[str, Any]]) -> str | None:
    """Store dropped files in the private folder and return their path; None, with a sentence, if that fails."""
    with layout.error_boundary(), st.spinner("Storing the images"):
        return str(save_upload(files, runs_root().resolve(), account.current()))
    return None
