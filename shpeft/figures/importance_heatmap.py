"""Figures of importance: where in the network the scores and the selected weights are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from shpeft.errors import ConfigError, did_you_mean
from shpeft.figures.theme import BLUE, GREY, ORANGE, SCALE, empty, figure, percent, short
from shpeft.summaries import LayerSummary

PPM = 1e6
UPRIGHT = 8
"""How many columns have room for their names; more names stand on end."""


@dataclass(frozen=True)
class _Quantity:
    """What a heatmap shows: the numbers, and the logarithm that spreads them over the colours."""

    title: str
    of: Callable[[LayerSummary], float]
    words: Callable[[float], str]
    unit: float | None = None  # the colour is log10(1 + value * unit), or log10(value) where this is None


QUANTITIES = {
    "mean": _Quantity("mean score", lambda s: s.mean, "{:.1e}".format),
    "maximum": _Quantity("highest score", lambda s: s.maximum, "{:.1e}".format),
    "selected": _Quantity("selected weights", lambda s: s.selected, "{:,.0f}".format, 1.0),
    "density": _Quantity("selected share", lambda s: s.density, percent, PPM),
}


def importance_heatmap(
    summaries: Sequence[LayerSummary],
    quantity: str = "mean",
    *,
    unit: str = "",
    beside: Sequence[LayerSummary] = (),
) -> go.Figure:
    """Block × matrix, in the order of depth; a matrix that a block does not have is a gap.

    Over the cells lie near-transparent squares whose ``customdata`` is ``[parameter name]``: they are what a click
    selects, since heatmaps have no selection of their own.

    Args:
        quantity: ``mean``, ``maximum``, ``selected`` or ``density``; colours are logarithmic.
        unit: of the scores.
        beside: what another heatmap shows, so that both have the same colours for the same numbers.

    Raises:
        ConfigError: an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ConfigError(f"There is no quantity {quantity!r} to draw. {did_you_mean(quantity, QUANTITIES)}")
    if not summaries:
        return empty("No weights were scored.")
    shown = QUANTITIES[quantity]
    ordered = sorted(summaries, key=lambda s: s.depth)
    rows = list(dict.fromkeys(s.block for s in ordered))
    columns = list(dict.fromkeys(short(s.matrix) for s in ordered))
    values = np.array([shown.of(s) for s in [*ordered, *beside]], dtype=np.float64)
    levels = _levels(values, shown.unit)
    title = f"{shown.title}, {unit}" if unit and shown.unit is None else shown.title
    head = headroom(columns)
    drawn = figure(head + 24 + 26 * len(rows))
    drawn.add_heatmap(
        x=[short(s.matrix) for s in ordered],
        y=[s.block for s in ordered],
        z=levels[: len(ordered)],
        zmin=float(levels.min()),
        zmax=float(levels.max()),
        colorscale=SCALE,
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12, **_ticks(values, levels, shown)},
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    drawn.add_scatter(
        x=[short(s.matrix) for s in ordered],
        y=[s.block for s in ordered],
        mode="markers",
        marker={"symbol": "square", "size": 22, "color": "#ffffff", "opacity": 0.01},
        selected={"marker": {"opacity": 0.9, "color": ORANGE, "size": 14}},
        unselected={"marker": {"opacity": 0.01}},
        customdata=[[s.name] for s in ordered],
        hovertext=[_hover(s) for s in ordered],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    name_cells(drawn, rows, columns)
    return drawn.update_layout(hovermode="closest", hoverdistance=80, dragmode=False, margin={"t": head})


def headroom(columns: Sequence[str]) -> int:
    """Pixels that the columns' names need above a heatmap."""
    return 40 if len(columns) <= UPRIGHT else 24 + 7 * max(map(len, columns))


def name_cells(drawn: go.Figure, rows: Sequence[str], columns: Sequence[str]) -> None:
    """The axes of a heatmap: the first row on top, the columns' names above it."""
    drawn.update_xaxes(type="category", categoryorder="array", categoryarray=columns, side="top", showgrid=False)
    drawn.update_xaxes(tickangle=0 if len(columns) <= UPRIGHT else -90)
    drawn.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=rows,
        showgrid=False,
        dtick=1,
        range=[len(rows) - 0.5, -0.5],
    )


