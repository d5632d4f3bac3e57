"""Temperatures for cells without validation probabilities: fitted on other test images than they are applied to."""

from dataclasses import replace

import numpy as np

from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import calibrate, fit_temperature

FOLDS = 5


def cross_fitted(predictions: Predictions, folds: int = FOLDS) -> Predictions:
    """Return the same cases, each calibrated at the temperature that the other folds fit.

    Whole groups (patients) are in one fold. The folds depend on the groups alone, so that all arms share them. Labels
    of test images are used, though never those of a fold itself: this compares arms and is no result of a model in use.

    Args:
        folds: how many, at most the number of groups.
    """
    names, member = np.unique(np.asarray(predictions.groups), return_inverse=True)
    parts = min(folds, len(names))
    if parts < 2:
        return predictions
    fold = np.random.default_rng(0).permutation(len(names))[member] % parts
    labels, probabilities = np.asarray(predictions.labels), predictions.probabilities.copy()
    for part in range(parts):
        inside = fold == part
        temperature, _ = fit_temperature(predictions.probabilities[~inside], labels[~inside].tolist())
        probabilities[inside] = calibrate(predictions.probabilities[inside], temperature)
    return replace(predictions, probabilities=probabilities)
