"""Selective prediction: which cases a model should leave to a reader, and what error rate remains on the others."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shpeft.config.schema import CONFIDENCE
from shpeft.errors import ConfigError
from shpeft.evaluation.abstention_bound import BANDS, AbstentionBound, RiskBound
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.sensitivity_bound import allowed_misses
from shpeft.evaluation.thresholds import OperatingPoint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AbstentionRule:
    """Rule that sets the abstain band.

    Attributes:
        by: ``coverage`` (answer this share of cases) or ``risk`` (answer as many cases as possible while at most this
            share of the answers is wrong; with a confidence, in steps of a tenth of the cases).
        target: that share, from 0 to 1.
        on: ``maximum`` (abstain when the top probability is low) or ``threshold`` (abstain when the probability of the
            positive class is close to the operating threshold).
        confidence: that the target holds for new cases, over draws of the validation cases, where there are enough of
            them. None: for ``coverage`` it holds on average over draws, for ``risk`` among the validation cases.
    """

    by: Literal["coverage", "risk"] = "coverage"
    target: float = 0.9
    on: Literal["maximum", "threshold"] = "maximum"
    confidence: float | None = CONFIDENCE

    def __post_init__(self) -> None:
        if not 0 <= self.target <= 1:
            raise ConfigError(f"The {self.by} {self.target:g} is out of range. Give a share from 0 to 1, such as 0.9.")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ConfigError(f"The confidence {self.confidence:g} is not between 0 and 1. Give 0.9 for 90 %.")


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Risk-coverage curve: the model answers its most certain cases only. Arrays are (K,), by rising coverage.

    Attributes:
        certainty: the lowest certainty that is still answered.
        coverage: the share of cases that are answered.
        risk: the share of those answers that are wrong.
    """

    certainty: Array
    coverage: Array
    risk: Array

    @property
    def area(self) -> float:
        """Mean risk over all coverages (AURC). A random order of the cases gives the risk at full coverage."""
        return float(np.average(self.risk, weights=np.diff(self.coverage, prepend=0)))


@dataclass(frozen=True)
class AbstentionRates:
    """Result of abstaining on a set of cases: the share answered, and the share of those answers that is wrong."""

    coverage: Proportion
    risk: Proportion


