"""Figures of an evaluation: ROC, precision-recall, confusion matrix, reliability, thresholds, abstention."""

import numpy as np
import plotly.graph_objects as go

from shpeft.evaluation import (
    Curve,
    OperatingPoint,
    Reliability,
    RiskCoverage,
    ThresholdCurve,
    calibrate_predictions,
    calibration_curve,
    confusion,
)
from shpeft.evaluation.predict import Predictions
from shpeft.figures.theme import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    SCALE,
    as_text,
    empty_figure,
    new_figure,
    with_alt,
    write_in_cells,
)

SHADE = "rgba(10, 132, 214, 0.22)"
NO_CURVE = "All images or none have this class, so there is no curve."


def roc_curve(curve: Curve) -> go.Figure:
    """Draw the ROC curve with its 95 % band and chance level.

    Args:
        curve: as :func:`shpeft.evaluation.roc_curve` returns it.
    """
    if np.isnan(curve.area.value):
        return empty_figure(NO_CURVE, 320)
    figure = _with_band(curve, "false positive rate (1 − specificity)", "true positive rate (sensitivity)")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="chance", line={"color": GRAY, "dash": "dash"})
    return with_alt(figure, f"ROC curve with its 95 % band, area {curve.area}")


def precision_recall_curve(curve: Curve) -> go.Figure:
    """Draw the precision-recall curve with its 95 % band and chance level.

    Args:
        curve: as :func:`shpeft.evaluation.pr_curve` returns it.
    """
    if np.isnan(curve.area.value):
        return empty_figure(NO_CURVE, 320)
    figure = _with_band(curve, "recall (sensitivity)", "precision (positive predictive value)", "vh")
    figure.add_scatter(
        x=[0, 1], y=[curve.chance] * 2, mode="lines", name="chance", line={"color": GRAY, "dash": "dash"}
    )
    return figure


def _with_band(curve: Curve, x: str, y: str, shape: str = "linear") -> go.Figure:
    figure = new_figure(360)
    side = {"x": curve.x, "mode": "lines", "line": {"width": 0, "shape": shape}, "hoverinfo": "skip"}
    figure.add_scatter(y=curve.low, showlegend=False, **side)
    figure.add_scatter(y=curve.high, fill="tonexty", fillcolor=SHADE, name="95 % interval", **side)
    figure.add_scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        name="model",
        line={"color": BLUE, "width": 2, "shape": shape},
        hovertemplate="%{x:.2f}, %{y:.2f}<extra></extra>",
    )
    figure.update_xaxes(title_text=x, range=[0, 1.02])
    return figure.update_yaxes(title_text=y, range=[0, 1.02])


