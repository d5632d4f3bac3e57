"""Calibration: probabilities that mean what they say, and how far they do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ClassMismatch, did_you_mean
from shpeft.evaluation import Predictions
from shpeft.temperature import calibrate, fit_temperature
from shpeft.trust.proportions import Proportion

Array = NDArray[np.float64]

BINS = 10
"""Bins of a reliability diagram, where there are enough cases."""

BIN_CASES = 10
"""Cases that a bin should have, so that its interval says something."""


@dataclass(frozen=True)
class Bin:
    """Cases whose probability of a class lies in [low, high), and for how many of them the class was true.

    Attributes:
        mean: their mean probability.
        observed: how many had the class.
    """

    low: float
    high: float
    mean: float
    observed: Proportion


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what the cases it was fitted on say about probabilities that were divided by it.

    Attributes:
        temperature: above 1 the model was too sure of itself, below 1 not sure enough.
        interval: the temperatures of 95 % that these cases allow; where 1 is among them, they do not show which it was.
        cases: the validation cases it was fitted on.
        evidence: for each class the bins of its calibrated probability over those cases.
    """

    temperature: float
    interval: tuple[float, float]
    cases: int
    evidence: dict[str, tuple[Bin, ...]]

    def behind(self, name: str, probability: float) -> Bin:
        """The validation cases whose probability of this class was like this one."""
        bins = self.evidence[name]
        return next((found for found in bins if probability < found.high), bins[-1])


def fit_calibration(validation: Predictions) -> Calibration:
    """Fit the temperature T on validation cases: softmax(z / T) with the lowest cross-entropy (Guo et al. 2017).

    To the N cases one more is added whose label is uniform, so that T stays finite when the model is right about every
    one of a few cases. (Platt's smoothed targets do the same for two classes.)
    """
    temperature, interval = fit_temperature(validation.probabilities, validation.labels)
    p = calibrate(validation.probabilities, temperature)
    labels = np.asarray(validation.labels)
    bins = {name: reliability(p[:, c], labels == c) for c, name in enumerate(validation.classes)}
    return Calibration(temperature, interval, len(labels), bins)


def calibrated(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions with calibrated probabilities."""
    return replace(predictions, probabilities=calibrate(predictions.probabilities, temperature))


def reliability(probability: Array, happened: NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal mass, from 0 to 1; fewer where cases are few. Equal probabilities stay in one bin.

    Args:
        probability: (N,) of something.
        happened: (N,) whether it was so.
    """
    n = len(probability)
    bins = max(1, min(bins, n // BIN_CASES))
    ordered = np.sort(probability)
    starts = {int(np.searchsorted(ordered, ordered[n * b // bins - 1], "right")) for b in range(1, bins)} - {n}
    edges = np.array([0.0, *((ordered[at - 1] + ordered[at]) / 2 for at in sorted(starts)), 1.0])
    member = np.digitize(probability, edges[1:-1])
    return tuple(
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            float(probability[member == b].mean()),
            Proportion(int(happened[member == b].sum()), int((member == b).sum())),
        )
        for b in range(len(edges) - 1)
    )


def reliability_of(predictions: Predictions, name: str | None = None, bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability diagram of one class's probability, or of the top probability (was that class the right one?)."""
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    if name is None:
        return reliability(p.max(1), p.argmax(1) == labels, bins)
    c = class_index(predictions.classes, name)
    return reliability(p[:, c], labels == c, bins)


def class_index(classes: Sequence[str], name: str) -> int:
    """Where a class stands.

    Raises:
        ClassMismatch: there is no such class.
    """
    if name not in classes:
        raise ClassMismatch(f"There is no class {name!r}. {did_you_mean(name, classes)}")
    return list(classes).index(name)
