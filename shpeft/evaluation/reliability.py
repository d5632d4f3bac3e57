"""Reliability of a model: calibration, threshold, prediction sets and abstain band, and what they say about one case.

All of them are fitted on validation cases, which the model was not trained on, and tested on the test cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.abstention import (
    Abstention,
    AbstentionRates,
    AbstentionRule,
    abstention_rates,
    choose_abstention,
)
from shpeft.evaluation.calibration import Bin, Calibration, calibrate_predictions, fit_calibration
from shpeft.evaluation.conformal import Coverage, PredictionSets, SetRule, fit_prediction_sets, set_coverage
from shpeft.evaluation.gate import GateRates, OODDistances, gate_rates
from shpeft.evaluation.metrics import Interval, calibration_error, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.temperature import calibrate
from shpeft.evaluation.thresholds import OperatingPoint, Rates, ThresholdRule, choose_threshold, rates, rates_by_class
from shpeft.support.jsonable import to_jsonable

Array = NDArray[np.float64]

RESAMPLES = 1000
"""Bootstrap replicates of the calibration errors."""


@dataclass(frozen=True)
class DecisionRules:
    """Choices of the user; everything else follows from the validation cases.

    Attributes:
        threshold: rule for the operating threshold; None: no threshold, since no positive class is named.
        sets: rule for the prediction sets.
        abstention: rule for the abstain band; None: the model always answers.
    """

    threshold: ThresholdRule | None = None
    sets: SetRule = field(default_factory=SetRule)
    abstention: AbstentionRule | None = field(default_factory=AbstentionRule)


@dataclass(frozen=True)
class CalibrationErrors:
    """Calibration before and after temperature scaling; ``ece_change`` is the paired difference, after − before."""

    cases: int
    ece_before: Interval
    ece_after: Interval
    ece_change: Interval
    brier_before: Interval
    brier_after: Interval


@dataclass(frozen=True)
class TestResults:
    """Results of the fitted calibration and decision rules on held-out test cases.

    Attributes:
        operating: rates of the threshold; None without a threshold.
        by_class: rates of each class where the most probable class is called; None in files of older versions.
        gate: what gets no answer; None in files of older versions.
    """

    __test__ = False  # keeps pytest from collecting the class

    calibration: CalibrationErrors
    coverage: Coverage
    operating: Rates | None
    abstention: AbstentionRates | None
    by_class: dict[str, Rates] | None = None
    gate: GateRates | None = None


@dataclass(frozen=True, repr=False)
class Reliability:
    """Calibration and decision rules of one model, fitted on validation cases.

    Attributes:
        rules: the user's choices.
        calibration: the temperature.
        sets: the prediction sets.
        operating: the threshold; None without a rule for it.
        abstention: the abstain band; None without a rule for it.
        validation: calibration errors on the cases that chose the temperature; they are slightly optimistic.
        test: results on test cases; None if the model has not been tested.
        gate: what gets no answer among the validation cases; None without out-of-distribution distances.
    """

    rules: DecisionRules
    classes: tuple[str, ...]
    calibration: Calibration
    sets: PredictionSets
    operating: OperatingPoint | None
    abstention: Abstention | None
    validation: CalibrationErrors
    test: TestResults | None
    gate: GateRates | None = None

    def __repr__(self) -> str:
        point = self.operating
        threshold = "no threshold" if point is None else f"threshold {point.threshold:.3f}"
        return (
            f"Reliability(temperature {self.calibration.temperature:.3f}, {threshold}, "
            f"{self.sets.rule.coverage:.0%} prediction sets, {self.calibration.cases} validation cases)"
        )

    @property
    def parts(self) -> dict[str, "Reliability"]:
        """The reliability by what it is about: here of all classes, under an empty name."""
        return {"": self}

    @property
    def headline(self) -> str:
        """What the model achieves on the test images, in counts; on the validation images where it was not tested."""
        by_class = None if self.test is None else self.test.by_class
        if self.operating is None:
            if by_class is None:
                return "Calibrate this run again for the sensitivity of each class."
            counts = ", ".join(f"{row.sensitivity.counts} {name}" for name, row in by_class.items())
            return f"Finds {counts}, by the most probable class."
        positive = self.operating.rule.positive
        tested = None if self.test is None else self.test.operating
        achieved = tested or self.operating.validation
        others = achieved.specificity
        sentence = (
            f"Finds {achieved.sensitivity.counts} {positive}; {others.cases - others.count:,} of {others.cases:,} "
            "others are flagged."
        )
        if achieved.flags_all:
            sentence = f"{sentence} It flags every image, so a flag says nothing."
        if tested is None:
            return f"On the validation images: {sentence}"
        return (
            sentence
            if by_class is None
            else f"{sentence} By the most probable class alone: {by_class[positive].sensitivity.counts}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, under the keys of ``trust.json``."""
        values: dict[str, Any] = to_jsonable(self)
        return {"choices": values.pop("rules"), **values}


@dataclass(frozen=True)
class ThresholdDecision:
    """Decision at the operating threshold for one case.

    Attributes:
        positive_class: the class that is positive; all others are negative.
        is_positive: whether the probability of that class reaches the threshold.
        rates: rates of the threshold on the validation cases.
    """

    positive_class: str
    threshold: float
    is_positive: bool
    rates: Rates


