"""Figures of several supports: overlap of each pair with chance, and the sets that they form."""

from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from shpeft.figures.theme import (
    BLUE,
    GRAY,
    ORANGE,
    SCALE,
    TEMPLATE,
    as_text,
    empty_figure,
    format_count,
    format_share,
    new_figure,
    with_alt,
    write_in_cells,
)
from shpeft.selection.overlap import BudgetOverlap
from shpeft.selection.set_overlap import Intersection, Overlaps

LARGEST = 15
"""Number of intersections with a bar of their own."""

CROWD = 8
"""Most supports for which the numbers fit into the cells."""


def overlap_matrix(overlaps: Overlaps, measure: Literal["jaccard", "containment"] = "jaccard") -> go.Figure:
    """Draw support × support: Jaccard index, or share of the row's weights in the column, with chance."""
    names, sizes = overlaps.names, dict(zip(overlaps.names, overlaps.sizes, strict=True))
    values: list[list[float | None]] = []
    hovers: list[list[str]] = []
    texts: list[list[str]] = []
    for a in names:
        values.append([])
        hovers.append([])
        texts.append([])
        for b in names:
            if a == b:
                value = None
                hover, text = f"{as_text(a)}: {sizes[a]:,} weights", ""
            else:
                pair = overlaps.pairs[(a, b) if (a, b) in overlaps.pairs else (b, a)]
                value, chance = (
                    (pair.jaccard, pair.chance_jaccard)
                    if measure == "jaccard"
                    else (pair.intersection / sizes[a], pair.chance / sizes[a])
                )
                hover = (
                    f"<b>{as_text(a)}<br>{as_text(b)}</b><br>"
                    f"{pair.intersection:,} shared of {sizes[a]:,} and {sizes[b]:,}: {value:.3g}"
                    f"<br>by chance {format_count(pair.chance)} (95 %: {pair.chance_low:,} to {pair.chance_high:,}): "
                    f"{chance:.2g}"
                )
                text = f"{value:.3f}<br>chance {chance:.1g}"
            values[-1].append(value)
            hovers[-1].append(hover)
            texts[-1].append(text)
    labels = _labels(names)
    figure = new_figure(150 + 56 * len(names))
    top = max((value for row in values for value in row if value), default=1)
    title = "Jaccard index" if measure == "jaccard" else "share of the row"
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=values,
        zmin=0,
        zmax=top,
        colorscale=SCALE,
        showscale=len(names) > CROWD,
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
        xgap=2,
        ygap=2,
        hovertext=hovers,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
    )
    if len(names) <= CROWD:
        write_in_cells(figure, labels, labels, values, texts, top=top)
    figure.update_xaxes(type="category", showgrid=False, title_text="compared with")
    figure.update_yaxes(
        type="category", showgrid=False, range=[len(names) - 0.5, -0.5], dtick=1, title_text="weights of"
    )
    figure.update_layout(dragmode=False, margin={"t": 8})
    return with_alt(figure, f"Matrix: {title} of {len(names)} supports, pair by pair, with chance")


