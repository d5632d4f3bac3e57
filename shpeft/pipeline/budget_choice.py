"""``budget: auto``: train with each of three budgets, and take the one with the lowest validation loss, or the start.

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
from shpeft.evaluation.grades import grade_case_losses
from shpeft.evaluation.metrics import Interval, interval_of, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.regression import regression_case_losses
from shpeft.evaluation.temperature import TINY, calibrate, fit_temperature
from shpeft.support.formatting import percent
from shpeft.tasks import MultiLabel, Ordinal, Regression
from shpeft.training.batches import balanced_weights

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


def excess_loss(predictions: Predictions, best: Predictions, balanced: bool = False) -> Interval:
    """Return how much higher the task's loss is than that of the best, each at the temperature that fits it.

    Args:
        predictions, best: of the same validation cases.
        balanced: let every class count alike, as in the validation loss of a run that balances classes.

    Returns:
        the difference in nats, with its 95 % interval over resamples of the cases' groups.
    """
    by_class = balanced_weights(best.labels, len(best.classes)) if balanced else None
    weights = np.vstack([np.ones((1, len(best.labels))), resample_groups(best.groups, RESAMPLES, 0)])
    if by_class is not None:
        weights = weights * np.take(by_class, best.labels)
    return interval_of(weights @ (_losses(predictions, by_class) - _losses(best, by_class)) / weights.sum(1))


def describe(choice: Sequence[Mapping[str, Any]]) -> str:
    """Return which budget was chosen, and how sure that is, as a sentence; empty where it is the linear probe.

    Args:
        choice: a mapping for the linear probe, of share 0, and for each budget, with ``share``, ``val_loss``,
            ``best_epoch`` and ``excess`` (``value``, ``low``, ``high``); the excess of the chosen one is None. A budget
            whose best epoch is 0, the start, is the linear probe.

    Examples:
        >>> def row(share, loss, low, high):
        ...     excess = {"value": loss - 0.50, "low": low, "high": high} if loss > 0.50 else None
        ...     return {"share": share, "val_loss": loss, "best_epoch": 5 if share else 0, "excess": excess}
        >>> rows = [row(0, 0.61, 0.04, 0.17), row(1e-4, 0.52, -0.02, 0.07), row(1e-3, 0.50, 0, 0)]
        >>> describe(rows)
        '0.100 % of the weights had the lowest validation loss (0.500). Too close to tell apart: 0.010 % (0.520).'
    """

    def title(row: Mapping[str, Any]) -> str:
        return percent(row["share"]) if row["share"] else "the linear probe"

    chosen = next(row for row in choice if row["excess"] is None)
    if not chosen["share"]:
        return ""
    others = [row for row in choice if row["excess"] is not None and (not row["share"] or row["best_epoch"] != 0)]
    close = ", ".join(f"{title(row)} ({row['val_loss']:.3f})" for row in others if row["excess"]["low"] <= 0)
    sentence = f"{percent(chosen['share'])} of the weights had the lowest validation loss ({chosen['val_loss']:.3f})."
    return sentence + (f" Too close to tell apart: {close}." if close else "")


def _losses(predictions: Predictions, class_weights: Sequence[float] | None) -> NDArray[np.float64]:
    """Return (N,) losses at the temperature that fits these predictions."""
    if isinstance(predictions.task, MultiLabel):
        return finding_case_losses(predictions)
    if isinstance(predictions.task, Regression):
        return regression_case_losses(predictions)
    if isinstance(predictions.task, Ordinal):
        return grade_case_losses(predictions)
    temperature, _ = fit_temperature(predictions.probabilities, predictions.labels, class_weights)
    p = calibrate(predictions.probabilities, temperature)[np.arange(len(predictions.labels)), predictions.labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(p, TINY))
    return losses
