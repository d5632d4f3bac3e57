"""Calibration: fit a temperature, apply it, and measure how often each probability comes true."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ClassMismatch, did_you_mean
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.temperature import calibrate, fit_temperature
from shpeft.tasks import Ordinal

Array = NDArray[np.float64]

BINS = 10
"""Bins of a reliability diagram, if there are enough cases."""

BIN_CASES = 10
"""Fewest cases in a bin; with fewer its interval is too wide to be of use."""


@dataclass(frozen=True)
class Bin:
    """Bin of a reliability diagram: the cases whose probability of a class lies in [low, high).

    Attributes:
        mean: mean probability of these cases.
        observed: how many of them have the class.
    """

    low: float
    high: float
    mean: float
    observed: Proportion


@dataclass(frozen=True)
class Calibration:
    """Fitted temperature, and the reliability diagrams of the validation cases after scaling.

    Attributes:
        temperature: above 1 the model is overconfident, below 1 underconfident.
        interval: 95 % likelihood-ratio interval. If it holds 1, the cases do not show which of the two it is.
        cases: number of validation cases.
        evidence: for each class the bins of its calibrated probability over those cases.
    """

    temperature: float
    interval: tuple[float, float]
    cases: int
    evidence: dict[str, tuple[Bin, ...]]

    def bin_of(self, name: str, probability: float) -> Bin:
        """Return the bin of validation cases whose probability of class ``name`` is like this one."""
        bins = self.evidence[name]
        return next((bin for bin in bins if probability < bin.high), bins[-1])


def fit_calibration(validation: Predictions) -> Calibration:
    """Fit the temperature T on validation cases: softmax(z / T) with the lowest cross-entropy (Guo et al. 2017).

    One case with a uniform label is added to the N cases, so that T stays above 0 when the model is right about all of
    a few cases. Platt's smoothed targets do the same for two classes.

    Args:
        validation: the model's own probabilities, uncalibrated.
    """
    temperature, interval = fit_temperature(validation.probabilities, validation.labels)
    p = calibrate(validation.probabilities, temperature)
    labels = np.asarray(validation.labels)
    bins = {name: calibration_bins(p[:, c], labels == c) for c, name in enumerate(validation.classes)}
    return Calibration(temperature, interval, len(labels), bins)


def calibrate_predictions(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with temperature-scaled probabilities; what was decided on stays."""
    median = isinstance(predictions.task, Ordinal) and predictions.task.decision == "median"
    return replace(
        predictions,
        probabilities=calibrate(predictions.probabilities, temperature),
        decisions=predictions.decided if median else None,  # the most probable class is the same at any temperature
    )


def calibration_bins(probability: Array, outcome: NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Return equal-mass bins from 0 to 1. Equal probabilities stay in one bin.

    Args:
        probability: (N,) predicted probabilities of an event.
        outcome: (N,) bool, whether the event occurred.
        bins: number of bins; fewer if a bin would get less than :data:`BIN_CASES` cases.
    """
    n = len(probability)
    bins = max(1, min(bins, n // BIN_CASES))
    ordered = np.sort(probability)
    cuts = {int(np.searchsorted(ordered, ordered[n * b // bins - 1], "right")) for b in range(1, bins)} - {n}
    edges = np.array([0.0, *((ordered[at - 1] + ordered[at]) / 2 for at in sorted(cuts)), 1.0])
    member = np.digitize(probability, edges[1:-1])
    return tuple(
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            float(probability[member == b].mean()),
            Proportion(int(outcome[member == b].sum()), int((member == b).sum())),
        )
        for b in range(len(edges) - 1)
    )


def calibration_curve(predictions: Predictions, name: str | None = None, bins: int = BINS) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram.

    Args:
        name: the class whose probability is compared with its frequency; None: the top probability against accuracy.
    """
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    if name is None:
        return calibration_bins(p.max(1), p.argmax(1) == labels, bins)
    c = class_index(predictions.classes, name)
    return calibration_bins(p[:, c], labels == c, bins)


def class_index(classes: Sequence[str], name: str) -> int:
    """Return a class's position in ``classes``.

    Raises:
        ClassMismatch: an unknown class.
    """
    if name not in classes:
        raise ClassMismatch(f"There is no class {name!r}. {did_you_mean(name, classes)}")
    return list(classes).index(name)
