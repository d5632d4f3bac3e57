"""Figures of a comparison: ranks, differences with intervals, and what more weights buy."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from shpeft.figures.theme import BLUE, GREEN, GREY, ORANGE, empty, figure, percent

DASHES = ("solid", "dot", "dash", "dashdot")
_DECADES = {"type": "log", "dtick": 1, "exponentformat": "none"}
ROOM = 170
"""Pixels below which an axis' title would lie on its numbers."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def mean_ranks(
    titles: Sequence[str], ranks: Sequence[float], method: str | None = None, critical: float | None = None
) -> go.Figure:
    """The mean rank of each arm over datasets, the best on top.

    Args:
        method: the arm that is picked out.
        critical: the difference of mean ranks from which on two arms differ: drawn to both sides of the method.
    """
    if not titles:
        return empty("No two arms have a dataset in common yet.")
    drawn = figure(max(ROOM, 90 + 24 * len(titles)))
    drawn.add_scatter(
        x=list(ranks),
        y=list(titles),
        mode="markers",
        marker={
            "size": 11,
            "color": [ORANGE if title == method else BLUE for title in titles],
            "symbol": ["diamond" if title == method else "circle" for title in titles],
        },
        hovertemplate="%{y}: mean rank %{x:.2f}<extra></extra>",
    )
    if critical is not None and method is not None and method in titles:
        at = ranks[list(titles).index(method)]
        low, high = max(0.5, at - critical), min(len(titles) + 0.5, at + critical)
        drawn.add_vrect(x0=low, x1=high, fillcolor=GREY, opacity=0.12, line_width=0)
    drawn.update_xaxes(title_text="mean rank (1 is the best)", range=[0.5, len(titles) + 0.5])
    return drawn.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)


def differences(
    titles: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    margin: float | None = None,
    unit: str = "balanced accuracy, points",
    larger_is_better: bool = True,
) -> go.Figure:
    """A method minus each other arm, with intervals; one that holds 0 is grey, and the margin is a band.

    Args:
        values, intervals, margin: fractions; they are drawn in points of a hundred.
    """
    if not titles:
        return empty("There is nothing to compare with yet.")
    drawn = figure(max(ROOM, 90 + 24 * len(titles)))
    sides = [(low > 0) - (high < 0) if larger_is_better else (high < 0) - (low > 0) for low, high in intervals]
    drawn.add_scatter(
        x=[100 * value for value in values],
        y=list(titles),
        mode="markers",
        marker={
            "size": 10,
            "color": [(GREY, BLUE, ORANGE)[side] for side in sides],
            "symbol": [("circle-open", "triangle-right", "triangle-left")[side] for side in sides],
        },
        error_x=_errors(values, intervals),
        hovertext=[f"{100 * low:+.1f} to {100 * high:+.1f}" for low, high in intervals],
        hovertemplate="against %{y}: %{x:+.1f} (95 %: %{hovertext})<extra></extra>",
    )
    if margin is not None:
        drawn.add_vrect(x0=-100 * margin, x1=100 * margin, fillcolor=GREEN, opacity=0.12, line_width=0)
    drawn.add_vline(x=0, line={"color": GREY, "width": 1})
    drawn.update_xaxes(title_text=f"difference in<br>{unit}")
    return drawn.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)


def against_budget(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    levels: Mapping[str, float] | None = None,
    *,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    unit: str = "balanced accuracy, points",
) -> go.Figure:
    """A metric against the trained share of the backbone, a line an arm; arms without a budget are level lines.

    Args:
        lines: for each arm its shares (fractions of the backbone) and the metric (fractions).
        intervals: for each arm those of the metric.
    """
    if not lines and not levels:
        return empty("No arm has been run with a budget yet.")
    drawn = figure(420)
    for number, (name, (shares, values)) in enumerate(lines.items()):
        drawn.add_scatter(
            x=[100 * share for share in shares],
            y=[100 * value for value in values],
            name=name,
            mode="lines+markers",
            line={"dash": DASHES[number // 4 % len(DASHES)], "color": (BLUE, ORANGE, GREEN, GREY)[number % 4]},
            marker={"size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            error_y=_errors(values, (intervals or {}).get(name)),
            hovertemplate=f"{name}, %{{x:.3g}} %: %{{y:.1f}}<extra></extra>",
        )
    for name, value in (levels or {}).items():
        drawn.add_hline(
            y=100 * value,
            line={"color": GREY, "width": 1, "dash": "dot"},
            annotation_text=name,
            annotation_font_size=11,
        )
    drawn.update_xaxes(title_text="trained share of the backbone, %", **_DECADES)
    return drawn.update_yaxes(title_text=unit)


def _errors(values: Sequence[float], intervals: Sequence[tuple[float, float]] | None) -> dict[str, object] | None:
    """Error bars in points of a hundred."""
    if intervals is None:
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (high - value) for value, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [100 * (value - low) for value, (low, _) in zip(values, intervals, strict=True)],
        "color": GREY,
        "thickness": 1.5,
    }


def against_weights(
    titles: Sequence[str],
    shares: Sequence[float],
    values: Sequence[float],
    method: str | None = None,
    *,
    unit: str = "balanced accuracy, points",
) -> go.Figure:
    """A metric against how much of the backbone is trained, a point an arm; arms that train none of it stand left.

    The method is named, and each arm that is ahead of all that train no more; the others when pointed at.
    """
    if not titles:
        return empty("No arm is complete yet.")
    least = min((share for share in shares if share > 0), default=1e-4)
    points = list(zip(shares, values, strict=True))
    named = [
        title if title == method or all(v < value for s, v in points if s <= share and (s, v) != (share, value)) else ""
        for title, (share, value) in zip(titles, points, strict=True)
    ]
    drawn = figure(440)
    drawn.add_scatter(
        x=[100 * (share or least / 10) for share in shares],
        y=[100 * value for value in values],
        text=named,
        mode="markers+text",
        textposition="top center",
        textfont={"size": 11},
        marker={
            "size": 10,
            "color": [ORANGE if title == method else BLUE for title in titles],
            "symbol": ["diamond" if title == method else "circle-open" for title in titles],
            "line": {"width": 2},
        },
        hovertext=[f"{title}, {percent(share)}" for title, share in zip(titles, shares, strict=True)],
        hovertemplate="%{hovertext} of the backbone: %{y:.1f}<extra></extra>",
        cliponaxis=False,
    )
    drawn.update_xaxes(title_text="trained share of the backbone, % (left end: none of it)", **_DECADES)
    return drawn.update_yaxes(title_text=unit)


def shared_against_chance(titles: Sequence[str], shared: Sequence[float], chance: Sequence[float]) -> go.Figure:
    """For pairs of choices the share of weights that both hold, beside what random choices share."""
    if not titles:
        return empty("No choices were compared.")
    drawn = figure(max(ROOM, 90 + 22 * len(titles)))
    for name, values, color, symbol in (
        ("shared", shared, BLUE, "circle"),
        ("by chance", chance, ORANGE, "line-ns-open"),
    ):
        drawn.add_scatter(
            x=[100 * value for value in values],
            y=list(titles),
            name=name,
            mode="markers",
            marker={"size": 10, "color": color, "symbol": symbol},
            hovertemplate=f"%{{y}}: %{{x:.3g}} % {name}<extra></extra>",
        )
    drawn.update_xaxes(title_text="weights that both choose, % of the budget", rangemode="tozero")
    return drawn.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)
