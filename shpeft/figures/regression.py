"""Figures of predicted numbers: predicted against true, and the errors."""

import numpy as np
import plotly.graph_objects as go

from shpeft.evaluation import IntervalReliability
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.regression import errors
from shpeft.figures.theme import BLUE, GRAY, ORANGE, as_text, new_figure, with_alt
from shpeft.tasks import Regression

SHADE = "rgba(10, 132, 214, 0.15)"


def predicted_against_true(predictions: Predictions, reliability: IntervalReliability | None = None) -> go.Figure:
    """Draw a point for each case: its true and its predicted number.

    Args:
        predictions: of a regression, such as ``run.predictions.test()``.
        reliability: adds the prediction interval as a band around the diagonal, such as ``run.reliability.read()``.
    """
    true, predicted = np.asarray(predictions.labels, dtype=np.float64), predictions.probabilities[:, 0]
    ends = _range(np.concatenate([true, predicted]))
    figure, title = new_figure(400), _axis(predictions)
    if reliability is not None and reliability.half_width is not None:
        width = reliability.half_width
        figure.add_scatter(
            x=[*ends, *ends[::-1]],
            y=[ends[0] - width, ends[1] - width, ends[1] + width, ends[0] + width],
            mode="lines",
            fill="toself",
            fillcolor=SHADE,
            line={"width": 0},
            name=f"{reliability.rules.coverage:.0%} interval",
            hoverinfo="skip",
        )
    figure.add_scatter(x=ends, y=ends, mode="lines", name="no error", line={"color": GRAY, "dash": "dash"})
    figure.add_scatter(
        x=true,
        y=predicted,
        mode="markers",
        name="test image",
        marker={"color": BLUE, "size": 7, "opacity": 0.7},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(title_text=f"true {title}", range=ends)
    figure.update_yaxes(title_text=f"predicted {title}", range=ends)
    figure.update_layout(hovermode="closest")
    return with_alt(figure, f"Points: predicted against true {predictions.classes[0]} of {len(true):,} images")


def prediction_errors(predictions: Predictions, reliability: IntervalReliability | None = None) -> go.Figure:
    """Draw the error of each case against its true number, with the mean error.

    Errors that rise or fall with the number show predictions that are drawn towards the mean.

    Args:
        predictions: of a regression, such as ``run.predictions.test()``.
        reliability: adds the ends of the prediction interval as lines.
    """
    true, off = np.asarray(predictions.labels, dtype=np.float64), errors(predictions)
    figure, ends = new_figure(400), _range(true)
    lines = [("no error", 0.0, GRAY, "dash"), (f"mean error {off.mean():+.3g}", float(off.mean()), ORANGE, "solid")]
    if reliability is not None and reliability.half_width is not None:
        lines += [("interval", side * reliability.half_width, BLUE, "dot") for side in (-1, 1)]
    for number, (name, height, color, dash) in enumerate(lines):
        figure.add_scatter(
            x=ends,
            y=[height] * 2,
            mode="lines",
            name=name,
            line={"color": color, "dash": dash},
            showlegend=number < 3,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=true,
        y=off,
        mode="markers",
        name="test image",
        marker={"color": BLUE, "size": 7, "opacity": 0.7},
        hovertemplate="true %{x:.4g}, error %{y:+.4g}<extra></extra>",
    )
    title = _axis(predictions)
    figure.update_xaxes(title_text=f"true {title}", range=ends)
    figure.update_yaxes(title_text=f"error: predicted − true {title}")
    figure.update_layout(hovermode="closest")
    return with_alt(figure, f"Points: error of {predictions.classes[0]} against its true value, {len(true):,} images")


def _axis(predictions: Predictions) -> str:
    """Return the quantity with its unit."""
    unit = predictions.task.unit if isinstance(predictions.task, Regression) else ""
    return as_text(f"{predictions.classes[0]} ({unit})" if unit else predictions.classes[0])


def _range(values: np.ndarray) -> list[float]:
    """Return the ends of an axis, a little beyond the values."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return [low - margin, high + margin]
