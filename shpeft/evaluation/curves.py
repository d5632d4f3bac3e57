"""ROC and precision–recall curves of one class against the rest, with bootstrap bands over cases."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation import Interval, Predictions, resample_groups
from shpeft.trust.calibration import class_index

Array = NDArray[np.float64]

POINTS = 101
"""Places along the horizontal axis at which a band is known."""


@dataclass(frozen=True)
class Curve:
    """A curve with its band of 95 %, pointwise, all (101,).

    Attributes:
        x: false positive rate, or recall.
        y: true positive rate, or precision.
        area: under the curve: AUROC, or average precision; NaN where the cases hold one kind only.
        chance: the area that guessing gives.
    """

    x: Array
    y: Array
    low: Array
    high: Array
    area: Interval
    chance: float


def roc_curve(predictions: Predictions, name: str, *, resamples: int = 1000, seed: int = 0) -> Curve:
    """True against false positive rate; between two thresholds the line that randomising between them gives.

    Args:
        resamples: bootstrap replicates, drawn with replacement over groups.

    Raises:
        ClassMismatch: there is no such class.
    """
    up, down = _counts(predictions, name, resamples, seed)
    grid = np.linspace(0, 1, POINTS)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = down / down[:, -1:], up / up[:, -1:]
    lines = np.stack([np.interp(grid, *row) for row in zip(x, y, strict=True)])
    areas = ((y[:, 1:] + y[:, :-1]) / 2 * np.diff(x, axis=1)).sum(1)
    return _curve(grid, lines, areas, 0.5)


def pr_curve(predictions: Predictions, name: str, *, resamples: int = 1000, seed: int = 0) -> Curve:
    """Precision against recall, as steps: at each recall the precision of the highest threshold that reaches it.

    The area is the average precision Σ_k (R_k − R_{k−1}) P_k, which does not interpolate either.
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
    """(C, C) how many cases of each class (row) are taken for each class (column) of the highest probability."""
    classes = len(predictions.classes)
    cell = np.asarray(predictions.labels) * classes + predictions.probabilities.argmax(1)
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes)


def cases_in(predictions: Predictions, true: str, predicted: str) -> list[int]:
    """The positions of the cases in one cell of the confusion matrix, the surest first."""
    row, column = (class_index(predictions.classes, name) for name in (true, predicted))
    p = predictions.probabilities
    inside = np.flatnonzero((np.asarray(predictions.labels) == row) & (p.argmax(1) == column))
    return [int(at) for at in inside[np.argsort(-p[inside, column], kind="stable")]]


def _counts(predictions: Predictions, name: str, resamples: int, seed: int) -> tuple[Array, Array]:
    """(1 + R, K + 1) positives and negatives at or above each threshold, from the highest; the first row is the cases'.

    The first column is 0: nothing is above the highest probability.
    """
    c = class_index(predictions.classes, name)
    score, positive = predictions.probabilities[:, c], np.asarray(predictions.labels) == c
    weights = np.vstack([np.ones((1, len(score))), resample_groups(predictions.groups, resamples, seed)])
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    w, hit = weights[:, order], positive[order]
    start = np.zeros((len(w), 1))
    up, down = (np.cumsum(np.where(side, w, 0), axis=1)[:, ends] for side in (hit, ~hit))
    return np.hstack([start, up]), np.hstack([start, down])


def _steps(grid: Array, recall: Array, precision: Array) -> Array:
    """The precision at the first place whose recall reaches each value of the grid."""
    if np.isnan(recall).any():
        return np.full(len(grid), np.nan)
    at = np.searchsorted(recall[1:], grid - 1e-12) + 1
    found: Array = precision[np.minimum(at, len(precision) - 1)]
    return found


def _curve(grid: Array, lines: Array, areas: Array, chance: float) -> Curve:
    """The first row is the curve, the others give its band; resamples without both kinds of cases are left out."""
    usable = ~np.isnan(areas[1:])
    if not usable.any():
        nothing = np.full(len(grid), np.nan)
        return Curve(grid, lines[0], nothing, nothing, Interval(float(areas[0]), np.nan, np.nan), chance)
    low, high = np.nanquantile(lines[1:][usable], [0.025, 0.975], axis=0)
    area = (float(edge) for edge in np.quantile(areas[1:][usable], [0.025, 0.975]))
    return Curve(grid, lines[0], low, high, Interval(float(areas[0]), *area), chance)