def selected_by_block(overlaps: Overlaps) -> go.Figure:
    """Draw support × block: the share of each support's weights that lies in the block."""
    shares, labels = overlaps.block_shares(), _labels(overlaps.names)
    if not shares:
        return empty_figure("No weights were selected.")
    values = [[shares[block][row] for block in shares] for row in range(len(labels))]
    top = max(map(max, values)) or 1.0
    blocks = [as_text(block) for block in shares]
    figure = new_figure(90 + 34 * len(labels))
    figure.add_heatmap(
        x=blocks,
        y=labels,
        z=values,
        zmin=0,
        zmax=top,
        colorscale=SCALE,
        colorbar={"title": {"text": "share of the weights", "side": "right"}, "thickness": 12, "tickformat": ".0%"},
        xgap=2,
        ygap=2,
        hovertemplate="%{y}: %{z:.1%} of its weights are in %{x}<extra></extra>",
    )
    if len(shares) <= 2 * CROWD:
        texts = [[f"{value:.0%}" for value in row] for row in values]
        write_in_cells(figure, blocks, labels, values, texts, top=top)
    figure.update_xaxes(type="category", side="top", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_layout(dragmode=False, margin={"t": 40})
    return with_alt(figure, f"Heatmap: share of the weights in each of {len(shares)} blocks, by run")


def upset_plot(overlaps: Overlaps, largest: int = LARGEST) -> go.Figure:
    """Draw the number of weights in exactly these supports (UpSet plot, Lex et al. 2014), with chance as a tick.

    The largest intersections have a bar each; one bar sums the rest.
    """
    shown, rest = overlaps.largest(largest)
    sizes = [i.size for i in shown] + ([sum(i.size for i in rest)] if rest else [])
    chance = [i.chance for i in shown] + ([sum(i.chance for i in rest)] if rest else [])
    at = list(range(len(sizes)))
    hovers = [_members(i) for i in shown] + ([f"{len(rest):,} smaller intersections together"] if rest else [])
    labels = [f"{name} ({size:,})" for name, size in zip(_labels(overlaps.names), overlaps.sizes, strict=True)]
    figure = go.Figure(layout={"template": TEMPLATE, "height": 280 + 26 * len(labels)})
    dots = (26 * len(labels) + 20) / (260 + 26 * len(labels))
    every = len(overlaps.names)
    figure.add_bar(
        x=at,
        y=sizes,
        name="weights",
        marker={"color": [ORANGE if len(i.members) == every else BLUE for i in shown] + [GRAY] * bool(rest)},
        text=[f"{size:,}" for size in sizes],
        textposition="outside",
        cliponaxis=False,
        hovertext=hovers,
        hovertemplate="%{hovertext}: %{y:,} weights<extra></extra>",
        showlegend=False,
    )
    figure.add_scatter(
        x=at,
        y=chance,
        mode="markers",
        name="by chance",
        marker={"symbol": "line-ew", "size": 18, "line": {"width": 3, "color": GRAY}},
        hovertext=[f"by chance {format_count(value)}" for value in chance],
        hovertemplate="%{hovertext} weights<extra></extra>",
    )
    _dots(figure, shown, overlaps.names, labels)
    figure.update_layout(
        dragmode=False,
        yaxis={"domain": [dots + 0.02, 1], "title": {"text": "weights in exactly these"}, "rangemode": "tozero"},
        yaxis2={
            "domain": [0, dots],
            "type": "category",
            "categoryorder": "array",
            "categoryarray": labels[::-1],
            "range": [-0.6, len(labels) - 0.4],
            "showgrid": True,
            "dtick": 1,
        },
    )
    ticks = {"tickvals": at[-1:], "ticktext": [f"{len(rest):,} smaller"]} if rest else {"tickvals": []}
    figure.update_xaxes(anchor="y2", showgrid=False, range=[-0.6, len(at) - 0.4], **ticks)
    return with_alt(figure, f"Bars: sizes of the sets that {every} supports form, with those by chance")


def _dots(figure: go.Figure, shown: Sequence[Intersection], names: Sequence[str], labels: Sequence[str]) -> None:
    """Draw a dot below each bar for each support that holds its weights."""
    for column, i in enumerate(shown):
        rows = [names.index(name) for name in i.members]
        figure.add_scatter(
            x=[column] * len(rows),
            y=[labels[row] for row in rows],
            yaxis="y2",
            mode="lines+markers",
            marker={"size": 11, "color": ORANGE if len(rows) == len(names) else BLUE},
            line={"width": 3},
            hovertemplate=f"{_members(i)}<extra></extra>",
            showlegend=False,
        )


def overlap_by_budget(points: Sequence[BudgetOverlap], k: int | None = None) -> go.Figure:
    """Draw the overlap of two supports over the budget, against the budget, with the 95 % band of chance.

    Args:
        points: overlap at each budget.
        k: the budget in use, drawn as a line.
    """
    if not points:
        return empty_figure("There is no budget to compare at.")
    figure = new_figure(300)
    x = [p.k for p in points]
    for name, of, line in (
        ("97.5 % of chance", "share by chance, 97.5 %", {"width": 0}),
        ("chance, 95 %", "share by chance, 2.5 %", {"width": 0}),
    ):
        figure.add_scatter(
            x=x,
            y=[p.shares[of] for p in points],
            mode="lines",
            line=line,
            fill="tonexty" if name.startswith("chance") else None,
            fillcolor="rgba(118, 127, 140, 0.3)",
            name=name,
            showlegend=name.startswith("chance"),
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=x,
        y=[p.shares["share by chance"] for p in points],
        mode="lines",
        name="chance, mean",
        line={"color": GRAY, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=[p.shares["share"] for p in points],
        mode="lines",
        name="shared",
        line={"color": BLUE, "width": 3},
        hovertext=[
            f"<b>{p.k:,} weights each</b><br>{p.shared:,} shared: {format_share(p.shares['share'])}<br>"
            f"by chance {format_count(p.chance)} (95 %: {p.chance_low:,} to {p.chance_high:,})"
            for p in points
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if k is not None:
        figure.add_vline(k, line={"color": ORANGE, "width": 2, "dash": "dot"})
    figure.update_xaxes(type="log", title_text="budget, weights (logarithmic)", dtick=1)
    figure.update_yaxes(title_text="share of the budget", tickformat=".1%", rangemode="tozero")
    return with_alt(figure, "Line: shared weights over the budget, against the budget, with the band of chance")


def _members(intersection: Intersection) -> str:
    return "only in " + " and ".join(map(as_text, intersection.members))


def _labels(names: Sequence[str]) -> list[str]:
    """Shorten names that are too long for the chart, unless two become the same; return them as text."""
    cut = [name if len(name) <= 28 else f"{name[:14]}…{name[-12:]}" for name in names]
    return [as_text(name) for name in (cut if len(set(cut)) == len(cut) else names)]
