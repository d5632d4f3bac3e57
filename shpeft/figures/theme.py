"""One look for all figures: transparent, told apart with every colour vision, at least 3:1 on white and on black."""

from collections.abc import Sequence

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, GREY = "#0a84d6", "#d55e00", "#009e73", "#767f8c"
SCALE = "Cividis"
DIVERGING = [[0.0, ORANGE], [0.5, "rgba(118, 127, 140, 0.12)"], [1.0, BLUE]]
"""For signed numbers, 0 in the middle: orange and blue are told apart with every colour vision."""
FONT = "system-ui, sans-serif"

_AXIS = {
    "gridcolor": "rgba(118, 127, 140, 0.22)",
    "linecolor": GREY,
    "zeroline": False,
    "automargin": True,
    "ticks": "",
    "ticklabelstandoff": 4,
    "title": {"standoff": 8, "font": {"size": 13}},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": GREY},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "colorway": [BLUE, ORANGE, GREEN, GREY],
        "margin": {"l": 8, "r": 8, "t": 32, "b": 8},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 13}},
        "bargap": 0.25,
    }
)


def figure(height: int) -> go.Figure:
    """An empty figure of this height in pixels; its width follows the page."""
    return go.Figure(layout={"template": TEMPLATE, "height": height})


def empty(message: str, height: int = 160) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    drawn = figure(height)
    drawn.update_xaxes(visible=False)
    drawn.update_yaxes(visible=False)
    return drawn.add_annotation(text=message, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)


def write_in_cells(
    drawn: go.Figure,
    x: Sequence[object],
    y: Sequence[object],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    top: float,
    size: int = 13,
) -> None:
    """Write into a heatmap's cells, (rows, columns): light on the dark half of ``SCALE``, dark on the light half.

    Plotly's own words in cells take the page's colour, whatever is behind them. The scale goes from 0 to ``top``.
    """
    cells = [
        (x[j], y[i], texts[i][j], 2 * value < top)
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value is not None
    ]
    for dark, ink in ((True, "#ffffff"), (False, "#101418")):
        inside = [cell for cell in cells if cell[3] == dark]
        drawn.add_scatter(
            x=[cell[0] for cell in inside],
            y=[cell[1] for cell in inside],
            mode="text",
            text=[cell[2] for cell in inside],
            textfont={"size": size, "color": ink},
            unselected={"textfont": {"color": ink}},
            hoverinfo="skip",
            showlegend=False,
        )


def percent(share: float) -> str:
    """``0.0081 %``: three digits that count, however small."""
    return f"{100 * share:.3g} %"


def number(count: float) -> str:
    """``0.04``, ``3.8`` or ``1,284``: an expected count."""
    return f"{count:,.0f}" if count >= 100 else f"{count:.2g}"


def short(name: str) -> str:
    """A parameter's name without the ending that most of them share."""
    return name.removesuffix(".weight")
