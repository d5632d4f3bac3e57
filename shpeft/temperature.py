"""Temperature scaling: one number that takes back what a model is too sure of, or not sure enough."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]

RANGE = (0.05, 20.0)
"""Temperatures that are considered."""

CHI2 = 3.841458820694124
"""The 95 % point of χ² with one degree of freedom."""

TINY = 1e-300


def fit_temperature(probabilities: Array, labels: Sequence[int]) -> tuple[float, tuple[float, float]]:
    """T = argmin Σ_i −log p_T(y_i) − (1/N) Σ_i mean_c log p_T(c), with p_T = softmax(log p / T); and its interval.

    The interval is that of the likelihood ratio: where twice the loss is at most χ²₁(0.95) above its minimum. It takes
    cases as independent.

    Args:
        probabilities: (N, C) softmax of the logits, which are log p up to a constant of each case.
    """
    z, n = np.log(np.maximum(probabilities, TINY)), len(labels)

    def loss(log_t: float) -> float:
        log_p = log_softmax(z / np.exp(log_t), axis=1)
        return float(-log_p[np.arange(n), labels].sum() - log_p.mean())

    ends = tuple(np.log(RANGE))
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})

    def above(log_t: float) -> float:
        return 2 * (loss(log_t) - best.fun) - CHI2

    low, high = (float(np.exp(end if above(end) <= 0 else brentq(above, end, best.x))) for end in ends)
    return float(np.exp(best.x)), (low, high)


def calibrate(probabilities: Array, temperature: float) -> Array:
    """softmax(log p / T) along the last axis: (..., C). The order of the classes stays."""
    return softmax(np.log(np.maximum(np.asarray(probabilities), TINY)) / temperature, axis=-1)


def refinement_loss(probabilities: Array, labels: Sequence[int]) -> float:
    """Mean cross-entropy at the temperature that fits these cases: what is left of the loss once it is calibrated.

    An epoch chosen by it is not given up for being too sure of itself, which is mended afterwards (Berta et al. 2025,
    "Rethinking early stopping: refine, then calibrate").

    Args:
        probabilities: (N, C) softmax of the logits.
    """
    temperature, _ = fit_temperature(probabilities, labels)
    p = calibrate(probabilities, temperature)[np.arange(len(labels)), list(labels)]
    return float(-np.log(np.maximum(p, TINY)).mean())
