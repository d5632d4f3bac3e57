"""Figures of one diagnosis: class probabilities, weight attribution, and probabilities against the strength."""

from collections.abc import Sequence
from typing import Protocol

import plotly.graph_objects as go

from shpeft.explanation.attribution import LayerAttribution, StrengthCurve
from shpeft.figures.importance_heatmap import headroom, name_cells
from shpeft.figures.theme import (
    BLUE,
    DIVERGING,
    GRAY,
    GREEN,
    ORANGE,
    TEMPLATE,
    as_text,
    empty_figure,
    new_figure,
    short_name,
    with_alt,
)

LINES = [(BLUE, "solid"), (ORANGE, "dash"), (GREEN, "dashdot"), (GRAY, "dot"), (BLUE, "longdash"), (ORANGE, "dot")]
"""Color and dash of each class's line; further classes are not drawn."""


def attribution_heatmap(layers: Sequence[LayerAttribution]) -> go.Figure:
    """Draw block × matrix: change of the logit by each matrix's trained weights, up (blue) or down (orange).

    A matrix without trained weights is a gap. Colors are linear up to the largest |sum|.

    Args:
        layers: as :meth:`WeightAttribution.layers` returns them.
    """
    if not layers:
        return empty_figure("No weights were trained.")
    ordered = sorted(layers, key=lambda layer: layer.depth)
    rows = list(dict.fromkeys(as_text(layer.block) for layer in ordered))
    fullest = sorted(ordered, key=lambda layer: -sum(other.block == layer.block for other in ordered))
    columns = list(dict.fromkeys(short_name(layer.matrix) for layer in fullest))  # the fullest block sets the order
    top = max(abs(layer.total) for layer in ordered) or 1.0
    head = headroom(columns)
    figure = new_figure(head + 24 + 26 * len(rows))
    figure.add_heatmap(
        x=[short_name(layer.matrix) for layer in ordered],
        y=[as_text(layer.block) for layer in ordered],
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
    name_cells(figure, rows, columns)
    figure.update_layout(dragmode=False, margin={"t": head})
    return with_alt(figure, "Heatmap: change of the logit by block and matrix")


def _hover(layer: LayerAttribution) -> str:
    return (
        f"<b>{as_text(layer.name)}</b><br>{layer.k:,} trained weights change the logit by {layer.total:+.4f}"
        f"<br>(sum of absolute changes {layer.gross:.4f})"
    )


def strength_curve(curve: StrengthCurve, strength: float = 1.0) -> go.Figure:
    """Draw each class's probability against the strength λ, with a vertical line at ``strength``.

    Of more than six classes, those with the highest probability are drawn.
    """
    columns = dict(zip(curve.classes, zip(*curve.probabilities, strict=True), strict=True))
    shown = sorted(columns, key=lambda name: -max(columns[name]))[: len(LINES)]
    figure = go.Figure(layout={"template": TEMPLATE, "height": 280, "hovermode": "x unified"})
    for name, (color, dash) in zip(shown, LINES, strict=False):
        figure.add_scatter(
            x=curve.strengths,
            y=columns[name],
            name=as_text(name),
            mode="lines",
            line={"color": color, "width": 2, "dash": dash},
            hovertemplate="%{y:.1%}" if curve.unit is None else "%{y:.4g}",
        )
    figure.add_vline(strength, line={"color": GRAY, "width": 1})
    figure.update_xaxes(title_text="strength λ (0: pretrained, 1: fine-tuned)")
    if curve.unit is not None:
        figure.update_yaxes(title_text=as_text(f"{shown[0]} ({curve.unit})" if curve.unit else shown[0]))
        return with_alt(figure, "Line: the predicted number against the strength of the fine-tuning")
    figure.update_yaxes(title_text="probability", range=[-0.02, 1.02], tickformat=".0%")
    return with_alt(figure, "Lines: probability of each class against the strength of the fine-tuning")


class _Ranked(Protocol):
    """The part of a diagnosis that is drawn."""

    def ranked(self) -> list[tuple[str, float]]:
        """Return (class, probability) pairs, the most probable first."""
        ...


def probability_bars(diagnosis: _Ranked) -> go.Figure:
    """Draw the probability of each class, the most probable on top."""
    names, shares = zip(*diagnosis.ranked(), strict=True)
    figure = new_figure(70 + 34 * len(names))
    figure.add_bar(
        x=shares,
        y=[as_text(name) for name in names],
        orientation="h",
        marker={"color": [BLUE] + [GRAY] * (len(names) - 1)},
        text=[f"{share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="the model gives %{y} a probability of %{x:.1%}<extra></extra>",
    )
    figure.update_xaxes(title_text="probability", range=[0, 1.15], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return with_alt(figure, f"Bars: {', '.join(f'{name} {share:.1%}' for name, share in diagnosis.ranked()[:5])}")