@dataclass(frozen=True)
class Abstention:
    """Abstain band, chosen on validation cases.

    Attributes:
        certainty: the model abstains below this. With ``on="maximum"`` it is the top probability; with
            ``on="threshold"`` it is the distance of the probability from the threshold, in log-odds.
        band: the model abstains while the probability lies in this interval: the top probability, or that of the
            positive class.
        operating: the threshold in the middle of the band, for ``on="threshold"``.
        validation: rates on the cases that chose the band; they are slightly optimistic.
        bound: the promise about new cases; None if the rule asks for none, and in files of older versions.
    """

    rule: AbstentionRule
    certainty: float
    band: tuple[float, float]
    operating: OperatingPoint | None
    validation: AbstentionRates
    bound: AbstentionBound | RiskBound | None = None

    def abstains(self, probabilities: Array, classes: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return (N,) bool, whether the model abstains, for calibrated ``probabilities`` (N, C)."""
        uncertain: NDArray[np.bool_] = _certainty(probabilities, classes, self.operating) < self.certainty
        return uncertain


def risk_coverage(predictions: Predictions, operating: OperatingPoint | None = None) -> RiskCoverage:
    """Return the risk-coverage curve.

    Args:
        predictions: calibrated probabilities.
        operating: rank cases by their distance from this threshold; None: by their top probability.
    """
    certainty = _certainty(predictions.probabilities, predictions.classes, operating)
    order = np.argsort(-certainty, kind="stable")
    ends = np.flatnonzero(np.diff(certainty[order], append=-np.inf))  # the last case at each certainty
    wrong = np.cumsum(wrong_decisions(predictions, operating)[order])[ends]
    return RiskCoverage(certainty[order][ends], (ends + 1) / len(order), wrong / (ends + 1))


def choose_abstention(
    validation: Predictions, rule: AbstentionRule, operating: OperatingPoint | None = None
) -> Abstention:
    """Choose the abstain band that meets a rule on validation cases.

    To answer a share of *new* cases, a larger share of the validation cases has to be answered, and for few wrong
    answers to new cases fewer have to be wrong among these: see :mod:`shpeft.evaluation.abstention_bound`. Where the
    validation cases are too few for that, the band meets the rule among them alone.

    Args:
        validation: calibrated probabilities.
        operating: the operating threshold; required for ``on="threshold"``.

    Raises:
        ConfigError: the rule needs a threshold and none is given, or no band meets the risk asked for.
    """
    if rule.on == "threshold" and operating is None:
        raise ConfigError("An abstain band around the threshold needs a threshold. Choose a threshold first.")
    center = operating if rule.on == "threshold" else None
    curve, n = risk_coverage(validation, center), len(validation.labels)
    bound: AbstentionBound | RiskBound | None
    if rule.by == "coverage":
        bound = share_bound = _bound(validation, rule)
        meets = curve.coverage >= _answered(n, rule, share_bound) / n - 1e-12
        at = int(np.flatnonzero(meets)[0])
    elif proven := _proven(curve, n, rule):
        at, bound = proven
    else:
        meets = curve.risk <= rule.target + 1e-12
        if not meets.any():
            raise ConfigError(
                f"No abstain band keeps the error rate on the validation cases at or below {rule.target:.1%}. The "
                f"lowest that can be reached is {curve.risk.min():.1%}. Allow more errors."
            )
        at = int(np.flatnonzero(meets)[-1])
        bound = _risk_bound(curve, n, rule, at) if _promises(rule) else None
    certainty = float(curve.certainty[at])
    band = (0.0, certainty) if center is None else _band_around(center.threshold, certainty)
    answered = _certainty(validation.probabilities, validation.classes, center) >= certainty
    return Abstention(rule, certainty, band, center, _rates(validation, answered, center), bound)


def _bound(validation: Predictions, rule: AbstentionRule) -> AbstentionBound | None:
    if rule.confidence is None or not _promises(rule):
        return None
    return AbstentionBound(rule.target, rule.confidence, len(validation.labels))


def _promises(rule: AbstentionRule) -> bool:
    """Return whether a rule asks for a promise that counts can show."""
    return rule.confidence is not None and 0 < rule.target < 1


def _risk_bound(curve: RiskCoverage, cases: int, rule: AbstentionRule, at: int) -> RiskBound:
    assert rule.confidence is not None
    answered = round(curve.coverage[at] * cases)
    return RiskBound(rule.target, rule.confidence, answered, round(curve.risk[at] * answered))


def _proven(curve: RiskCoverage, cases: int, rule: AbstentionRule) -> tuple[int, RiskBound] | None:
    """Return the place on the curve of the band that answers most cases with the risk shown; None if none has."""
    if not _promises(rule):
        return None
    for share in range(BANDS, 0, -1):
        at = int(np.flatnonzero(curve.coverage >= share / BANDS - 1e-12)[0])
        if (bound := _risk_bound(curve, cases, rule, at)).holds:
            return at, bound
    return None


def _answered(cases: int, rule: AbstentionRule, bound: AbstentionBound | None) -> int:
    """Return how many validation cases, the most certain ones, the band has to leave outside."""
    if bound is not None and bound.holds:
        return cases - allowed_misses(cases, rule.target, bound.confidence)
    # ⌈(n + 1)·target⌉: on average over draws, no more new cases abstain than the rule says
    return min(cases, ceil((cases + 1) * rule.target - 1e-9))


def abstention_rates(abstention: Abstention, predictions: Predictions) -> AbstentionRates:
    """Return the share of cases that are answered, and the share of those answers that is wrong.

    Args:
        predictions: calibrated probabilities.
    """
    answered = ~abstention.abstains(predictions.probabilities, predictions.classes)
    return _rates(predictions, answered, abstention.operating)


def _rates(predictions: Predictions, answered: NDArray[np.bool_], operating: OperatingPoint | None) -> AbstentionRates:
    wrong, count = wrong_decisions(predictions, operating), int(answered.sum())
    return AbstentionRates(Proportion(count, len(answered)), Proportion(int((wrong & answered).sum()), count))


def _certainty(probabilities: Array, classes: tuple[str, ...], operating: OperatingPoint | None) -> Array:
    if operating is None:
        top: Array = probabilities.max(1)
        return top
    p = probabilities[:, class_index(classes, operating.rule.positive)]
    distance: Array = np.abs(_log_odds(p) - _log_odds(np.asarray(operating.threshold)))
    return distance


def wrong_decisions(predictions: Predictions, operating: OperatingPoint | None = None) -> NDArray[np.bool_]:
    """Return (N,) bool, whether the decision is wrong: at the threshold, or of the most probable class without one."""
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    if operating is None:
        wrong: NDArray[np.bool_] = predictions.decided != labels
    else:
        c = class_index(predictions.classes, operating.rule.positive)
        wrong = (p[:, c] >= operating.threshold) != (labels == c)
    return wrong


def _log_odds(p: Array) -> Array:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    odds: Array = np.log(p / (1 - p))
    return odds


def _band_around(threshold: float, distance: float) -> tuple[float, float]:
    center = float(_log_odds(np.asarray(threshold)))
    low, high = (1 / (1 + np.exp(-(center + sign * distance))) for sign in (-1, 1))
    return float(low), float(high)
