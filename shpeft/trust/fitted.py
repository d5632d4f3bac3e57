"""All that the validation cases say about how far to believe a model, and what that means for one case."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation import Interval, Predictions, calibration_error, resample_groups
from shpeft.temperature import calibrate
from shpeft.trust.abstention import Abstention, AbstentionRule, Answered, answered, choose_abstention
from shpeft.trust.calibration import Bin, Calibration, calibrated, fit_calibration
from shpeft.trust.conformal import Coverage, PredictionSets, SetRule, coverage_of, fit_sets
from shpeft.trust.proportions import Proportion
from shpeft.trust.thresholds import OperatingPoint, Rates, ThresholdRule, choose_threshold, rates

Array = NDArray[np.float64]

RESAMPLES = 1000
"""Bootstrap replicates of the calibration errors."""


@dataclass(frozen=True)
class Choices:
    """What a person decides; everything else follows from the validation cases.

    Attributes:
        threshold: how the operating threshold is chosen; None: there is none, since nobody said which class is looked
            for.
    """

    threshold: ThresholdRule | None = None
    sets: SetRule = field(default_factory=SetRule)
    abstention: AbstentionRule | None = field(default_factory=AbstentionRule)


@dataclass(frozen=True)
class CalibrationErrors:
    """Calibration before and after the temperature, on some cases; ``ece_change`` is paired, after − before."""

    cases: int
    ece_before: Interval
    ece_after: Interval
    ece_change: Interval
    brier_before: Interval
    brier_after: Interval


@dataclass(frozen=True)
class TestResults:
    """What was chosen on the validation cases, on test cases, which chose nothing."""

    __test__ = False  # no test, whatever pytest thinks of the name

    calibration: CalibrationErrors
    coverage: Coverage
    operating: Rates | None
    abstention: Answered | None


@dataclass(frozen=True)
class Trust:
    """What validation cases say about probabilities: their temperature, a threshold, prediction sets, an abstain band.

    Attributes:
        validation: the calibration errors on the cases that chose the temperature, which flatter it a little.
        test: None where the model has not been tested.
    """

    choices: Choices
    classes: tuple[str, ...]
    calibration: Calibration
    sets: PredictionSets
    operating: OperatingPoint | None
    abstention: Abstention | None
    validation: CalibrationErrors
    test: TestResults | None


@dataclass(frozen=True)
class Call:
    """What an operating threshold says of one case; ``rates`` are those on the validation cases."""

    positive: str
    threshold: float
    called: bool
    rates: Rates


@dataclass(frozen=True)
class Judgement:
    """One case in the light of the validation cases.

    Attributes:
        probabilities: calibrated, one for each class.
        evidence: for each class the validation cases with a probability like this one's, and how many had the class.
        members: the prediction set, the most probable class first.
        coverage: how often such sets are to hold the true class.
        abstains: whether the model should leave the case to people; None: no abstain band was chosen.
    """

    probabilities: tuple[float, ...]
    evidence: tuple[Bin, ...]
    members: tuple[str, ...]
    coverage: float
    call: Call | None
    abstains: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        call = None
        if self.call is not None:
            call = {
                "positive_class": self.call.positive,
                "threshold": self.call.threshold,
                "positive": self.call.called,
                "validation_sensitivity": self.call.rates.sensitivity.to_dict(),
                "validation_specificity": self.call.rates.specificity.to_dict(),
            }
        return {
            "probabilities": list(self.probabilities),
            "validation_counts": [{"from": bin.low, "to": bin.high, **_counts(bin.observed)} for bin in self.evidence],
            "prediction_set": {"classes": list(self.members), "coverage": self.coverage},
            "threshold": call,
            "abstain": self.abstains,
        }


def fit_trust(validation: Predictions, choices: Choices | None = None, test: Predictions | None = None) -> Trust:
    """Fit everything on the validation cases, and look what becomes of it on the test cases.

    Args:
        validation: the model's own probabilities, uncalibrated; so are ``test``'s.

    Raises:
        ConfigError: a choice that these validation cases do not allow.
        ClassMismatch: a positive class that does not exist.
    """
    choices = choices or Choices()
    calibration = fit_calibration(validation)
    seen = calibrated(validation, calibration.temperature)
    sets = fit_sets(seen, choices.sets)
    operating = None if choices.threshold is None else choose_threshold(seen, choices.threshold)
    abstention = None if choices.abstention is None else choose_abstention(seen, choices.abstention, operating)
    results = None
    if test is not None:
        unseen = calibrated(test, calibration.temperature)
        results = TestResults(
            calibration=_errors(test, unseen),
            coverage=coverage_of(sets, unseen),
            operating=None if operating is None else rates(unseen, operating.rule.positive, operating.threshold),
            abstention=None if abstention is None else answered(abstention, unseen),
        )
    return Trust(
        choices, validation.classes, calibration, sets, operating, abstention, _errors(validation, seen), results
    )


def judge(trust: Trust, probabilities: Sequence[float]) -> Judgement:
    """What the validation cases say about one case.

    Args:
        probabilities: (C,) the model's own, uncalibrated.
    """
    p = calibrate(np.asarray(probabilities, dtype=np.float64), trust.calibration.temperature)
    call = None
    if trust.operating is not None:
        point = trust.operating
        positive = point.rule.positive
        called = bool(p[trust.classes.index(positive)] >= point.threshold)
        call = Call(positive, point.threshold, called, point.validation)
    return Judgement(
        probabilities=tuple(p.tolist()),
        evidence=tuple(
            trust.calibration.behind(name, value) for name, value in zip(trust.classes, p.tolist(), strict=True)
        ),
        members=trust.sets.set_of(p),
        coverage=trust.choices.sets.coverage,
        call=call,
        abstains=None if trust.abstention is None else bool(trust.abstention.abstains(p[None], trust.classes)[0]),
    )


def _errors(before: Predictions, after: Predictions) -> CalibrationErrors:
    """With bootstrap intervals, the same resamples before and after."""
    labels = np.asarray(before.labels)
    weights = np.vstack([np.ones((1, len(labels))), resample_groups(before.groups, RESAMPLES, seed=0)])
    ece, brier = [], []
    for p in (before.probabilities, after.probabilities):
        ece.append(calibration_error(p.max(1), p.argmax(1) == labels, weights))
        squares = ((p - np.eye(p.shape[1])[labels]) ** 2).sum(1)
        brier.append(weights @ squares / weights.sum(1))
    found = (_interval(replicates) for replicates in (ece[0], ece[1], ece[1] - ece[0], *brier))
    return CalibrationErrors(len(labels), *found)


def _interval(replicates: Array) -> Interval:
    """The first replicate is the value, the others give the interval of 95 %."""
    low, high = np.quantile(replicates[1:], [0.025, 0.975])
    return Interval(float(replicates[0]), float(low), float(high))


def _counts(observed: Proportion) -> dict[str, Any]:
    return {"cases": observed.cases, "with_the_class": observed.count}
