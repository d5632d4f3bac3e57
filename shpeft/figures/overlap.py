"""Figures of the overlap of two supports, with the expectation for random supports."""

from collections.abc import Sequence

import plotly.graph_objects as go

from shpeft.figures.theme import (
    BLUE,
    GRAY,
    ORANGE,
    as_text,
    empty_figure,
    format_count,
    new_figure,
    short_name,
    with_alt,
)
from shpeft.selection.overlap import LayerOverlap, Overlap

NAMES = ("task-specific", "task-agnostic")


def overlap_counts(overlap: Overlap, names: tuple[str, str] = NAMES) -> go.Figure:
    """Draw the weights in only one support and in both, with the 95 % range for random supports."""
    first, second = (as_text(name[0].upper() + name[1:]) for name in names)
    labels = [f"{first} only", f"{second} only", "Both"]
    counts = [overlap.a - overlap.intersection, overlap.b - overlap.intersection, overlap.intersection]
    figure = new_figure(220)
    figure.add_bar(
        x=counts,
        y=labels,
        orientation="h",
        marker={"color": [BLUE, BLUE, ORANGE]},
        text=[f"  {n:,}" for n in counts],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:,} weights<extra></extra>",
        showlegend=False,
    )
    figure.add_scatter(
        x=[overlap.chance],
        y=["Both"],
        mode="markers",
        marker={"symbol": "line-ns", "size": 26, "line": {"width": 3, "color": GRAY}},
        error_x=_interval([overlap], GRAY),
        name=f"by chance {format_count(overlap.chance)}",
        hovertemplate=f"by chance both hold {format_count(overlap.chance)} weights on average,<br>"
        f"95 % of draws: {overlap.chance_low:,} to {overlap.chance_high:,}<extra></extra>",
    )
    figure.update_xaxes(title_text="weights", range=[0, 1.2 * max(*counts, overlap.chance, 1)])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return with_alt(figure, f"Bars: {overlap.intersection:,} weights in both, {format_count(overlap.chance)} by chance")


def overlap_bars(overlap: Overlap, names: tuple[str, str] = NAMES) -> go.Figure:
    """Draw the shared weights of each parameter in both supports as a bar, the number expected by chance as a tick."""
    touched = [layer for layer in overlap.layers if layer.a and layer.b]
    if not touched:
        return empty_figure("No matrix holds weights of both supports, so they share none.")
    labels = [short_name(layer.name) for layer in touched]
    figure = new_figure(110 + 20 * len(touched))
    figure.add_bar(
        x=[layer.intersection for layer in touched],
        y=labels,
        orientation="h",
        name="shared",
        marker={"color": BLUE},
        hovertext=[_hover(layer, names) for layer in touched],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_scatter(
        x=[layer.chance for layer in touched],
        y=labels,
        mode="markers",
        name="by chance, 95 %",
        marker={"symbol": "line-ns", "size": 12, "line": {"width": 3, "color": ORANGE}},
        error_x=_interval(touched, ORANGE),
        hovertext=[_hover(layer, names) for layer in touched],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    highest = max(max(layer.intersection, layer.chance_high) for layer in touched)
    figure.update_xaxes(title_text="shared weights", range=[0, 1.08 * max(highest, 1)])
    figure.update_yaxes(type="category", range=[len(labels) - 0.5, -0.5], showgrid=False, dtick=1)
    return with_alt(figure, f"Bars: shared weights in each of {len(touched)} matrices, with those by chance")


def _hover(layer: LayerOverlap, names: tuple[str, str]) -> str:
    return (
        f"<b>{as_text(layer.name)}</b><br>{layer.intersection:,} shared of {layer.a:,} {as_text(names[0])} and "
        f"{layer.b:,} {as_text(names[1])}"
        f"<br>{format_count(layer.chance)} by chance (95 %: {layer.chance_low:,} to {layer.chance_high:,}), "
        f"among {layer.eligible:,} weights"
    )


def _interval(overlaps: Sequence[Overlap | LayerOverlap], color: str) -> dict[str, object]:
    """Return the 95 % range of random supports as error bars around their mean."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, o.chance_high - o.chance) for o in overlaps],
        "arrayminus": [max(0.0, o.chance - o.chance_low) for o in overlaps],
        "color": color,
        "thickness": 1.5,
        "width": 0,
    }
