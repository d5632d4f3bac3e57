"""Figures of a comparison study: mean ranks, differences with intervals, and results by number of trained weights."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from shpeft.figures.theme import BLUE, GRAY, GREEN, ORANGE, as_text, empty_figure, format_share, new_figure, with_alt

DASHES = ("solid", "dot", "dash", "dashdot")
_DECADES = {"type": "log", "dtick": 1, "exponentformat": "none"}
ROOM = 170
"""Smallest height in pixels at which the axis title does not overlap the tick labels."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def mean_ranks(
    titles: Sequence[str], ranks: Sequence[float], method: str | None = None, critical: float | None = None
) -> go.Figure:
    """Draw the mean rank of each arm over datasets, the best on top.

    Args:
        titles: of the arms.
        ranks: of the arms; 1 is the best.
        method: the highlighted arm.
        critical: critical difference of mean ranks, drawn as a band around the method.
    """
    if not titles:
        return empty_figure("No two arms share a finished dataset yet.")
    figure = new_figure(max(ROOM, 90 + 24 * len(titles)))
    figure.add_scatter(
        x=list(ranks),
        y=[as_text(title) for title in titles],
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
        figure.add_vrect(x0=low, x1=high, fillcolor=GRAY, opacity=0.12, line_width=0)
    figure.update_xaxes(title_text="mean rank (1 is the best)", range=[0.5, len(titles) + 0.5])
    figure.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)
    return with_alt(figure, f"Dots: mean ranks of {len(titles)} arms, the best is {titles[0]}")


def paired_differences(
    titles: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    margin: float | None = None,
    unit: str = "balanced accuracy, points",
    factor: float = 100,
    decimals: int = 1,
    larger_is_better: bool = True,
) -> go.Figure:
    """Draw the difference between a method and each other arm, with intervals; those that hold 0 are gray.

    Args:
        titles: of the other arms.
        values: differences.
        intervals: of the differences.
        margin: of equivalence, drawn as a band.
        unit: of the horizontal axis.
        factor: what values are multiplied by, such as 100 for fractions in points.
        decimals: of a value where the pointer rests on it.
        larger_is_better: whether a positive difference favors the method.
    """
    if not titles:
        return empty_figure("There is no other arm to compare with yet.")
    figure = new_figure(max(ROOM, 90 + 24 * len(titles)))
    sides = [(low > 0) - (high < 0) if larger_is_better else (high < 0) - (low > 0) for low, high in intervals]
    figure.add_scatter(
        x=[factor * value for value in values],
        y=[as_text(title) for title in titles],
        mode="markers",
        marker={
            "size": 10,
            "color": [(GRAY, BLUE, ORANGE)[side] for side in sides],
            "symbol": [("circle-open", "triangle-right", "triangle-left")[side] for side in sides],
        },
        error_x=_errors(values, intervals, factor),
        hovertext=[f"{factor * low:+.{decimals}f} to {factor * high:+.{decimals}f}" for low, high in intervals],
        hovertemplate=f"against %{{y}}: %{{x:+.{decimals}f}} (95 %: %{{hovertext}})<extra></extra>",
    )
    if margin is not None:
        figure.add_vrect(x0=-factor * margin, x1=factor * margin, fillcolor=GREEN, opacity=0.12, line_width=0)
    figure.add_vline(x=0, line={"color": GRAY, "width": 1})
    figure.update_xaxes(title_text=f"difference in<br>{as_text(unit)}")
    figure.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)
    return with_alt(figure, f"Dots with intervals: difference in {unit} from {len(titles)} other arms")


