"""Ordered classes: how far the predicted class is from the true one."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shpeft.evaluation.metrics import Interval, interval_of, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import TINY, calibrate, fit_temperature
from shpeft.tasks.ordinal import ORDINAL

Array = NDArray[np.float64]

GRADE_METRICS = ("quadratic_kappa", "grade_error")


def evaluate_grades(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Return how well the most probable class agrees with the true one in their order, with 95 % intervals.

    Args:
        predictions: of ordered classes.
        resamples: number of bootstrap replicates, drawn with replacement over groups.
        seed: of the resamples.

    Returns:
        ``quadratic_kappa``: 1 − Σ w O / Σ w E with w = (i − j)², 1 is perfect and 0 is chance (Cohen 1968); and
        ``grade_error``, the mean number of classes between the two.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.eye(3)[[0, 1, 2, 1]]
        >>> grades = shpeft.Predictions(tuple("abcd"), (0, 1, 2, 2), tuple("abcd"), ("0", "1", "2"), p)
        >>> evaluate_grades(grades, resamples=10)["grade_error"].value
        0.25
    """
    values = grade_replicates(predictions, _weights(predictions, resamples, seed))
    return {name: interval_of(values[name]) for name in GRADE_METRICS}


def grade_difference(
    a: Predictions, b: Predictions, *, paired: bool = True, resamples: int = 1000
) -> dict[str, Interval]:
    """Return the difference a − b of these metrics, of the same cases, or where not paired of two sets of cases."""
    of_a = grade_replicates(a, _weights(a, resamples, 0 if paired else (0, 0)))
    of_b = grade_replicates(b, _weights(b, resamples, 0 if paired else (0, 1)))
    return {name: interval_of(of_a[name] - of_b[name]) for name in GRADE_METRICS}


def grade_case_losses(predictions: Predictions) -> Array:
    """Return (N,) the task's loss of each case at the temperature that fits these cases."""
    temperature, _ = fit_temperature(predictions.probabilities, predictions.labels)
    logits = torch.from_numpy(np.log(np.maximum(calibrate(predictions.probabilities, temperature), TINY)))
    losses: Array = ORDINAL.loss(logits, ORDINAL.target(predictions.labels), "none").numpy()
    return losses


def grade_refinement_loss(predictions: Predictions) -> float:
    """Return the task's mean loss at the temperature that fits these cases."""
    return float(grade_case_losses(predictions).mean())


def grade_replicates(predictions: Predictions, weights: Array) -> dict[str, Array]:
    """Return each metric for each row of case weights (R, N)."""
    classes, labels = len(predictions.classes), np.asarray(predictions.labels)
    guess, total = predictions.decided, weights.sum(1)
    grades = np.eye(classes)
    truth, guessed = weights @ grades[labels], weights @ grades[guess]
    distance: Array = (np.arange(classes, dtype=np.float64)[:, None] - np.arange(classes)) ** 2
    observed = weights @ ((labels - guess) ** 2.0)
    expected = np.einsum("ri,ij,rj->r", truth, distance, guessed) / total
    kappa = np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), np.nan)
    return {"quadratic_kappa": kappa, "grade_error": weights @ np.abs(labels - guess) / total}


def _weights(predictions: Predictions, resamples: int, seed: Any) -> Array:
    return np.vstack([np.ones((1, len(predictions.labels))), resample_groups(predictions.groups, resamples, seed)])
