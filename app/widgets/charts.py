"""The app's charts: each is drawn by one function, with a small menu to save it for print."""

from typing import Any

import streamlit as st

from shpeft import figures
from shpeft.support.headless_browser import unavailable_reason
from shpeft.support.markdown import plain

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "svg", "filename": "shpeft_chart", "scale": 1},
}
"""A button in the corner of the chart saves it as SVG, without the server; the other buttons are left out."""

TYPES = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}

COLUMN_MM, WIDEST_MM = 85, 400
"""Width of one column of a journal, and the largest that can be asked for."""

HELP = "Drawn for paper: dark text, 300 dots per inch in a PNG."


def chart(figure: Any, key: str, alt: str, *, name: str = "", **options: Any) -> Any:
    """Draw a chart with its menu *Save as*: SVG, PDF or PNG of a width in millimeters.

    Args:
        figure: of plotly.
        key: of the chart's element, which no other one on the page has.
        alt: what it shows, for those who do not see it.
        name: of the file, without its ending; the key by default.
        options: of ``st.plotly_chart``, such as ``on_select``.

    Returns:
        What ``st.plotly_chart`` returns: the selection, with ``on_select``.
    """
    event = st.plotly_chart(figure, key=key, alt=alt, config=CONFIG, **options)
    missing = unavailable_reason()
    with st.popover(
        "Save as", icon=":material/print:", type="tertiary", width="content", help=plain(missing) if missing else HELP
    ):
        format: Any = st.segmented_control(
            "Format", list(TYPES), default="pdf", required=True, key=f"format-{key}", format_func=str.upper
        )
        width = st.number_input("Width in mm", 20, WIDEST_MM, COLUMN_MM, 5, key=f"width-{key}")
        st.download_button(
            "Save",
            lambda: next(iter(figures.images({"chart": figure}, format, width_mm=width).values())),
            f"{name or key}.{format}",
            TYPES[format],
            on_click="ignore",
            icon=":material/download:",
            disabled=bool(missing),
            key=f"save-{key}",
        )
        if missing:
            st.caption(f"{plain(missing)} The button in a chart's corner saves it as SVG without.")
    return event