def confusion_matrix(predictions: Predictions) -> go.Figure:
    """Draw the confusion matrix: true classes in rows, predicted ones in columns, colored by the share of the row.

    Nearly transparent squares over the cells carry ``[true, predicted]`` as ``customdata``, for selection by click.
    """
    counts, raw = confusion(predictions), predictions.classes
    classes = [as_text(name) for name in raw]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [(true, guess) for true in range(len(classes)) for guess in range(len(classes))]
    at = {"x": [classes[guess] for _, guess in cells], "y": [classes[true] for true, _ in cells]}
    figure = new_figure(130 + 52 * len(classes))
    figure.add_heatmap(
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
    write_in_cells(figure, classes, classes, shares.tolist(), written, top=1, size=16)
    figure.add_scatter(
        **at,
        mode="markers",
        marker={"symbol": "square", "size": 40, "color": "#ffffff", "opacity": 0.01},
        selected={"marker": {"opacity": 0.35, "color": ORANGE, "size": 40}},
        unselected={"marker": {"opacity": 0.01}},
        customdata=[[raw[true], raw[guess]] for true, guess in cells],
        hovertext=[
            f"{counts[true, guess]:,} images of {classes[true]} are predicted as {classes[guess]}"
            if true != guess
            else f"{counts[true, guess]:,} images of {classes[true]} are predicted correctly"
            for true, guess in cells
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(
        title_text="predicted", type="category", showgrid=False, side="top", categoryarray=list(classes)
    )
    figure.update_yaxes(title_text="true", type="category", showgrid=False, range=[len(classes) - 0.5, -0.5])
    figure.update_layout(hovermode="closest", hoverdistance=80, dragmode=False, margin={"t": 60})
    right = int(np.trace(counts))
    return with_alt(figure, f"Confusion matrix: {right:,} of {counts.sum():,} images are predicted correctly")


def reliability_diagram(
    predictions: Predictions, reliability: Reliability | None = None, name: str | None = None
) -> go.Figure:
    """Draw the observed frequency against the predicted probability, with 95 % intervals.

    Args:
        predictions: uncalibrated, such as ``run.predictions.test()``.
        reliability: adds the diagram after temperature scaling, such as ``run.reliability.read()``.
        name: the class whose probability is drawn; None: the top probability against accuracy.
    """
    series = [("before calibration", calibration_curve(predictions, name), ORANGE, "diamond")]
    if reliability is not None:
        calibrated = calibrate_predictions(predictions, reliability.calibration.temperature)
        series.append(("after calibration", calibration_curve(calibrated, name), BLUE, "circle"))
    figure = new_figure(380)
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="perfect calibration", line={"color": GRAY, "dash": "dash"}
    )
    for title, bins, color, symbol in series:
        ends = [bin.observed.interval for bin in bins]
        figure.add_scatter(
            x=[bin.mean for bin in bins],
            y=[bin.observed.value for bin in bins],
            error_y={
                "array": [high - bin.observed.value for bin, (_, high) in zip(bins, ends, strict=True)],
                "arrayminus": [bin.observed.value - low for bin, (low, _) in zip(bins, ends, strict=True)],
                "thickness": 1.2,
            },
            mode="markers",
            name=title,
            marker={"color": color, "size": 9, "symbol": symbol},
            hovertext=[f"predicted {b.mean:.0%}, true in {b.observed.count} of {b.observed.cases}" for b in bins],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_xaxes(title_text="predicted probability, mean of the bin", range=[0, 1.02])
    figure.update_yaxes(title_text="observed frequency", range=[0, 1.02])
    return with_alt(figure, "Reliability diagram: observed frequency against predicted probability")


def threshold_curves(curve: ThresholdCurve, chosen: OperatingPoint | None = None) -> go.Figure:
    """Draw sensitivity and specificity against the threshold, with a line at the chosen one."""
    figure = new_figure(340)
    for name, values, color, dash in (
        ("sensitivity", curve.sensitivity, BLUE, "solid"),
        ("specificity", curve.specificity, GREEN, "dot"),
    ):
        figure.add_scatter(
            x=curve.thresholds,
            y=values,
            mode="lines",
            name=name,
            line={"color": color, "width": 2, "dash": dash, "shape": "vh"},
            hovertemplate="%{y:.3f} at a threshold of %{x:.3f}<extra></extra>",
        )
    if chosen is not None:
        figure.add_vline(chosen.threshold, line={"color": ORANGE, "width": 2})
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=f"chosen: {chosen.threshold:.3f}", line={"color": ORANGE, "width": 2}
        )
    figure.update_xaxes(title_text="threshold of the calibrated probability", range=[0, 1.02])
    figure.update_yaxes(title_text="share", range=[0, 1.02])
    return with_alt(figure, "Lines: sensitivity and specificity against the threshold")


def risk_coverage_curve(curve: RiskCoverage, chosen: float | None = None) -> go.Figure:
    """Draw the error rate of the answered cases against their share.

    Args:
        curve: as :func:`shpeft.evaluation.risk_coverage` returns it.
        chosen: the coverage in use, drawn as a line.
    """
    figure = new_figure(340)
    figure.add_scatter(
        x=curve.coverage,
        y=curve.risk,
        mode="lines",
        name="most certain first",
        line={"color": BLUE, "width": 2},
        hovertemplate="%{y:.1%} errors among the %{x:.0%} of images that are answered<extra></extra>",
    )
    figure.add_scatter(
        x=[0, 1],
        y=[curve.risk[-1]] * 2,
        mode="lines",
        name="random order",
        line={"color": GRAY, "dash": "dash"},
        hoverinfo="skip",
    )
    if chosen is not None:
        figure.add_vline(chosen, line={"color": ORANGE, "width": 2})
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=f"chosen: {chosen:.0%}", line={"color": ORANGE, "width": 2}
        )
    figure.update_xaxes(title_text="coverage: share of images answered", range=[0, 1.01], tickformat=".0%")
    figure.update_yaxes(title_text="risk: error rate of the answers", rangemode="tozero", tickformat=".0%")
    return with_alt(figure, f"Risk-coverage curve, area {curve.area:.3f}")
