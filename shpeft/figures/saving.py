"""Figures as files: SVG images where Playwright and a Chromium are there to draw them, pages otherwise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from shpeft.errors import ShpeftError
from shpeft.files import write_atomic
from shpeft.printing import in_browser

if TYPE_CHECKING:
    from shpeft.printing import Page

WIDTH = 900

STEADY = "let seed = 1; Math.random = () => (seed = (seed * 16807) % 2147483647) / 2147483647"
"""plotly.js draws ids at random; from one seed (Lehmer's generator) the file of a figure is the same again."""


def save(figures: Mapping[str, go.Figure], folder: str | Path) -> dict[str, Path]:
    """Write figures into a folder, which is made; returns where each is.

    Pages share one ``plotly.min.js`` in the folder; nothing is fetched from elsewhere.

    Args:
        figures: by file name, without an ending.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = _drawn(figures)
    for name, figure in figures.items():
        if name in images:
            write_atomic(folder / f"{name}.svg", images[name])
            (folder / f"{name}.html").unlink(missing_ok=True)
        else:
            figure.write_html(folder / f"{name}.html", include_plotlyjs="directory", default_width=WIDTH)
    return {name: folder / (f"{name}.svg" if name in images else f"{name}.html") for name in figures}


def _drawn(figures: Mapping[str, go.Figure]) -> dict[str, str]:
    """The figures as SVG, by a browser without a window; nothing where there is none, or where it fails."""

    def draw(page: "Page") -> dict[str, str]:
        page.add_script_tag(content=STEADY)
        page.add_script_tag(content=get_plotlyjs())
        return {name: _svg(page, figure) for name, figure in figures.items()}

    try:
        return in_browser(draw)
    except ShpeftError:
        return {}


def _svg(page: "Page", figure: go.Figure) -> str:
    options = {"format": "svg", "width": WIDTH, "height": figure.layout.height or 450}
    drawing = "([figure, options]) => Plotly.toImage(figure, options)"
    address: str = page.evaluate(drawing, [json.loads(figure.to_json()), options])
    return unquote(address.partition(",")[2])
