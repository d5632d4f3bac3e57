"""Temperature scaling: one number corrects a model that is overconfident or underconfident."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]

RANGE = (0.05, 20.0)
"""Bounds of the search."""

CHI2 = 3.841458820694124
"""The 95 % point of χ² with one degree of freedom."""

TINY = 1e-300


def fit_temperature(
    probabilities: Array, labels: Sequence[int], class_weights: Sequence[float] | None = None
) -> tuple[float, tuple[float, float]]:
    """Fit the temperature T and its 95 % interval.

    T = argmin Σ_i −log p_T(y_i) − (1/N) Σ_i mean_c log p_T(c), with p_T = softmax(log p / T). The interval is that of
    the likelihood ratio: twice the loss is at most χ²₁(0.95) above its minimum. It assumes independent cases.

    Args:
        probabilities: (N, C) softmax of the logits. log p equals the logits up to a constant for each case.
        labels: (N,) true classes.
        class_weights: (C,) weight of the cases of each class; None: 1.
    """
    z, n = np.log(np.maximum(probabilities, TINY)), len(labels)

    def loss(log_t: float) -> float:
        log_p = log_softmax(z / np.exp(log_t), axis=1)
        own = log_p[np.arange(n), labels]
        total = own.sum() if class_weights is None else own @ np.take(class_weights, labels)
        return float(-total - log_p.mean())

    ends = tuple(np.log(RANGE))
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})

    def above(log_t: float) -> float:
        return float(2 * (loss(log_t) - best.fun) - CHI2)

    low, high = (float(np.exp(end if above(end) <= 0 else brentq(above, end, best.x))) for end in ends)
    return float(np.exp(best.x)), (low, high)


def calibrate(probabilities: Array, temperature: float) -> Array:
    """Return softmax(log p / T) along the last axis, (..., C). The order of the classes does not change."""
    p: Array = softmax(np.log(np.maximum(np.asarray(probabilities), TINY)) / temperature, axis=-1)
    return p


def refinement_loss(probabilities: Array, labels: Sequence[int], class_weights: Sequence[float] | None = None) -> float:
    """Return the mean cross-entropy after temperature scaling on the same cases.

    Model selection by this loss does not penalize overconfidence, which calibration corrects afterwards (Berta et al.
    2025, "Rethinking early stopping: refine, then calibrate").

    Args:
        probabilities: (N, C) softmax of the logits.
        labels: (N,) true classes.
        class_weights: (C,) weight of the cases of each class; None: 1.
    """
    temperature, _ = fit_temperature(probabilities, labels, class_weights)
    p = calibrate(probabilities, temperature)[np.arange(len(labels)), list(labels)]
    losses = -np.log(np.maximum(p, TINY))
    return float(losses.mean() if class_weights is None else np.average(losses, weights=np.take(class_weights, labels)))
