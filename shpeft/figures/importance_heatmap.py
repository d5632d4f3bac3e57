"""Figures of importance: scores and selected weights by block, matrix and depth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from shpeft.errors import ConfigError, did_you_mean
from shpeft.figures.theme import (
    BLUE,
    GRAY,
    ORANGE,
    SCALE,
    as_text,
    empty_figure,
    format_share,
    new_figure,
    short_name,
    with_alt,
)
from shpeft.importance.layer_summaries import LayerSummary

Array = NDArray[np.float64]

PPM = 1e6
UPRIGHT = 8
"""Most columns with horizontal names; more are rotated."""


LEAST_HEIGHT = 200
"""Pixels at which the title of the color bar is not cut off."""


@dataclass(frozen=True)
class _Quantity:
    """Quantity of a heatmap: its values and their logarithmic color scale."""

    title: str
    of: Callable[[LayerSummary], float]
    form: Callable[[float], str]
    unit: float | None = None  # color: log10(1 + value * unit), or log10(value) if None


QUANTITIES = {
    "mean": _Quantity("mean score", lambda s: s.mean, "{:.1e}".format),
    "maximum": _Quantity("highest score", lambda s: s.maximum, "{:.1e}".format),
    "selected": _Quantity("selected weights", lambda s: s.selected, "{:,.0f}".format, 1.0),
    "density": _Quantity("selected share", lambda s: s.density, format_share, PPM),
}


def importance_heatmap(
    summaries: Sequence[LayerSummary],
    quantity: str = "mean",
    *,
    unit: str = "",
    beside: Sequence[LayerSummary] = (),
) -> go.Figure:
    """Draw block × matrix, by depth; a matrix that a block does not have is a gap.

    Nearly transparent squares over the cells carry ``[parameter name]`` as ``customdata``, for selection by click:
    plotly's heatmaps have no selection.

    Args:
        summaries: such as ``run.scores.summaries()``.
        quantity: ``mean``, ``maximum``, ``selected`` or ``density``; colors are logarithmic.
        unit: of the scores.
        beside: the summaries of another heatmap, to give both the same color scale.

    Raises:
        ConfigError: an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ConfigError(f"There is no quantity {quantity!r}. {did_you_mean(quantity, QUANTITIES)}")
    if not summaries:
        return empty_figure("No weights were scored.")
    shown = QUANTITIES[quantity]
    ordered = sorted(summaries, key=lambda s: s.depth)
    rows = list(dict.fromkeys(as_text(s.block) for s in ordered))
    columns = list(dict.fromkeys(short_name(s.matrix) for s in ordered))
    values = np.array([shown.of(s) for s in [*ordered, *beside]], dtype=np.float64)
    levels = _levels(values, shown.unit)
    title = f"{shown.title}, {as_text(unit)}" if unit and shown.unit is None else shown.title
    head = headroom(columns)
    figure = new_figure(max(LEAST_HEIGHT, head + 24 + 26 * len(rows)))
    figure.add_heatmap(
        x=[short_name(s.matrix) for s in ordered],
        y=[as_text(s.block) for s in ordered],
        z=levels[: len(ordered)],
        zmin=float(levels.min()),
        zmax=float(levels.max()),
        colorscale=SCALE,
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12, **_ticks(values, levels, shown)},
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[short_name(s.matrix) for s in ordered],
        y=[as_text(s.block) for s in ordered],
        mode="markers",
        marker={"symbol": "square", "size": 22, "color": "#ffffff", "opacity": 0.01},
        selected={"marker": {"opacity": 0.9, "color": ORANGE, "size": 14}},
        unselected={"marker": {"opacity": 0.01}},
        customdata=[[s.name] for s in ordered],
        hovertext=[_hover(s) for s in ordered],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    name_cells(figure, rows, columns)
    figure.update_layout(hovermode="closest", hoverdistance=80, dragmode=False, margin={"t": head})
    return with_alt(figure, f"Heatmap: {title} by block and matrix")


def headroom(columns: Sequence[str]) -> int:
    """Return the height in pixels of the column names above a heatmap."""
    return 40 if len(columns) <= UPRIGHT else 24 + 7 * max(map(len, columns))