def metric_by_budget(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    levels: Mapping[str, float] | None = None,
    *,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    unit: str = "balanced accuracy, points",
    factor: float = 100,
    decimals: int = 1,
) -> go.Figure:
    """Draw a metric against the trained share of the backbone: a line for each arm.

    Args:
        lines: for each arm its shares of the backbone, as fractions, and its metric.
        levels: metric of each arm without a budget, drawn as a horizontal line.
        intervals: of the metric, for each arm that has them.
        unit: of the vertical axis.
        factor: what values are multiplied by, such as 100 for fractions in points.
        decimals: of a value where the pointer rests on it.
    """
    if not lines and not levels:
        return empty_figure("No arm with a budget has finished yet.")
    figure = new_figure(420)
    for format_count, (name, (shares, values)) in enumerate(lines.items()):
        figure.add_scatter(
            x=[100 * share for share in shares],
            y=[factor * value for value in values],
            name=as_text(name),
            mode="lines+markers",
            line={
                "dash": DASHES[format_count // 4 % len(DASHES)],
                "color": (BLUE, ORANGE, GREEN, GRAY)[format_count % 4],
            },
            marker={"size": 8, "symbol": SYMBOLS[format_count % len(SYMBOLS)]},
            error_y=_errors(values, (intervals or {}).get(name), factor),
            hovertemplate=f"{as_text(name)}, %{{x:.3g}} %: %{{y:.{decimals}f}}<extra></extra>",
        )
    for name, value in (levels or {}).items():
        figure.add_hline(
            y=factor * value,
            line={"color": GRAY, "width": 1, "dash": "dot"},
            annotation_text=as_text(name),
            annotation_font_size=11,
        )
    figure.update_xaxes(title_text="trained share of the backbone, %", **_DECADES)
    figure.update_yaxes(title_text=as_text(unit))
    return with_alt(figure, f"Lines: {unit} of {len(lines)} arms against the trained share of the backbone")


def _errors(
    values: Sequence[float], intervals: Sequence[tuple[float, float]] | None, factor: float
) -> dict[str, object] | None:
    """Return error bars of values that are multiplied by a factor."""
    if intervals is None:
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [factor * (high - value) for value, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [factor * (value - low) for value, (low, _) in zip(values, intervals, strict=True)],
        "color": GRAY,
        "thickness": 1.5,
    }


def metric_by_trained_share(
    titles: Sequence[str],
    shares: Sequence[float],
    values: Sequence[float],
    method: str | None = None,
    *,
    unit: str = "balanced accuracy, points",
    factor: float = 100,
    decimals: int = 1,
    larger_is_better: bool = True,
) -> go.Figure:
    """Draw a metric against the trained share of the backbone: a point for each arm; no trained weights is far left.

    Labels name the method and each arm that beats all arms with no more trained weights; others appear on hover.

    Args:
        titles: of the arms.
        shares: of the backbone, as fractions.
        values: of the metric.
        method: the highlighted arm.
        unit: of the vertical axis.
        factor: what values are multiplied by, such as 100 for fractions in points.
        decimals: of a value where the pointer rests on it.
        larger_is_better: whether a larger value is better.
    """
    if not titles:
        return empty_figure("No arm has finished yet.")
    least = min((share for share in shares if share > 0), default=1e-4)
    sign = 1 if larger_is_better else -1
    points = [(share, sign * value) for share, value in zip(shares, values, strict=True)]
    named = [
        title if title == method or all(v < value for s, v in points if s <= share and (s, v) != (share, value)) else ""
        for title, (share, value) in zip(titles, points, strict=True)
    ]
    figure = new_figure(440)
    figure.add_scatter(
        x=[100 * (share or least / 10) for share in shares],
        y=[factor * value for value in values],
        text=[as_text(name) for name in named],
        mode="markers+text",
        textposition="top center",
        textfont={"size": 11},
        marker={
            "size": 10,
            "color": [ORANGE if title == method else BLUE for title in titles],
            "symbol": ["diamond" if title == method else "circle-open" for title in titles],
            "line": {"width": 2},
        },
        hovertext=[f"{as_text(title)}, {format_share(share)}" for title, share in zip(titles, shares, strict=True)],
        hovertemplate=f"%{{hovertext}} of the backbone: %{{y:.{decimals}f}}<extra></extra>",
        cliponaxis=False,
    )
    figure.update_xaxes(title_text="trained share of the backbone, % (left end: none)", **_DECADES)
    figure.update_yaxes(title_text=as_text(unit))
    return with_alt(figure, f"Dots: {unit} of {len(titles)} arms against the trained share of the backbone")


def shared_weights(titles: Sequence[str], shared: Sequence[float], chance: Sequence[float]) -> go.Figure:
    """Draw the share of weights common to each pair of supports, with the expectation for random supports."""
    if not titles:
        return empty_figure("No supports were compared.")
    figure = new_figure(max(ROOM, 90 + 22 * len(titles)))
    for name, values, color, symbol in (
        ("shared", shared, BLUE, "circle"),
        ("by chance", chance, ORANGE, "line-ns-open"),
    ):
        figure.add_scatter(
            x=[100 * value for value in values],
            y=[as_text(title) for title in titles],
            name=name,
            mode="markers",
            marker={"size": 10, "color": color, "symbol": symbol},
            hovertemplate=f"%{{y}}: %{{x:.3g}} % {name}<extra></extra>",
        )
    figure.update_xaxes(title_text="weights in both supports, % of the budget", rangemode="tozero")
    figure.update_yaxes(type="category", range=[len(titles) - 0.5, -0.5], dtick=1)
    return with_alt(figure, f"Dots: shared weights of {len(titles)} pairs of supports, with those by chance")
