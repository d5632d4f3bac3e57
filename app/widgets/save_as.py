"""Save the charts of a group for print: SVG, PDF or PNG of a width in millimeters."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import streamlit as st

from shpeft import figures
from shpeft.support.headless_browser import unavailable_reason
from shpeft.support.markdown import plain

TYPES = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}

COLUMN_MM, WIDEST_MM = 85, 400
"""Width of one column of a journal, and the largest that can be asked for."""

HELP = "Drawn for paper: dark text, 300 dots per inch in a PNG. Several charts come as a zip."


def save_as(name: str, charts: Mapping[str, Any]) -> None:
    """Draw the control of a group of charts: format, width, and the download.

    Args:
        name: of the group's file, without its ending.
        charts: the figures by file name.
    """
    missing = unavailable_reason()
    with st.popover("Save as", icon=":material/print:", help=plain(missing) if missing else HELP):
        format = st.segmented_control(
            "Format", list(TYPES), default="pdf", required=True, key=f"format-{name}", format_func=str.upper
        )
        width = st.number_input("Width in mm", 20, WIDEST_MM, COLUMN_MM, 5, key=f"width-{name}")
        ending = format if len(charts) == 1 else "zip"
        st.download_button(
            "Save",
            lambda: _file(charts, format, width),
            f"{name}.{ending}",
            TYPES.get(ending, "application/zip"),
            on_click="ignore",
            icon=":material/download:",
            disabled=bool(missing),
            key=f"save-{name}",
        )
        if missing:
            st.caption(f"{plain(missing)} The button in a chart's corner saves it as SVG without.")


def _file(charts: Mapping[str, Any], format: Any, width: float) -> bytes:
    """Return the chart, or a zip of several."""
    drawn = figures.images(charts, format, width_mm=width)
    if len(drawn) == 1:
        return next(iter(drawn.values()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in drawn.items():
            archive.writestr(f"{name}.{format}", data)
    return buffer.getvalue()
