"""Operating thresholds: from which probability on a case counts as positive for one class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ConfigError
from shpeft.evaluation import Predictions
from shpeft.trust.calibration import class_index
from shpeft.trust.proportions import Proportion

Array = NDArray[np.float64]
Rule = Literal["youden", "sensitivity", "specificity", "cost"]


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is to be chosen.

    Attributes:
        positive: the class that is looked for; all the others together are negative.
        rule: ``youden`` (the highest sensitivity + specificity), ``sensitivity`` (at least ``target``, then the highest
            specificity), ``specificity`` (the other way round), or ``cost`` (the lowest expected cost).
        target: the wanted sensitivity or specificity.
        prevalence: of the class where the model will be used, for ``cost``; None: that of the validation cases.
        cost_ratio: how many false alarms a missed case costs, for ``cost``.
    """

    positive: str
    rule: Rule = "youden"
    target: float = 0.95
    prevalence: float | None = None
    cost_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ConfigError(f"A wanted {self.rule} of {self.target:g} cannot be had: it lies above 0 and up to 1.")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ConfigError(f"The prevalence {self.prevalence:g} is no share between 0 and 1. Give 0.05 for 5 %.")
        if not self.cost_ratio > 0:
            raise ConfigError(f"The cost ratio {self.cost_ratio:g} must be above 0: 10 if a miss costs ten alarms.")


@dataclass(frozen=True)
class Rates:
    """How often a threshold is right, on some cases."""

    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that was chosen on validation cases.

    Attributes:
        threshold: a case is positive when its calibrated probability is at least this.
        validation: the rates on the cases that chose it, which flatter it a little.
    """

    rule: ThresholdRule
    threshold: float
    validation: Rates


@dataclass(frozen=True)
class ThresholdCurve:
    """Sensitivity and specificity at every threshold that tells cases apart, ascending, all (K,)."""

    thresholds: Array
    sensitivity: Array
    specificity: Array


def threshold_curve(predictions: Predictions, positive: str) -> ThresholdCurve:
    """Every threshold midway between two neighbouring probabilities of the class, and 0 and 1 at the ends.

    Raises:
        ConfigError: all the cases are of the class, or none is.
    """
    c = class_index(predictions.classes, positive)
    p, truth = predictions.probabilities[:, c], np.asarray(predictions.labels) == c
    if not 0 < truth.sum() < len(truth):
        raise ConfigError(
            f"{truth.sum()} of {len(truth)} cases are {positive!r}: a threshold needs cases with the class and without."
        )
    values = np.unique(p)
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [np.nextafter(1.0, 2.0)]])
    missed = np.searchsorted(np.sort(p[truth]), thresholds, "left")
    sensitivity = (truth.sum() - missed) / truth.sum()
    specificity = np.searchsorted(np.sort(p[~truth]), thresholds, "left") / (~truth).sum()
    return ThresholdCurve(thresholds, sensitivity, specificity)


def choose_threshold(validation: Predictions, rule: ThresholdRule) -> OperatingPoint:
    """The threshold that the rule asks for; of several, the lowest, which misses least.

    Args:
        validation: calibrated probabilities.

    Raises:
        ConfigError: all validation cases are of the class, or none is.
        ClassMismatch: there is no such class.
    """
    curve = threshold_curve(validation, rule.positive)
    sensitivity, specificity = curve.sensitivity, curve.specificity
    if rule.rule == "sensitivity":
        merit = np.where(sensitivity >= rule.target, specificity, -1)
    elif rule.rule == "specificity":
        merit = np.where(specificity >= rule.target, sensitivity, -1)
    elif rule.rule == "cost":
        merit = -expected_cost(curve, _prevalence(validation, rule), rule.cost_ratio)
    else:
        merit = sensitivity + specificity
    best = int(np.flatnonzero(merit >= merit.max() - 1e-12)[0])
    threshold = float(curve.thresholds[best])
    return OperatingPoint(rule, threshold, rates(validation, rule.positive, threshold))


def expected_cost(curve: ThresholdCurve, prevalence: float, cost_ratio: float) -> Array:
    """π·r·(1 − sensitivity) + (1 − π)·(1 − specificity): the cost of a case, in false alarms."""
    missed, alarms = 1 - curve.sensitivity, 1 - curve.specificity
    cost: Array = prevalence * cost_ratio * missed + (1 - prevalence) * alarms
    return cost


def rates(predictions: Predictions, positive: str, threshold: float) -> Rates:
    """Sensitivity, specificity and predictive values of a threshold on these cases, at their own prevalence."""
    c = class_index(predictions.classes, positive)
    called, truth = predictions.probabilities[:, c] >= threshold, np.asarray(predictions.labels) == c
    hits, quiet = int((called & truth).sum()), int((~called & ~truth).sum())
    return Rates(
        sensitivity=Proportion(hits, int(truth.sum())),
        specificity=Proportion(quiet, int((~truth).sum())),
        ppv=Proportion(hits, int(called.sum())),
        npv=Proportion(quiet, int((~called).sum())),
    )


def _prevalence(validation: Predictions, rule: ThresholdRule) -> float:
    if rule.prevalence is not None:
        return rule.prevalence
    return float(np.mean(np.asarray(validation.labels) == class_index(validation.classes, rule.positive)))
