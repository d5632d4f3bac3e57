"""``budget: auto``: train with each of three budgets, and take the one with the lowest validation loss.

In the comparison of methods more weights had a lower log loss on most datasets but not on all, and the learning rate
that was best on the validation images fell with the square root of their number: 1e-2 at 0.01 %, 3e-3 at 0.1 %, 1e-3 at
1 %. The start, which is the linear probe, competes with every budget.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.config.schema import Budget
from shpeft.evaluation.findings import finding_case_losses
from shpeft.evaluation.metrics import Interval, interval_of, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.regression import regression_case_losses
from shpeft.evaluation.temperature import TINY, calibrate, fit_temperature
from shpeft.support.formatting import percent
from shpeft.tasks import MultiLabel, Regression

SHARES = (1e-4, 1e-3, 1e-2)
"""The budgets that ``auto`` compares."""

RESAMPLES = 1000


def budgets(budget: Budget, eligible: int, total: int) -> tuple[int | float, ...]:
    """Return the budgets to train with: the given one, or for ``auto`` those that the eligible weights allow.

    Args:
        eligible: the number of weights that may be selected.
        total: the number of weights of the backbone, to which a share refers.

    Examples:
        >>> budgets(500, 10_000, 1_000_000), budgets("auto", 1_000_000, 1_000_000), budgets("auto", 5_000, 1_000_000)
        ((500,), (0.0001, 0.001, 0.01), (0.0001, 0.001))
    """
    if not isinstance(budget, str):
        return (budget,)
    return tuple(share for share in SHARES if share == SHARES[0] or share * total <= eligible)


def learning_rate(lr: float, k: int, smallest: int) -> float:
    """Return the learning rate of k weights: lr √(k₁ / k), where ``lr`` is that of the smallest number k₁.

    Examples:
        >>> [round(learning_rate(1e-2, k, 1_000), 4) for k in (1_000, 10_000, 100_000)]
        [0.01, 0.0032, 0.001]
    """
    return lr * math.sqrt(smallest / k)


def excess_loss(predictions: Predictions, best: Predictions) -> Interval:
    """Return how much higher the mean cross-entropy is than that of the best, each at the temperature that fits it.

    Args:
        predictions, best: of the same validation cases.

    Returns:
        the difference in nats, with its 95 % interval over resamples of the cases' groups.
    """
    weights = np.vstack([np.ones((1, len(best.labels))), resample_groups(best.groups, RESAMPLES, 0)])
    return interval_of(weights @ (_losses(predictions) - _losses(best)) / weights.sum(1))


def describe(choice: Sequence[Mapping[str, Any]]) -> str:
    """Return which budget was chosen, and how sure that is, as a sentence.

    Args:
        choice: a mapping for each budget with ``selected``, ``share``, ``val_loss`` and ``excess`` (``value``, ``low``,
            ``high``); the excess of the chosen one is None.

    Examples:
        >>> rows = [
        ...     {"share": 1e-4, "val_loss": 0.52, "excess": {"value": 0.02, "low": -0.03, "high": 0.07}},
        ...     {"share": 1e-3, "val_loss": 0.50, "excess": None},
        ...     {"share": 1e-2, "val_loss": 0.61, "excess": {"value": 0.11, "low": 0.04, "high": 0.17}},
        ... ]
        >>> describe(rows)
        '0.100 % of the weights had the lowest validation loss (0.500). Too close to tell apart: 0.010 % (0.520).'
    """
    chosen = next(row for row in choice if row["excess"] is None)
    close = [row for row in choice if row["excess"] is not None and row["excess"]["low"] <= 0]
    sentence = f"{percent(chosen['share'])} of the weights had the lowest validation loss ({chosen['val_loss']:.3f})."
    if close:
        others = ", ".join(f"{percent(row['share'])} ({row['val_loss']:.3f})" for row in close)
        sentence += f" Too close to tell apart: {others}."
    return sentence


def _losses(predictions: Predictions) -> NDArray[np.float64]:
    """Return (N,) losses at the temperature that fits these predictions."""
    if isinstance(predictions.task, MultiLabel):
        return finding_case_losses(predictions)
    if isinstance(predictions.task, Regression):
        return regression_case_losses(predictions)
    temperature, _ = fit_temperature(predictions.probabilities, predictions.labels)
    p = calibrate(predictions.probabilities, temperature)[np.arange(len(predictions.labels)), predictions.labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(p, TINY))
    return losses