def layer_histogram(summary: LayerSummary, *, threshold: float | None = None, unit: str = "") -> go.Figure:
    """How one parameter's scores are spread, on a logarithmic axis, with the median.

    Args:
        threshold: the lowest score that is selected.
        unit: of the scores.
    """
    edges, counts = np.array(summary.edges), np.array(summary.counts)
    filled = counts.nonzero()[0]
    if not len(filled):
        return empty("This matrix has no scores.")
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    if threshold is not None and threshold > 0:
        high = max(high, min(math.log10(threshold) + 0.1, edges[-1] + 1))
    step = max(1, math.ceil((high - low) / 6))
    decades = [n for n in range(math.floor(low), math.ceil(high) + 1) if n % step == 0]
    bins = list(pairwise(edges))
    drawn = figure(280)
    drawn.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges),
        marker={"color": BLUE, "line": {"width": 0}},
        customdata=[
            f"of {10**a:.1e} to {10**b:.1e}" if i else f"of at most {10**b:.1e}" for i, (a, b) in enumerate(bins)
        ],
        hovertemplate="%{y:,} weights with a score %{customdata}<extra></extra>",
    )
    median = summary.quantiles[len(summary.quantiles) // 2]
    if median > 0 and low <= math.log10(median) <= high:
        drawn.add_vline(math.log10(median), line={"color": GREY, "width": 2, "dash": "dot"})
        drawn.add_annotation(
            text=f"median {median:.2g}", x=math.log10(median), y=1, yref="paper", yanchor="bottom", showarrow=False
        )
    if threshold is not None and threshold > 0 and low <= math.log10(threshold) <= high:
        drawn.add_vrect(math.log10(threshold), high, fillcolor=ORANGE, opacity=0.15, line_width=0)
        drawn.add_vline(math.log10(threshold), line={"color": ORANGE, "width": 2})
        drawn.add_annotation(
            text=f"chosen from {threshold:.2g}",
            x=math.log10(threshold),
            y=1.1,
            yref="paper",
            xanchor="right" if math.log10(threshold) > (low + high) / 2 else "left",
            yanchor="bottom",
            showarrow=False,
        )
    drawn.update_xaxes(
        title_text=f"score of a weight{f', {unit}' if unit else ''} (logarithmic)",
        range=[low, high],
        tickvals=decades,
        ticktext=[f"10<sup>{n}</sup>" for n in decades],
    )
    drawn.update_yaxes(
        title_text="weights (logarithmic)", type="log", dtick=1, range=[-0.2, 0.3 + math.log10(counts.max())]
    )
    return drawn.update_layout(bargap=0, margin={"t": 56})


def density_by_depth(summaries: Sequence[LayerSummary]) -> go.Figure:
    """Which share of each block's eligible weights is selected, against an even spread over the network."""
    total, chosen = sum(s.numel for s in summaries), sum(s.selected for s in summaries)
    if not total:
        return empty("No weights were scored.")
    blocks: dict[str, list[LayerSummary]] = {}
    for summary in sorted(summaries, key=lambda s: s.depth):
        blocks.setdefault(summary.block, []).append(summary)
    selected = [sum(s.selected for s in group) for group in blocks.values()]
    sizes = [sum(s.numel for s in group) for group in blocks.values()]
    shares = [k / n for k, n in zip(selected, sizes, strict=True)]
    drawn = figure(280)
    drawn.add_bar(
        x=list(blocks),
        y=[100 * share for share in shares],
        marker={"color": BLUE},
        name="selected",
        hovertext=[
            f"<b>{block}</b><br>{k:,} of {n:,} weights are selected: {percent(k / n)}"
            for block, k, n in zip(blocks, selected, sizes, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    drawn.add_hline(100 * chosen / total, line={"color": GREY, "width": 2, "dash": "dash"})
    drawn.add_annotation(
        text=f"even spread: {percent(chosen / total)}",
        x=1,
        y=100 * chosen / total,
        xref="paper",
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
    )
    drawn.update_xaxes(title_text="block, from the input to the output", type="category", showgrid=False)
    return drawn.update_yaxes(title_text="selected share, %", rangemode="tozero").update_layout(showlegend=False)


def _hover(summary: LayerSummary) -> str:
    return (
        f"<b>{summary.name}</b><br>{summary.selected:,} of {summary.numel:,} weights are selected: "
        f"{percent(summary.density)}<br>score {summary.mean:.2g} on average, "
        f"{summary.maximum:.2g} at most"
    )


def _levels(values: np.ndarray, unit: float | None) -> np.ndarray:
    """Where on the colour scale the values stand."""
    if unit is not None:
        return np.log10(1 + unit * values)
    positive = values[values > 0]
    return np.log10(np.maximum(values, positive.min() if len(positive) else 1.0))


def _ticks(values: np.ndarray, levels: np.ndarray, shown: _Quantity) -> dict[str, list[float] | list[str]]:
    """A colour bar's ticks in the quantity's own unit: the ends and powers of ten, or five even steps."""
    if shown.unit is None:
        at = np.unique(np.linspace(levels.min(), levels.max(), 5))
        return {"tickvals": at.tolist(), "ticktext": [shown.words(10**level) for level in at]}
    top = float(values.max())
    powers = [10.0**n / shown.unit for n in range(12)]
    low = float(values.min())
    marks = sorted({low, *[v for v in powers if 1.6 * low < v < 0.6 * top], top})
    return {
        "tickvals": [math.log10(1 + shown.unit * v) for v in marks],
        "ticktext": [shown.words(v) for v in marks],
    }
