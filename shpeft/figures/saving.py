"""Figures as files: an SVG where plotly's kaleido finds a browser, a page otherwise."""

from pathlib import Path

import plotly.graph_objects as go

WIDTH = 900


def save(drawn: go.Figure, path: str | Path) -> Path:
    """Write a figure beside ``path`` with the ending that it gets; returns where it is.

    A page needs ``plotly.min.js``, which is written into the same folder; nothing is fetched from elsewhere.
    """
    path = Path(path)
    try:
        drawn.write_image(path.with_suffix(".svg"), width=WIDTH)
        return path.with_suffix(".svg")
    except (ValueError, RuntimeError, OSError):  # no kaleido, or no Chromium for it
        drawn.write_html(path.with_suffix(".html"), include_plotlyjs="directory", default_width=WIDTH)
        return path.with_suffix(".html")
