"""Figures of what fine-tuning did to one image: where in the network, and how the probabilities follow its strength."""

from collections.abc import Sequence

import plotly.graph_objects as go

from shpeft.attribution import LayerAttribution, StrengthCurve
from shpeft.figures.layers import headroom, name_cells
from shpeft.figures.theme import BLUE, DIVERGING, GREEN, GREY, ORANGE, TEMPLATE, empty, figure, short

LINES = [(BLUE, "solid"), (ORANGE, "dash"), (GREEN, "dashdot"), (GREY, "dot"), (BLUE, "longdash"), (ORANGE, "dot")]
"""Colour and dash of each class's line; more classes than these are left to the table."""


def attribution_heatmap(layers: Sequence[LayerAttribution]) -> go.Figure:
    """Block × matrix: how far the trained weights of each matrix moved the class's logit, up (blue) or down (orange).

    A matrix without trained weights is a gap. The colours are linear and end at the largest |sum|.
    """
    if not layers:
        return empty("No weights were trained.")
    ordered = sorted(layers, key=lambda layer: layer.depth)
    rows = list(dict.fromkeys(layer.block for layer in ordered))
    fullest = sorted(ordered, key=lambda layer: -sum(other.block == layer.block for other in ordered))
    columns = list(dict.fromkeys(short(layer.matrix) for layer in fullest))  # as a block without gaps has them
    top = max(abs(layer.total) for layer in ordered) or 1.0
    head = headroom(columns)
    drawn = figure(head + 24 + 26 * len(rows))
    drawn.add_heatmap(
        x=[short(layer.matrix) for layer in ordered],
        y=[layer.block for layer in ordered],
        z=[layer.total for layer in ordered],
        zmin=-top,
        zmax=top,
        colorscale=DIVERGING,
        colorbar={"title": {"text": "change of the logit", "side": "top"}, "thickness": 12, "tickformat": "+.2~g"},
        xgap=2,
        ygap=2,
        hovertext=[_hover(layer) for layer in ordered],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    name_cells(drawn, rows, columns)
    return drawn.update_layout(dragmode=False, margin={"t": head})


def _hover(layer: LayerAttribution) -> str:
    return (
        f"<b>{layer.name}</b><br>{layer.k:,} trained weights moved the logit by {layer.total:+.4f}"
        f"<br>({layer.gross:.4f} when what pulls apart is not cancelled)"
    )


def strength_lines(curve: StrengthCurve, strength: float = 1.0) -> go.Figure:
    """Each class's probability against the strength λ; a line at the chosen one.

    Of many classes the most probable ones are drawn, by their highest probability.
    """
    columns = dict(zip(curve.classes, zip(*curve.probabilities, strict=True), strict=True))
    shown = sorted(columns, key=lambda name: -max(columns[name]))[: len(LINES)]
    drawn = go.Figure(layout={"template": TEMPLATE, "height": 280, "hovermode": "x unified"})
    for name, (color, dash) in zip(shown, LINES, strict=False):
        drawn.add_scatter(
            x=curve.strengths,
            y=columns[name],
            name=name,
            mode="lines",
            line={"color": color, "width": 2, "dash": dash},
            hovertemplate="%{y:.1%}",
        )
    drawn.add_vline(strength, line={"color": GREY, "width": 1})
    drawn.update_xaxes(title_text="strength λ (0: pretrained, 1: fine-tuned)")
    return drawn.update_yaxes(title_text="probability", range=[-0.02, 1.02], tickformat=".0%")
