"""Predictions of simulated models, calibrated or not."""

import numpy as np
from scipy.special import softmax

from shpeft.evaluation.predict import Predictions

CLASSES = ("benign", "malignant", "normal")


def sample_predictions(n: int, seed: int, *, overconfidence: float = 1.0, sharpness: float = 2.0) -> Predictions:
    """Sample labels from softmax(z), and predict softmax(overconfidence · z)."""
    rng = np.random.default_rng(seed)
    z = sharpness * rng.normal(size=(n, len(CLASSES)))
    labels = (rng.random((n, 1)) > softmax(z, axis=1).cumsum(1)).sum(1)
    ids = tuple(f"{seed}-{i}" for i in range(n))
    return Predictions(ids, tuple(labels.tolist()), ids, CLASSES, softmax(overconfidence * z, axis=1))


def binary_predictions(p: list[float], labels: list[int]) -> Predictions:
    """Return predictions of two classes, given the probability of the second."""
    ids = tuple(map(str, range(len(p))))
    return Predictions(ids, tuple(labels), ids, ("healthy", "ill"), np.array([[1 - q, q] for q in p]))
