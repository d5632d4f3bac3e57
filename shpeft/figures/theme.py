"""Theme of all figures: transparent, distinct with any color vision, contrast of at least 3:1 on white and black."""

import html
from collections.abc import Sequence

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, GRAY = "#0a84d6", "#d55e00", "#009e73", "#767f8c"
SCALE = "Cividis"
DIVERGING = [[0.0, ORANGE], [0.5, "rgba(118, 127, 140, 0.12)"], [1.0, BLUE]]
"""For signed numbers, with 0 in the middle; orange and blue are distinct with any color vision."""
FONT = "system-ui, sans-serif"

_AXIS = {
    "gridcolor": "rgba(118, 127, 140, 0.22)",
    "linecolor": GRAY,
    "zeroline": False,
    "automargin": True,
    "ticks": "",
    "ticklabelstandoff": 4,
    "title": {"standoff": 8, "font": {"size": 13}},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": GRAY},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "colorway": [BLUE, ORANGE, GREEN, GRAY],
        "margin": {"l": 8, "r": 8, "t": 32, "b": 8},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 13}},
        "bargap": 0.25,
    }
)


def new_figure(height: int) -> go.Figure:
    """Return an empty figure with the theme, of this height in pixels; the width follows the page."""
    return go.Figure(layout={"template": TEMPLATE, "height": height})


def empty_figure(message: str, height: int = 160) -> go.Figure:
    """Return a figure that states why there is nothing to draw."""
    figure = new_figure(height)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=as_text(message), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return with_alt(figure, message)


def with_alt(figure: go.Figure, text: str) -> go.Figure:
    """Store the alternative text for screen readers in the figure, see :func:`alt_text`."""
    return figure.update_layout(meta={"alt": text})


def alt_text(figure: go.Figure) -> str:
    """Return the alternative text of a figure of this package: what it shows, in one sentence.

    Examples:
        >>> alt_text(empty_figure("No epoch has finished yet."))
        'No epoch has finished yet.'
    """
    return str((figure.layout.meta or {}).get("alt", ""))


def as_text(name: object) -> str:
    """Return a name so that plotly shows it as it is: in its labels ``<b>`` is bold, and ``%{x}`` a number.

    Examples:
        >>> as_text("<b>ill</b> & %{x}")
        '&lt;b&gt;ill&lt;/b&gt; &amp; %&#123;x}'
    """
    return html.escape(str(name), quote=False).replace("%{", "%&#123;")


def write_in_cells(
    figure: go.Figure,
    x: Sequence[object],
    y: Sequence[object],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    top: float,
    size: int = 13,
) -> None:
    """Write texts into the cells (rows, columns) of a heatmap: light on the dark half of ``SCALE``, dark on the light.

    Plotly's own cell texts take the color of the page, whatever the cell's color. The scale runs from 0 to ``top``.
    """
    cells = [
        (x[j], y[i], texts[i][j], 2 * value < top)
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value is not None
    ]
    for dark, ink in ((True, "#ffffff"), (False, "#101418")):
        inside = [cell for cell in cells if cell[3] == dark]
        figure.add_scatter(
            x=[cell[0] for cell in inside],
            y=[cell[1] for cell in inside],
            mode="text",
            text=[cell[2] for cell in inside],
            textfont={"size": size, "color": ink},
            unselected={"textfont": {"color": ink}},
            hoverinfo="skip",
            showlegend=False,
        )


def format_share(share: float) -> str:
    """Format a share as ``0.0081 %``, with three significant digits."""
    return f"{100 * share:.3g} %"


def format_count(count: float) -> str:
    """Format an expected count as ``0.04``, ``3.8`` or ``1,284``."""
    return f"{count:,.0f}" if count >= 100 else f"{count:.2g}"


def short_name(name: str) -> str:
    """Return a parameter's name without the suffix ``.weight``, as text."""
    return as_text(name.removesuffix(".weight"))
