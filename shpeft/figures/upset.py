"""Figures of several supports: each pair beside chance, and the sets that they form."""

from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from shpeft.figures.theme import BLUE, GREY, ORANGE, SCALE, TEMPLATE, empty, figure, number, percent, write_in_cells
from shpeft.overlaps import BudgetOverlap, Intersection, Overlaps

LARGEST = 15
"""Intersections that are drawn one by one."""

CROWD = 8
"""Up to so many supports a matrix has room for its numbers."""


def overlap_matrix(found: Overlaps, measure: Literal["jaccard", "containment"] = "jaccard") -> go.Figure:
    """Support × support: the Jaccard index, or the share of the row's weights that the column holds, beside chance."""
    names, sizes = found.names, dict(zip(found.names, found.sizes, strict=True))
    values: list[list[float | None]] = []
    words: list[list[str]] = []
    texts: list[list[str]] = []
    for a in names:
        values.append([])
        words.append([])
        texts.append([])
        for b in names:
            if a == b:
                value = None
                hover, text = f"{a}: {sizes[a]:,} weights", ""
            else:
                pair = found.pairs[(a, b) if (a, b) in found.pairs else (b, a)]
                value, chance = (
                    (pair.jaccard, pair.chance_jaccard)
                    if measure == "jaccard"
                    else (pair.intersection / sizes[a], pair.chance / sizes[a])
                )
                hover = (
                    f"<b>{a}<br>{b}</b><br>{pair.intersection:,} shared of {sizes[a]:,} and {sizes[b]:,}: {value:.3g}"
                    f"<br>by chance {number(pair.chance)} (95 %: {pair.chance_low:,} to {pair.chance_high:,}): "
                    f"{chance:.2g}"
                )
                text = f"{value:.3f}<br>chance {chance:.1g}"
            values[-1].append(value)
            words[-1].append(hover)
            texts[-1].append(text)
    labels = _labels(names)
    drawn = figure(150 + 56 * len(names))
    top = max((value for row in values for value in row if value), default=1)
    title = "Jaccard index" if measure == "jaccard" else "share of the row"
    drawn.add_heatmap(
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
        hovertext=words,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
    )
    if len(names) <= CROWD:
        write_in_cells(drawn, labels, labels, values, texts, top=top)
    drawn.update_xaxes(type="category", showgrid=False, title_text="compared with")
    drawn.update_yaxes(
        type="category", showgrid=False, range=[len(names) - 0.5, -0.5], dtick=1, title_text="weights of"
    )
    return drawn.update_layout(dragmode=False, margin={"t": 8})


def upset(found: Overlaps, largest: int = LARGEST) -> go.Figure:
    """The sets that supports form: how many weights are in exactly these supports, with chance as a tick.

    After Lex et al. (2014). The largest intersections are drawn, the rest summed in a bar of its own.
    """
    shown, rest = found.largest(largest)
    sizes = [i.size for i in shown] + ([sum(i.size for i in rest)] if rest else [])
    chance = [i.chance for i in shown] + ([sum(i.chance for i in rest)] if rest else [])
    at = list(range(len(sizes)))
    words = [_members(i) for i in shown] + ([f"{len(rest):,} smaller intersections together"] if rest else [])
    labels = [f"{name} ({size:,})" for name, size in zip(_labels(found.names), found.sizes, strict=True)]
    drawn = go.Figure(layout={"template": TEMPLATE, "height": 280 + 26 * len(labels)})
    dots = (26 * len(labels) + 20) / (260 + 26 * len(labels))
    every = len(found.names)
    drawn.add_bar(
        x=at,
        y=sizes,
        name="weights",
        marker={"color": [ORANGE if len(i.members) == every else BLUE for i in shown] + [GREY] * bool(rest)},
        text=[f"{size:,}" for size in sizes],
        textposition="outside",
        cliponaxis=False,
        hovertext=words,
        hovertemplate="%{hovertext}: %{y:,} weights<extra></extra>",
        showlegend=False,
    )
    drawn.add_scatter(
        x=at,
        y=chance,
        mode="markers",
        name="by chance",
        marker={"symbol": "line-ew", "size": 18, "line": {"width": 3, "color": GREY}},
        hovertext=[f"by chance {number(value)}" for value in chance],
        hovertemplate="%{hovertext} weights<extra></extra>",
    )
    _dots(drawn, shown, found.names, labels)
    drawn.update_layout(
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
    return drawn.update_xaxes(anchor="y2", showgrid=False, range=[-0.6, len(at) - 0.4], **ticks)


def _dots(drawn: go.Figure, shown: Sequence[Intersection], names: Sequence[str], labels: Sequence[str]) -> None:
    """Below each bar, a dot for each support that its weights are in."""
    for column, i in enumerate(shown):
        rows = [names.index(name) for name in i.members]
        drawn.add_scatter(
            x=[column] * len(rows),
            y=[labels[row] for row in rows],
            yaxis="y2",
            mode="lines+markers",
            marker={"size": 11, "color": ORANGE if len(rows) == len(names) else BLUE},
            line={"width": 3},
            hovertemplate=f"{_members(i)}<extra></extra>",
            showlegend=False,
        )


def overlap_against_budget(points: Sequence[BudgetOverlap], k: int | None = None) -> go.Figure:
    """The share of a budget on which both halves of a score agree, against the budget, with the band of chance.

    Args:
        k: the budget in use, where a line stands.
    """
    if not points:
        return empty("No budget is known.")
    drawn = figure(300)
    x = [p.k for p in points]
    for name, of, line in (
        ("97.5 % of chance", "share by chance, 97.5 %", {"width": 0}),
        ("chance, 95 %", "share by chance, 2.5 %", {"width": 0}),
    ):
        drawn.add_scatter(
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
    drawn.add_scatter(
        x=x,
        y=[p.shares["share by chance"] for p in points],
        mode="lines",
        name="chance, mean",
        line={"color": GREY, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )
    drawn.add_scatter(
        x=x,
        y=[p.shares["share"] for p in points],
        mode="lines",
        name="shared",
        line={"color": BLUE, "width": 3},
        hovertext=[
            f"<b>{p.k:,} weights each</b><br>{p.shared:,} shared: {percent(p.shares['share'])}<br>"
            f"by chance {number(p.chance)} (95 %: {p.chance_low:,} to {p.chance_high:,})"
            for p in points
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if k is not None:
        drawn.add_vline(k, line={"color": ORANGE, "width": 2, "dash": "dot"})
    drawn.update_xaxes(type="log", title_text="budget, weights (logarithmic)", dtick=1)
    return drawn.update_yaxes(title_text="share of the budget", tickformat=".1%", rangemode="tozero")


def _members(found: Intersection) -> str:
    return "only in " + " and ".join(found.members)


def _labels(names: Sequence[str]) -> list[str]:
    """Names that leave room for the chart, as long as they can be told apart."""
    cut = [name if len(name) <= 28 else f"{name[:14]}…{name[-12:]}" for name in names]
    return cut if len(set(cut)) == len(cut) else list(names)
