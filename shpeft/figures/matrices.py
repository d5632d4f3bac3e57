"""Figures of one matrix: its attention heads, and where in its rows and columns the selected weights lie."""

from itertools import pairwise

import plotly.graph_objects as go

from shpeft.figures.theme import SCALE, empty, figure, number, write_in_cells
from shpeft.matrices import Grid, HeadSplit


def selected_by_head(split: HeadSplit) -> go.Figure:
    """How many weights of each head are selected: a row for queries, keys and values each."""
    expected = split.chosen.sum() / split.chosen.size
    words = f"<br>an even spread over heads would select {number(expected)}"
    return _heads(split, split.chosen, "selected weights", "{:,.0f}", f" of {split.size:,} weights are selected{words}")


def score_by_head(split: HeadSplit, unit: str = "") -> go.Figure:
    """The mean score of each head's weights."""
    return _heads(split, split.means, f"mean score{f', {unit}' if unit else ''}", "{:.2g}", f" on average {unit}")


def _heads(split: HeadSplit, values: object, title: str, form: str, words: str) -> go.Figure:
    rows, heads = split.parts, split.chosen.shape[1]
    cells = [[float(v) for v in row] for row in values]  # type: ignore[attr-defined]
    drawn = figure(84 + 34 * len(rows))
    top = max(max(row) for row in cells) or 1
    numbers = list(range(1, heads + 1))
    drawn.add_heatmap(
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
            [f"<b>{part}, head {i}</b><br>{form.format(v)}{words}" for i, v in enumerate(row, start=1)]
            for part, row in zip(rows, cells, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if heads <= 16:
        write_in_cells(drawn, numbers, rows, cells, [[form.format(v) for v in row] for row in cells], top=top)
    drawn.update_xaxes(title_text=f"attention head; {title}", dtick=1, showgrid=False)
    drawn.update_yaxes(type="category", range=[len(rows) - 0.5, -0.5], showgrid=False)
    return drawn.update_layout(dragmode=False, margin={"t": 8})


def selected_in_grid(grid: Grid) -> go.Figure:
    """How many weights are selected in each field of a grid over rows (outputs) and columns (inputs)."""
    if not grid.counts.sum():
        return empty("No weight of this matrix is selected.")
    rows, columns = grid.rows, grid.columns
    top = int(grid.counts.max())
    drawn = figure(380)
    drawn.add_heatmap(
        x=((columns[:-1] + columns[1:] - 1) / 2).tolist(),
        y=((rows[:-1] + rows[1:] - 1) / 2).tolist(),
        z=grid.counts.tolist(),
        zmin=0,
        zmax=top,
        colorscale=SCALE,
        colorbar={
            "title": {"text": "selected weights a field", "side": "right"},
            "thickness": 12,
            **({"dtick": 1} if top <= 6 else {}),
        },
        hovertext=[
            [f"rows {a} to {b - 1}, columns {c} to {d - 1}" for c, d in pairwise(columns)] for a, b in pairwise(rows)
        ],
        hovertemplate="%{z:,} selected weights in %{hovertext}<extra></extra>",
    )
    drawn.update_xaxes(title_text="column (what the weight reads)", showgrid=False)
    drawn.update_yaxes(title_text="row (what it adds to)", showgrid=False, autorange="reversed")
    return drawn.update_layout(dragmode=False, margin={"t": 8})
