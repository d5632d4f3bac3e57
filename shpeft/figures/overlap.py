"""Figures of overlap: how far two supports agree, beside what chance gives."""

from collections.abc import Sequence

import plotly.graph_objects as go

from shpeft.figures.theme import BLUE, GREY, ORANGE, empty, figure, number, short
from shpeft.overlaps import LayerOverlap, Overlap

NAMES = ("task-specific", "task-agnostic")


def overlap_sets(overlap: Overlap, names: tuple[str, str] = NAMES) -> go.Figure:
    """The weights that only one support holds and that both hold, with the range that chance gives for both."""
    first, second = (name[0].upper() + name[1:] for name in names)
    labels = [f"{first} only", f"{second} only", "Both"]
    counts = [overlap.a - overlap.intersection, overlap.b - overlap.intersection, overlap.intersection]
    drawn = figure(220)
    drawn.add_bar(
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
    drawn.add_scatter(
        x=[overlap.chance],
        y=["Both"],
        mode="markers",
        marker={"symbol": "line-ns", "size": 26, "line": {"width": 3, "color": GREY}},
        error_x=_interval([overlap], GREY),
        name=f"by chance {number(overlap.chance)}",
        hovertemplate=f"by chance both hold {number(overlap.chance)} weights on average,<br>"
        f"in 95 % of draws {overlap.chance_low:,} to {overlap.chance_high:,}<extra></extra>",
    )
    drawn.update_xaxes(title_text="weights", range=[0, 1.2 * max(*counts, overlap.chance, 1)])
    return drawn.update_yaxes(autorange="reversed", showgrid=False)


def overlap_bars(overlap: Overlap, names: tuple[str, str] = NAMES) -> go.Figure:
    """For each parameter that both supports touch: the shared weights as a bar, the expected by chance as a tick."""
    touched = [layer for layer in overlap.layers if layer.a and layer.b]
    if not touched:
        return empty("No matrix holds weights of both choices, so they share none.")
    labels = [short(layer.name) for layer in touched]
    drawn = figure(110 + 20 * len(touched))
    drawn.add_bar(
        x=[layer.intersection for layer in touched],
        y=labels,
        orientation="h",
        name="shared",
        marker={"color": BLUE},
        hovertext=[_hover(layer, names) for layer in touched],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    drawn.add_scatter(
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
    drawn.update_xaxes(title_text="weights that both hold", range=[0, 1.08 * max(highest, 1)])
    return drawn.update_yaxes(type="category", range=[len(labels) - 0.5, -0.5], showgrid=False, dtick=1)


def _hover(layer: LayerOverlap, names: tuple[str, str]) -> str:
    return (
        f"<b>{layer.name}</b><br>{layer.intersection:,} shared of {layer.a:,} {names[0]} and {layer.b:,} {names[1]}"
        f"<br>{number(layer.chance)} by chance (95 %: {layer.chance_low:,} to {layer.chance_high:,}), "
        f"among {layer.eligible:,} weights"
    )


def _interval(found: Sequence[Overlap | LayerOverlap], color: str) -> dict[str, object]:
    """What 95 % of random choices share, as error bars about their mean."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, o.chance_high - o.chance) for o in found],
        "arrayminus": [max(0.0, o.chance - o.chance_low) for o in found],
        "color": color,
        "thickness": 1.5,
        "width": 0,
    }
