"""Metrics of predicted numbers, with 95 % intervals from a bootstrap over cases."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ClassMismatch
from shpeft.evaluation.metrics import Interval, interval_of, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.subgroups import select_cases
from shpeft.tasks import Regression

Array = NDArray[np.float64]

REGRESSION_METRICS = ("mae", "rmse", "r2", "bias")


@dataclass(frozen=True, repr=False)
class RegressionMetrics:
    """Metrics of predicted numbers, each with its 95 % interval; errors are in the quantity's unit.

    Attributes:
        cases: number of cases.
        unit: of the errors; empty if unknown.
        mae: mean absolute error; lower is better.
        rmse: root of the mean squared error; lower is better.
        r2: 1 − Σ(y − ŷ)² / Σ(y − ȳ)², of these cases: 1 is perfect, 0 is as good as their mean.
        bias: mean of ŷ − y; above 0 the model predicts too much.
    """

    cases: int
    unit: str
    mae: Interval
    rmse: Interval
    r2: Interval
    bias: Interval

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"RegressionMetrics({self.cases:,} cases, mean absolute error {self.mae}{unit}, R² {self.r2})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return asdict(self)


def evaluate_regression(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> RegressionMetrics:
    """Return the metrics of predicted numbers with their intervals.

    Args:
        predictions: of a regression.
        resamples: number of bootstrap replicates, drawn with replacement over groups.
        seed: of the resamples; the same seed gives the same intervals.

    Raises:
        ClassMismatch: the predictions are of classes.

    Examples:
        >>> import numpy as np, shpeft
        >>> ages, cases, task = np.array([[41.0], [52.0], [58.0]]), tuple("abc"), shpeft.tasks.Regression(unit="years")
        >>> predictions = shpeft.Predictions(cases, (40.0, 50.0, 60.0), cases, ("age",), ages, task=task)
        >>> metrics = shpeft.evaluate_regression(predictions)
        >>> round(metrics.mae.value, 3), round(metrics.r2.value, 3), round(metrics.bias.value, 3)
        (1.667, 0.955, 0.333)
    """
    if not isinstance(predictions.task, Regression):
        raise ClassMismatch("These predictions are of classes: use shpeft.evaluate or shpeft.evaluate_findings.")
    values = regression_replicates(predictions, _weights(predictions, resamples, seed))
    intervals = {name: interval_of(values[name]) for name in REGRESSION_METRICS}
    return RegressionMetrics(len(predictions.labels), predictions.task.unit, **intervals)


def regression_difference(
    a: Predictions, b: Predictions, *, resamples: int = 1000, seed: int = 0, paired: bool = True
) -> dict[str, Interval]:
    """Return the difference a − b of every metric, of the same cases, or where not paired of two sets of cases."""
    of_a = regression_replicates(a, _weights(a, resamples, seed if paired else (seed, 0)))
    of_b = regression_replicates(b, _weights(b, resamples, seed if paired else (seed, 1)))
    return {name: interval_of(of_a[name] - of_b[name]) for name in REGRESSION_METRICS}


def regression_by_subgroup(predictions: Predictions) -> tuple[tuple[str, RegressionMetrics], ...]:
    """Return the metrics of each subgroup, by name; empty if the predictions have no subgroups."""
    parts = []
    for name in sorted(set(predictions.subgroups)):
        rows = [row for row, own in enumerate(predictions.subgroups) if own == name]
        parts.append((name or "not known", evaluate_regression(select_cases(predictions, rows))))
    return tuple(parts)


def squared_error_loss(predictions: Predictions) -> float:
    """Return the task's mean loss: half the squared error, in standard deviations of the training cases."""
    return float(regression_case_losses(predictions).mean())


def regression_case_losses(predictions: Predictions) -> Array:
    """Return (N,) losses: half the squared error of each case, in standard deviations of the training cases."""
    task = predictions.task
    assert isinstance(task, Regression)
    losses: Array = 0.5 * (errors(predictions) / task.std) ** 2
    return losses


def errors(predictions: Predictions) -> Array:
    """Return (N,) ŷ − y, in the quantity's unit."""
    difference: Array = predictions.probabilities[:, 0] - np.asarray(predictions.labels, dtype=np.float64)
    return difference


def regression_replicates(predictions: Predictions, weights: Array) -> dict[str, Array]:
    """Return each metric for each row of case weights (R, N)."""
    off, y, total = errors(predictions), np.asarray(predictions.labels, dtype=np.float64), weights.sum(1)
    squares = weights @ off**2
    mean = weights @ y / total
    spread = np.einsum("rn,rn->r", weights, (y[None] - mean[:, None]) ** 2)
    distinct = spread > 1e-12 * np.maximum(weights @ y**2, 1e-300)
    return {
        "mae": weights @ np.abs(off) / total,
        "rmse": np.sqrt(squares / total),
        "r2": np.where(distinct, 1 - squares / np.where(distinct, spread, 1), np.nan),
        "bias": weights @ off / total,
    }


def _weights(predictions: Predictions, resamples: int, seed: int | Sequence[int]) -> Array:
    return np.vstack([np.ones((1, len(predictions.labels))), resample_groups(predictions.groups, resamples, seed)])