def name_cells(figure: go.Figure, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Label the axes of a heatmap, with the first row on top and the column names above it."""
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=columns, side="top", showgrid=False)
    figure.update_xaxes(tickangle=0 if len(columns) <= UPRIGHT else -90)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=rows,
        showgrid=False,
        dtick=1,
        range=[len(rows) - 0.5, -0.5],
    )


def layer_histogram(summary: LayerSummary, *, threshold: float | None = None, unit: str = "") -> go.Figure:
    """Draw the histogram of one parameter's scores on a logarithmic axis, with the median.

    Args:
        summary: of the parameter.
        threshold: the lowest selected score.
        unit: of the scores.
    """
    edges, counts = np.array(summary.edges), np.array(summary.counts)
    filled = counts.nonzero()[0]
    if not len(filled):
        return empty_figure("This matrix has no scores.")
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    if threshold is not None and threshold > 0:
        high = max(high, min(math.log10(threshold) + 0.1, edges[-1] + 1))
    step = max(1, math.ceil((high - low) / 6))
    decades = [n for n in range(math.floor(low), math.ceil(high) + 1) if n % step == 0]
    bins = list(pairwise(edges))
    figure = new_figure(280)
    figure.add_bar(
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
        figure.add_vline(math.log10(median), line={"color": GRAY, "width": 2, "dash": "dot"})
        figure.add_annotation(
            text=f"median {median:.2g}", x=math.log10(median), y=1, yref="paper", yanchor="bottom", showarrow=False
        )
    if threshold is not None and threshold > 0 and low <= math.log10(threshold) <= high:
        figure.add_vrect(math.log10(threshold), high, fillcolor=ORANGE, opacity=0.15, line_width=0)
        figure.add_vline(math.log10(threshold), line={"color": ORANGE, "width": 2})
        figure.add_annotation(
            text=f"selected from {threshold:.2g}",
            x=math.log10(threshold),
            y=1.1,
            yref="paper",
            xanchor="right" if math.log10(threshold) > (low + high) / 2 else "left",
            yanchor="bottom",
            showarrow=False,
        )
    figure.update_xaxes(
        title_text=f"score of a weight{f', {as_text(unit)}' if unit else ''} (logarithmic)",
        range=[low, high],
        tickvals=decades,
        ticktext=[f"10<sup>{n}</sup>" for n in decades],
    )
    figure.update_yaxes(
        title_text="weights (logarithmic)", type="log", dtick=1, range=[-0.2, 0.3 + math.log10(counts.max())]
    )
    figure.update_layout(bargap=0, margin={"t": 56})
    return with_alt(figure, f"Histogram: scores of {summary.name}, median {median:.2g}")


def density_by_depth(summaries: Sequence[LayerSummary]) -> go.Figure:
    """Draw the selected share of each block's eligible weights, and that of an even spread over the network."""
    total, chosen = sum(s.numel for s in summaries), sum(s.selected for s in summaries)
    if not total:
        return empty_figure("No weights were scored.")
    blocks: dict[str, list[LayerSummary]] = {}
    for summary in sorted(summaries, key=lambda s: s.depth):
        blocks.setdefault(summary.block, []).append(summary)
    selected = [sum(s.selected for s in group) for group in blocks.values()]
    sizes = [sum(s.numel for s in group) for group in blocks.values()]
    shares = [k / n for k, n in zip(selected, sizes, strict=True)]
    figure = new_figure(280)
    figure.add_bar(
        x=[as_text(block) for block in blocks],
        y=[100 * share for share in shares],
        marker={"color": BLUE},
        name="selected",
        hovertext=[
            f"<b>{as_text(block)}</b><br>{k:,} of {n:,} weights are selected: {format_share(k / n)}"
            for block, k, n in zip(blocks, selected, sizes, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_hline(100 * chosen / total, line={"color": GRAY, "width": 2, "dash": "dash"})
    figure.add_annotation(
        text=f"even spread: {format_share(chosen / total)}",
        x=1,
        y=100 * chosen / total,
        xref="paper",
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
    )
    figure.update_xaxes(title_text="block, from the input to the output", type="category", showgrid=False)
    figure.update_yaxes(title_text="selected share, %", rangemode="tozero").update_layout(showlegend=False)
    return with_alt(figure, f"Bars: selected share of each of {len(blocks)} blocks, {chosen:,} weights in total")


def _hover(summary: LayerSummary) -> str:
    return (
        f"<b>{as_text(summary.name)}</b><br>{summary.selected:,} of {summary.numel:,} weights are selected: "
        f"{format_share(summary.density)}<br>mean score {summary.mean:.2g}, "
        f"highest {summary.maximum:.2g}"
    )


def _levels(values: Array, unit: float | None) -> Array:
    """Return the positions of the values on the color scale."""
    positive = values[values > 0]
    smallest = positive.min() if len(positive) else 1.0
    levels: Array = np.log10(np.maximum(values, smallest) if unit is None else 1 + unit * values)
    return levels


def _ticks(values: Array, levels: Array, shown: _Quantity) -> dict[str, list[float] | list[str]]:
    """Return the ticks of the color bar in the quantity's unit: both ends and powers of ten, or five even steps."""
    if shown.unit is None:
        at = np.unique(np.linspace(levels.min(), levels.max(), 5))
        return {"tickvals": at.tolist(), "ticktext": [shown.form(10**level) for level in at]}
    top = float(values.max())
    powers = [10.0**n / shown.unit for n in range(12)]
    low = float(values.min())
    marks = sorted({low, *[v for v in powers if 1.6 * low < v < 0.6 * top], top})
    return {
        "tickvals": [math.log10(1 + shown.unit * v) for v in marks],
        "ticktext": [shown.form(v) for v in marks],
    }
