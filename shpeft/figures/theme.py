"""One look for all figures: transparent, told apart with every colour vision, at least 3:1 on white and on black."""

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


def percent(share: float) -> str:
    """``0.0081 %``: three digits that count, however small."""
    return f"{100 * share:.3g} %"


def number(count: float) -> str:
    """``0.04``, ``3.8`` or ``1,284``: an expected count."""
    return f"{count:,.0f}" if count >= 100 else f"{count:.2g}"


def short(name: str) -> str:
    """A parameter's name without the ending that most of them share."""
    return name.removesuffix(".weight")
