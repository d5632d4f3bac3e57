"""ROC and precision-recall curves of one class against the rest, with bootstrap bands over cases."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.metrics import Interval, resample_groups
from shpeft.evaluation.predict import Predictions

Array = NDArray[np.float64]

POINTS = 101
"""Points of the horizontal axis at which curve and band are evaluated."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Curve with its pointwise 95 % band. Arrays are (101,).

    Attributes:
        x: false positive rate, or recall.
        y: true positive rate, or precision.
        area: area under the curve: AUROC, or average precision; NaN if all cases are positive or all negative.
        chance: the area of random guessing.
    """

    x: Array
    y: Array
    low: Array
    high: Array
    area: Interval
    chance: float


def roc_curve(predictions: Predictions, name: str, *, resamples: int = 1000, seed: int = 0) -> Curve:
    """Return the ROC curve of one class against the rest, linear between thresholds.

    Args:
        resamples: bootstrap replicates, drawn with replacement over groups.

    Raises:
        ClassMismatch: an unknown class.
    """
    up, down = _counts(predictions, name, resamples, seed)
    grid = np.linspace(0, 1, POINTS)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = down / down[:, -1:], up / up[:, -1:]
    lines = np.stack([np.interp(grid, *row) for row in zip(x, y, strict=True)])
    areas = ((y[:, 1:] + y[:, :-1]) / 2 * np.diff(x, axis=1)).sum(1)
    return _curve(grid, lines, areas, 0.5)


def pr_curve(predictions: Predictions, name: str, *, resamples: int = 1000, seed: int = 0) -> Curve:
    """Return the precision-recall curve of one class against the rest, as steps.

    At each recall it is the precision of the highest threshold that reaches it. The area is the average precision
    Σ_k (R_k − R_{k−1}) P_k. Neither interpolates.
    """
    up, down = _counts(predictions, name, resamples, seed)
    grid = np.linspace(0, 1, POINTS)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = up / up[:, -1:], up / (up + down)
    gains = np.diff(recall, axis=1)
    areas = np.where(gains > 0, gains * precision[:, 1:], 0).sum(1) + 0 * recall[:, -1]
    lines = np.stack([_steps(grid, *row) for row in zip(recall, precision, strict=True)])
    chance = up[0, -1] / (up[0, -1] + down[0, -1])
    return _curve(grid, lines, areas, float(chance))


def confusion(predictions: Predictions) -> NDArray[np.int64]:
    """Return the confusion matrix (C, C): true classes in rows, predicted classes in columns."""
    classes = len(predictions.classes)
    cell = np.asarray(predictions.labels) * classes + predictions.decided
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes)


def cases_in_cell(predictions: Predictions, true: str, predicted: str) -> list[int]:
    """Return the positions of the cases in one cell of the confusion matrix, the most confident first."""
    row, column = (class_index(predictions.classes, name) for name in (true, predicted))
    p = predictions.probabilities
    inside = np.flatnonzero((np.asarray(predictions.labels) == row) & (predictions.decided == column))
    return [int(at) for at in inside[np.argsort(-p[inside, column], kind="stable")]]


def _counts(predictions: Predictions, name: str, resamples: int, seed: int) -> tuple[Array, Array]:
    """Return the positives and the negatives at or above each threshold, from the highest, each (1 + R, K + 1).

    The first row counts the cases themselves, the others their resamples. The first column is 0.
    """
    c = class_index(predictions.classes, name)
    score, positive = predictions.probabilities[:, c], np.asarray(predictions.labels) == c
    weights = np.vstack([np.ones((1, len(score))), resample_groups(predictions.groups, resamples, seed)])
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    w, hit = weights[:, order], positive[order]
    zeros = np.zeros((len(w), 1))
    up, down = (np.cumsum(np.where(side, w, 0), axis=1)[:, ends] for side in (hit, ~hit))
    return np.hstack([zeros, up]), np.hstack([zeros, down])


def _steps(grid: Array, recall: Array, precision: Array) -> Array:
    """Return the precision at the first threshold whose recall reaches each value of the grid."""
    if np.isnan(recall).any():
        return np.full(len(grid), np.nan)
    at = np.searchsorted(recall[1:], grid - 1e-12) + 1
    steps: Array = precision[np.minimum(at, len(precision) - 1)]
    return steps


def _curve(grid: Array, lines: Array, areas: Array, chance: float) -> Curve:
    """Build a curve: the first row is the curve, the others its band. Resamples with one kind of case are left out."""
    usable = ~np.isnan(areas[1:])
    if not usable.any():
        nothing = np.full(len(grid), np.nan)
        return Curve(grid, lines[0], nothing, nothing, Interval(float(areas[0]), np.nan, np.nan), chance)
    low, high = np.nanquantile(lines[1:][usable], [0.025, 0.975], axis=0)
    area = (float(edge) for edge in np.quantile(areas[1:][usable], [0.025, 0.975]))
    return Curve(grid, lines[0], low, high, Interval(float(areas[0]), *area), chance)
