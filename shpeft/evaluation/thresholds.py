"""Operating thresholds: the probability at and above which a case counts as positive for one class."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ConfigError
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.sensitivity_bound import SensitivityBound, allowed_misses

Array = NDArray[np.float64]
Rule = Literal["youden", "sensitivity", "specificity", "cost"]


@dataclass(frozen=True)
class ThresholdRule:
    """Rule that chooses a threshold.

    Attributes:
        positive: the positive class; all other classes together are negative.
        rule: ``youden`` (the highest sensitivity + specificity), ``sensitivity`` (sensitivity of at least ``target``,
            then the highest specificity), ``specificity`` (the reverse), or ``cost`` (the lowest expected cost).
        target: target sensitivity or specificity.
        prevalence: of the class where the model will be used, for ``cost``; None: that of the validation cases.
        cost_ratio: cost of a miss, in false alarms, for ``cost``.
        confidence: for ``sensitivity``, that the target holds on new cases, over draws of the validation cases; None:
            the target is met on the validation cases only.
    """

    positive: str
    rule: Rule = "youden"
    target: float = 0.95
    prevalence: float | None = None
    cost_ratio: float = 1.0
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ConfigError(
                f"The target {self.target:g} is out of range. Give a share above 0 and up to 1, such as 0.95."
            )
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ConfigError(f"The prevalence {self.prevalence:g} is not between 0 and 1. Give 0.05 for 5 %.")
        if not self.cost_ratio > 0:
            raise ConfigError(f"The cost ratio {self.cost_ratio:g} is not above 0. Give 10 if a miss costs 10 alarms.")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ConfigError(f"The confidence {self.confidence:g} is not between 0 and 1. Give 0.9 for 90 %.")


@dataclass(frozen=True)
class Rates:
    """Rates of a threshold on a set of cases. Predictive values hold at the prevalence of these cases."""

    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion

    @property
    def flags_all(self) -> bool:
        """Whether every case counts as positive, so that a positive decision says nothing."""
        return self.npv.cases == 0 and self.ppv.cases > 0


@dataclass(frozen=True)
class OperatingPoint:
    """Threshold, chosen on validation cases.

    Attributes:
        threshold: a case is positive if its calibrated probability is at least this.
        validation: rates on the cases that chose the threshold; they are slightly optimistic.
        bound: the promise about new cases; None if the rule asks for none.
    """

    rule: ThresholdRule
    threshold: float
    validation: Rates
    bound: SensitivityBound | None = None


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """Sensitivity and specificity at every distinct threshold, ascending. Arrays are (K,)."""

    thresholds: Array
    sensitivity: Array
    specificity: Array


def threshold_curve(predictions: Predictions, positive: str) -> ThresholdCurve:
    """Return the rates at every threshold midway between two neighboring probabilities, and at both ends.

    Raises:
        ConfigError: all cases have the class, or none has it.
        ClassMismatch: an unknown class.
    """
    c = class_index(predictions.classes, positive)
    p, truth = predictions.probabilities[:, c], np.asarray(predictions.labels) == c
    if not 0 < truth.sum() < len(truth):
        raise ConfigError(
            f"{truth.sum()} of {len(truth)} cases are {positive!r}. A threshold needs cases with and without the class."
        )
    values = np.unique(p)
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [np.nextafter(1.0, 2.0)]])
    missed = np.searchsorted(np.sort(p[truth]), thresholds, "left")
    sensitivity = (truth.sum() - missed) / truth.sum()
    specificity = np.searchsorted(np.sort(p[~truth]), thresholds, "left") / (~truth).sum()
    return ThresholdCurve(thresholds, sensitivity, specificity)


def choose_threshold(validation: Predictions, rule: ThresholdRule) -> OperatingPoint:
    """Choose the threshold that meets a rule best. Ties go to the lowest, which misses the fewest cases.

    Args:
        validation: calibrated probabilities.

    Raises:
        ConfigError: all validation cases have the class, or none has it.
        ClassMismatch: an unknown class.
    """
    curve = threshold_curve(validation, rule.positive)
    sensitivity, specificity = curve.sensitivity, curve.specificity
    bound = _bound(validation, rule)
    if bound is not None and bound.holds:
        misses = np.rint(bound.cases * (1 - sensitivity))
        merit = np.where(misses <= allowed_misses(bound.cases, rule.target, bound.confidence), specificity, -1)
    elif rule.rule == "sensitivity":
        merit = np.where(sensitivity >= rule.target, specificity, -1)
    elif rule.rule == "specificity":
        merit = np.where(specificity >= rule.target, sensitivity, -1)
    elif rule.rule == "cost":
        merit = -expected_cost(curve, _prevalence(validation, rule), rule.cost_ratio)
    else:
        merit = sensitivity + specificity
    best = int(np.flatnonzero(merit >= merit.max() - 1e-12)[0])
    threshold = float(curve.thresholds[best])
    return OperatingPoint(rule, threshold, rates(validation, rule.positive, threshold), bound)


def expected_cost(curve: ThresholdCurve, prevalence: float, cost_ratio: float) -> Array:
    """Return the expected cost per case in false alarms, π·r·(1 − sensitivity) + (1 − π)·(1 − specificity)."""
    missed, alarms = 1 - curve.sensitivity, 1 - curve.specificity
    cost: Array = prevalence * cost_ratio * missed + (1 - prevalence) * alarms
    return cost


def rates(predictions: Predictions, positive: str, threshold: float) -> Rates:
    """Return the rates of a threshold on a set of cases, at the prevalence of these cases."""
    c = class_index(predictions.classes, positive)
    called, truth = predictions.probabilities[:, c] >= threshold, np.asarray(predictions.labels) == c
    hits, quiet = int((called & truth).sum()), int((~called & ~truth).sum())
    return Rates(
        sensitivity=Proportion(hits, int(truth.sum())),
        specificity=Proportion(quiet, int((~truth).sum())),
        ppv=Proportion(hits, int(called.sum())),
        npv=Proportion(quiet, int((~called).sum())),
    )


def rates_by_class(predictions: Predictions) -> dict[str, Rates]:
    """Return the rates of each class where a case is called the class that is decided on: the most probable one."""
    calls = np.eye(len(predictions.classes))[predictions.decided]
    called = replace(predictions, probabilities=calls, decisions=None)
    return {name: rates(called, name, 0.5) for name in predictions.classes}


def _bound(validation: Predictions, rule: ThresholdRule) -> SensitivityBound | None:
    if rule.rule != "sensitivity" or rule.confidence is None or rule.target == 1:
        return None
    cases = list(validation.labels).count(class_index(validation.classes, rule.positive))
    return SensitivityBound(rule.positive, rule.target, rule.confidence, cases)


def _prevalence(validation: Predictions, rule: ThresholdRule) -> float:
    if rule.prevalence is not None:
        return rule.prevalence
    return float(np.mean(np.asarray(validation.labels) == class_index(validation.classes, rule.positive)))