@dataclass(frozen=True)
class CaseReliability:
    """Calibrated result of one case, with the validation cases behind it.

    Attributes:
        probabilities: calibrated, one for each class.
        evidence: for each class the validation cases with a similar probability, and how many of them have the class.
        prediction_set: classes that are still possible, the most probable first; a positive class is among them.
        coverage: target share of cases whose prediction set holds the true class.
        decision: the decision at the operating threshold; None without a threshold.
        abstains: whether the model leaves the case to a reader; None without an abstain band.
        test_rates: rates of such decisions on the test images; None without a test.
        test_coverage: for each class, the test images of this class whose prediction set has it; empty without a test.
    """

    probabilities: tuple[float, ...]
    evidence: tuple[Bin, ...]
    prediction_set: tuple[str, ...]
    coverage: float
    decision: ThresholdDecision | None
    abstains: bool | None
    test_rates: Rates | None = None
    test_coverage: tuple[tuple[str, Proportion], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        decision = None
        if self.decision is not None:
            decision = {
                "positive_class": self.decision.positive_class,
                "threshold": self.decision.threshold,
                "positive": self.decision.is_positive,
                "validation_sensitivity": self.decision.rates.sensitivity.to_dict(),
                "validation_specificity": self.decision.rates.specificity.to_dict(),
            }
        return {
            "probabilities": list(self.probabilities),
            "validation_counts": [{"from": bin.low, "to": bin.high, **_counts(bin.observed)} for bin in self.evidence],
            "prediction_set": {"classes": list(self.prediction_set), "coverage": self.coverage},
            "threshold": decision,
            "abstain": self.abstains,
        }


def fit_reliability(
    validation: Predictions,
    rules: DecisionRules | None = None,
    test: Predictions | None = None,
    distances: OODDistances | None = None,
) -> Reliability:
    """Fit calibration and decision rules on validation cases, and evaluate them on test cases.

    Args:
        validation: the model's own probabilities, uncalibrated; so are those of ``test``.
        rules: the user's choices; None: the defaults, without a threshold.
        distances: of an out-of-distribution detector, for the rates of the gate.

    Raises:
        ConfigError: a rule that these validation cases cannot meet.
        ClassMismatch: an unknown positive class.
    """
    rules = rules or DecisionRules()
    calibration = fit_calibration(validation)
    calibrated = calibrate_predictions(validation, calibration.temperature)
    sets = fit_prediction_sets(calibrated, rules.sets)
    operating = None if rules.threshold is None else choose_threshold(calibrated, rules.threshold)
    abstention = None if rules.abstention is None else choose_abstention(calibrated, rules.abstention, operating)
    results = None
    if test is not None:
        held_out = calibrate_predictions(test, calibration.temperature)
        results = TestResults(
            calibration=_errors(test, held_out),
            coverage=set_coverage(sets, held_out, operating),
            operating=None if operating is None else rates(held_out, operating.rule.positive, operating.threshold),
            abstention=None if abstention is None else abstention_rates(abstention, held_out),
            by_class=rates_by_class(held_out),
            gate=None
            if distances is None
            else gate_rates(held_out, abstention, operating, distances.test, distances.limit, distances.others),
        )
    gate = None
    if distances is not None:
        gate = gate_rates(calibrated, abstention, operating, distances.validation, distances.limit)
    errors = _errors(validation, calibrated)
    return Reliability(rules, validation.classes, calibration, sets, operating, abstention, errors, results, gate)


def assess_case(
    reliability: Reliability, probabilities: Sequence[float], predicted: str | None = None
) -> CaseReliability:
    """Return the calibrated result of one case.

    Args:
        probabilities: (C,) the model's own, uncalibrated.
        predicted: the class that is decided on without a threshold; None: the most probable one.
    """
    p = calibrate(np.asarray(probabilities, dtype=np.float64), reliability.calibration.temperature)
    classes, abstention, test = reliability.classes, reliability.abstention, reliability.test
    predicted = predicted or classes[int(p.argmax())]
    decision, test_rates = None, None if test is None or test.by_class is None else test.by_class[predicted]
    if reliability.operating is not None:
        point = reliability.operating
        positive = point.rule.positive
        is_positive = bool(p[classes.index(positive)] >= point.threshold)
        decision = ThresholdDecision(positive, point.threshold, is_positive, point.validation)
        test_rates = None if test is None else test.operating
    return CaseReliability(
        probabilities=tuple(p.tolist()),
        evidence=tuple(
            reliability.calibration.bin_of(name, value) for name, value in zip(classes, p.tolist(), strict=True)
        ),
        prediction_set=reliability.sets.set_of(p, reliability.operating, classes.index(predicted)),
        coverage=reliability.rules.sets.coverage,
        decision=decision,
        abstains=None if abstention is None else bool(abstention.abstains(p[None], classes)[0]),
        test_rates=test_rates,
        test_coverage=() if test is None else tuple(test.coverage.by_class.items()),
    )


def _errors(before: Predictions, after: Predictions) -> CalibrationErrors:
    """Return the errors with bootstrap intervals, from the same resamples before and after."""
    labels = np.asarray(before.labels)
    weights = np.vstack([np.ones((1, len(labels))), resample_groups(before.groups, RESAMPLES, seed=0)])
    ece, brier = [], []
    for p in (before.probabilities, after.probabilities):
        ece.append(calibration_error(p.max(1), p.argmax(1) == labels, weights))
        squares = ((p - np.eye(p.shape[1])[labels]) ** 2).sum(1)
        brier.append(weights @ squares / weights.sum(1))
    intervals = (_interval(replicates) for replicates in (ece[0], ece[1], ece[1] - ece[0], *brier))
    return CalibrationErrors(len(labels), *intervals)


def _interval(replicates: Array) -> Interval:
    """Return the first replicate as the value, with the 95 % interval of the others."""
    low, high = np.quantile(replicates[1:], [0.025, 0.975])
    return Interval(float(replicates[0]), float(low), float(high))


def _counts(observed: Proportion) -> dict[str, Any]:
    return {"cases": observed.cases, "with_the_class": observed.count}
