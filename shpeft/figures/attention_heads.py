"""Figures of one matrix: scores and selected weights by attention head, and by row and column."""

from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from numpy.typing import NDArray

from shpeft.figures.theme import SCALE, as_text, empty_figure, format_count, new_figure, with_alt, write_in_cells
from shpeft.importance.attention_heads import HeadSummary
from shpeft.importance.weight_grid import WeightGrid


def selected_by_head(split: HeadSummary) -> go.Figure:
    """Draw the number of selected weights of each head, with a row each for queries, keys and values."""
    expected = split.selected.sum() / split.selected.size
    note = f"<br>an even spread over heads would select {format_count(expected)}"
    return _heads(
        split, split.selected, "selected weights", "{:,.0f}", f" of {split.size:,} weights are selected{note}"
    )


def score_by_head(split: HeadSummary, unit: str = "") -> go.Figure:
    """Draw the mean score of each head's weights."""
    unit = as_text(unit)
    return _heads(split, split.means, f"mean score{f', {unit}' if unit else ''}", "{:.2g}", f" on average {unit}")


def _heads(split: HeadSummary, values: NDArray[Any], title: str, form: str, note: str) -> go.Figure:
    rows, heads = [as_text(part) for part in split.parts], split.selected.shape[1]
    cells = [[float(v) for v in row] for row in values]
    figure = new_figure(84 + 34 * len(rows))
    top = max(max(row) for row in cells) or 1
    numbers = list(range(1, heads + 1))
    figure.add_heatmap(
        x=numbers,
        y=list(rows),
        z=cells,
        zmin=0,
        zmax=top,
        colorscale=SCALE,
        showscale=heads > 16,
        colorbar={"thickness": 12},
        xgap=2,
        ygap=2,
        hovertext=[
            [f"<b>{part}, head {i}</b><br>{form.format(v)}{note}" for i, v in enumerate(row, start=1)]
            for part, row in zip(rows, cells, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if heads <= 16:
        write_in_cells(figure, numbers, rows, cells, [[form.format(v) for v in row] for row in cells], top=top)
    figure.update_xaxes(title_text=f"attention head; {title}", dtick=1, showgrid=False)
    figure.update_yaxes(type="category", range=[len(rows) - 0.5, -0.5], showgrid=False)
    figure.update_layout(dragmode=False, margin={"t": 8})
    return with_alt(figure, f"Heatmap: {title}, by attention head")


def selected_in_grid(grid: WeightGrid) -> go.Figure:
    """Draw the number of selected weights in each cell of a grid over rows (outputs) and columns (inputs)."""
    if not grid.counts.sum():
        return empty_figure("No weight of this matrix is selected.")
    rows, columns = grid.rows, grid.columns
    top = int(grid.counts.max())
    figure = new_figure(380)
    figure.add_heatmap(
        x=((columns[:-1] + columns[1:] - 1) / 2).tolist(),
        y=((rows[:-1] + rows[1:] - 1) / 2).tolist(),
        z=grid.counts.tolist(),
        zmin=0,
        zmax=top,
        colorscale=SCALE,
        colorbar={
            "title": {"text": "selected weights per cell", "side": "right"},
            "thickness": 12,
            **({"dtick": 1} if top <= 6 else {}),
        },
        hovertext=[
            [f"rows {a} to {b - 1}, columns {c} to {d - 1}" for c, d in pairwise(columns)] for a, b in pairwise(rows)
        ],
        hovertemplate="%{z:,} selected weights in %{hovertext}<extra></extra>",
    )
    figure.update_xaxes(title_text="column (input feature)", showgrid=False)
    figure.update_yaxes(title_text="row (output feature)", showgrid=False, autorange="reversed")
    figure.update_layout(dragmode=False, margin={"t": 8})
    return with_alt(figure, f"Heatmap: {grid.counts.sum():,} selected weights of the matrix, by row and column")
