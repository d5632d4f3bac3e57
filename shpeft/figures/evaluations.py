"""Figures of an evaluation: ROC and precision–recall, the confusion matrix, reliability, thresholds, abstaining."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from shpeft.figures.theme import BLUE, GREEN, GREY, ORANGE, SCALE, empty, figure, write_in_cells
from shpeft.trust import Bin, Curve, OperatingPoint, RiskCoverage, ThresholdCurve

SHADE = "rgba(10, 132, 214, 0.22)"


def roc(curve: Curve) -> go.Figure:
    """True against false positive rate, with its band and what chance gives."""
    drawn = _with_band(curve, "false positive rate (1 − specificity)", "true positive rate (sensitivity)")
    drawn.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="chance", line={"color": GREY, "dash": "dash"})
    return drawn


def precision_recall(curve: Curve) -> go.Figure:
    """Precision against recall, with its band and what chance gives."""
    drawn = _with_band(curve, "recall (sensitivity)", "precision (positive predictive value)", "vh")
    drawn.add_scatter(x=[0, 1], y=[curve.chance] * 2, mode="lines", name="chance", line={"color": GREY, "dash": "dash"})
    return drawn


def _with_band(curve: Curve, x: str, y: str, shape: str = "linear") -> go.Figure:
    if np.isnan(curve.area.value):
        return empty("The images are all of this class, or none is: there is no curve.", 320)
    drawn = figure(360)
    side = {"x": curve.x, "mode": "lines", "line": {"width": 0, "shape": shape}, "hoverinfo": "skip"}
    drawn.add_scatter(y=curve.low, showlegend=False, **side)
    drawn.add_scatter(y=curve.high, fill="tonexty", fillcolor=SHADE, name="95 % interval", **side)
    drawn.add_scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        name="model",
        line={"color": BLUE, "width": 2, "shape": shape},
        hovertemplate="%{x:.2f}, %{y:.2f}<extra></extra>",
    )
    drawn.update_xaxes(title_text=x, range=[0, 1.02])
    return drawn.update_yaxes(title_text=y, range=[0, 1.02])


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> go.Figure:
    """True classes (rows) against predicted ones, coloured by the share of the row.

    Over the cells lie near-transparent squares whose ``customdata`` is ``[true, predicted]``: what a click selects.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [(true, guess) for true in range(len(classes)) for guess in range(len(classes))]
    at = {"x": [classes[guess] for _, guess in cells], "y": [classes[true] for true, _ in cells]}
    drawn = figure(130 + 52 * len(classes))
    drawn.add_heatmap(
        x=list(classes),
        y=list(classes),
        z=100 * shares,
        zmin=0,
        zmax=100,
        colorscale=SCALE,
        colorbar={"title": {"text": "% of row", "side": "top"}, "thickness": 12},
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    written = [[f"<b>{count:,}</b>" for count in row] for row in counts]
    write_in_cells(drawn, classes, classes, shares.tolist(), written, top=1, size=16)
    drawn.add_scatter(
        **at,
        mode="markers",
        marker={"symbol": "square", "size": 40, "color": "#ffffff", "opacity": 0.01},
        selected={"marker": {"opacity": 0.35, "color": ORANGE, "size": 40}},
        unselected={"marker": {"opacity": 0.01}},
        customdata=[[classes[true], classes[guess]] for true, guess in cells],
        hovertext=[
            f"{counts[true, guess]:,} images of {classes[true]} are taken for {classes[guess]}"
            if true != guess
            else f"{counts[true, guess]:,} images of {classes[true]} are recognised"
            for true, guess in cells
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    drawn.update_xaxes(title_text="predicted", type="category", showgrid=False, side="top", categoryarray=list(classes))
    drawn.update_yaxes(title_text="true", type="category", showgrid=False, range=[len(classes) - 0.5, -0.5])
    return drawn.update_layout(hovermode="closest", hoverdistance=80, dragmode=False, margin={"t": 60})


def reliability_diagram(before: Sequence[Bin], after: Sequence[Bin]) -> go.Figure:
    """What was true as often as the model said so: before and after the temperature, with 95 % intervals."""
    drawn = figure(380)
    drawn.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line={"color": GREY, "dash": "dash"})
    for name, bins, color, symbol in (("before", before, ORANGE, "diamond"), ("after", after, BLUE, "circle")):
        ends = [bin.observed.interval for bin in bins]
        drawn.add_scatter(
            x=[bin.mean for bin in bins],
            y=[bin.observed.value for bin in bins],
            error_y={
                "array": [high - bin.observed.value for bin, (_, high) in zip(bins, ends, strict=True)],
                "arrayminus": [bin.observed.value - low for bin, (low, _) in zip(bins, ends, strict=True)],
                "thickness": 1.2,
            },
            mode="markers",
            name=name,
            marker={"color": color, "size": 9, "symbol": symbol},
            hovertext=[f"said {b.mean:.0%}, true in {b.observed.count} of {b.observed.cases}" for b in bins],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    drawn.update_xaxes(title_text="probability, mean of a bin", range=[0, 1.02])
    return drawn.update_yaxes(title_text="share that was true", range=[0, 1.02])


def threshold_lines(curve: ThresholdCurve, chosen: OperatingPoint | None) -> go.Figure:
    """Sensitivity and specificity at every threshold, and the chosen one."""
    drawn = figure(340)
    for name, values, color, dash in (
        ("sensitivity", curve.sensitivity, BLUE, "solid"),
        ("specificity", curve.specificity, GREEN, "dot"),
    ):
        drawn.add_scatter(
            x=curve.thresholds,
            y=values,
            mode="lines",
            name=name,
            line={"color": color, "width": 2, "dash": dash, "shape": "vh"},
            hovertemplate="%{y:.3f} at a threshold of %{x:.3f}<extra></extra>",
        )
    if chosen is not None:
        drawn.add_vline(chosen.threshold, line={"color": ORANGE, "width": 2})
        drawn.add_scatter(
            x=[None], y=[None], mode="lines", name=f"chosen: {chosen.threshold:.3f}", line={"color": ORANGE, "width": 2}
        )
    drawn.update_xaxes(title_text="threshold of the calibrated probability", range=[0, 1.02])
    return drawn.update_yaxes(title_text="share", range=[0, 1.02])


def risk_coverage_curve(curve: RiskCoverage, chosen: float | None) -> go.Figure:
    """The errors among the answered cases against the share of cases that are answered; ``chosen`` is a coverage."""
    drawn = figure(340)
    drawn.add_scatter(
        x=curve.coverage,
        y=curve.risk,
        mode="lines",
        name="answering the surest",
        line={"color": BLUE, "width": 2},
        hovertemplate="%{y:.1%} wrong among the %{x:.0%} that are answered<extra></extra>",
    )
    drawn.add_scatter(
        x=[0, 1],
        y=[curve.risk[-1]] * 2,
        mode="lines",
        name="answering at random",
        line={"color": GREY, "dash": "dash"},
        hoverinfo="skip",
    )
    if chosen is not None:
        drawn.add_vline(chosen, line={"color": ORANGE, "width": 2})
        drawn.add_scatter(
            x=[None], y=[None], mode="lines", name=f"chosen: {chosen:.0%}", line={"color": ORANGE, "width": 2}
        )
    drawn.update_xaxes(title_text="coverage: share of images that are answered", range=[0, 1.01], tickformat=".0%")
    return drawn.update_yaxes(title_text="risk: errors among those", rangemode="tozero", tickformat=".0%")
