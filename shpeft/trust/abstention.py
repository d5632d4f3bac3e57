"""Abstaining: which cases a model should leave to people, by what that costs and brings on validation cases."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ConfigError
from shpeft.evaluation import Predictions
from shpeft.trust.calibration import class_index
from shpeft.trust.proportions import Proportion
from shpeft.trust.thresholds import OperatingPoint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AbstentionRule:
    """When to abstain.

    Attributes:
        by: ``coverage`` (the model answers this share of cases) or ``risk`` (as many cases as it can with at most this
            share of errors among them).
        target: that share.
        on: ``maximum`` (the top probability is too low) or ``threshold`` (the probability of the positive class is too
            near the operating threshold).
    """

    by: Literal["coverage", "risk"] = "coverage"
    target: float = 0.9
    on: Literal["maximum", "threshold"] = "maximum"

    def __post_init__(self) -> None:
        if not 0 <= self.target <= 1:
            raise ConfigError(f"A {self.by} of {self.target:g} cannot be had: give a share from 0 to 1, such as 0.9.")


@dataclass(frozen=True)
class RiskCoverage:
    """The risk–coverage curve: answer the surest cases only, ever more of them. All (K,), by rising coverage.

    Attributes:
        certainty: the least certainty that is still answered.
        coverage: the share of cases that are answered.
        risk: the share of errors among those.
    """

    certainty: Array
    coverage: Array
    risk: Array

    @property
    def area(self) -> float:
        """The mean risk over all coverages (AURC); guessing which cases are sure gives the risk at full coverage."""
        return float(np.average(self.risk, weights=np.diff(self.coverage, prepend=0)))


@dataclass(frozen=True)
class Answered:
    """What abstaining does on some cases: how many are answered, and how many of those wrongly."""

    coverage: Proportion
    risk: Proportion


@dataclass(frozen=True)
class Abstention:
    """An abstain band that was chosen on validation cases.

    Attributes:
        certainty: below this the model abstains. On ``maximum`` it is the top probability, on ``threshold`` the
            distance of the probability from the threshold in log-odds.
        band: the probabilities between which the model abstains: of the top class, or of the positive one.
        operating: the threshold that the band surrounds, on ``threshold``.
        validation: what it does on the cases that chose it, which flatter it a little.
    """

    rule: AbstentionRule
    certainty: float
    band: tuple[float, float]
    operating: OperatingPoint | None
    validation: Answered

    def abstains(self, probabilities: Array, classes: tuple[str, ...]) -> NDArray[np.bool_]:
        """(N,) whether the model abstains; ``probabilities`` (N, C), calibrated."""
        found: NDArray[np.bool_] = _certainty(probabilities, classes, self.operating) < self.certainty
        return found


def risk_coverage(predictions: Predictions, operating: OperatingPoint | None = None) -> RiskCoverage:
    """The curve over certainty as the top probability, or as the distance from an operating threshold.

    Args:
        predictions: calibrated probabilities.
    """
    certainty = _certainty(predictions.probabilities, predictions.classes, operating)
    order = np.argsort(-certainty, kind="stable")
    ends = np.flatnonzero(np.diff(certainty[order], append=-np.inf))  # the last case of each certainty
    wrong = np.cumsum(_wrong(predictions, operating)[order])[ends]
    return RiskCoverage(certainty[order][ends], (ends + 1) / len(order), wrong / (ends + 1))


def choose_abstention(
    validation: Predictions, rule: AbstentionRule, operating: OperatingPoint | None = None
) -> Abstention:
    """The band that the rule asks for.

    Args:
        validation: calibrated probabilities.
        operating: the threshold to abstain around; it must be there for a rule on ``threshold``.

    Raises:
        ConfigError: there is no threshold to abstain around, or none that keeps the risk asked for.
    """
    if rule.on == "threshold" and operating is None:
        raise ConfigError("An abstain band around the threshold needs a threshold. Choose one first.")
    around = operating if rule.on == "threshold" else None
    curve = risk_coverage(validation, around)
    if rule.by == "coverage":
        fits = curve.coverage >= rule.target - 1e-12
        at = int(np.flatnonzero(fits)[0])
    else:
        fits = curve.risk <= rule.target + 1e-12
        if not fits.any():
            raise ConfigError(
                f"No abstain band keeps the errors on the validation cases to {rule.target:.1%}; the surest answers "
                f"are wrong in {curve.risk.min():.1%}. Allow more errors."
            )
        at = int(np.flatnonzero(fits)[-1])
    certainty = float(curve.certainty[at])
    band = (0.0, certainty) if around is None else _around(around.threshold, certainty)
    kept = _certainty(validation.probabilities, validation.classes, around) >= certainty
    return Abstention(rule, certainty, band, around, _answered(validation, kept, around))


def answered(abstention: Abstention, predictions: Predictions) -> Answered:
    """How many cases are answered, and how many of those wrongly.

    Args:
        predictions: calibrated probabilities.
    """
    kept = ~abstention.abstains(predictions.probabilities, predictions.classes)
    return _answered(predictions, kept, abstention.operating)


def _answered(predictions: Predictions, kept: NDArray[np.bool_], operating: OperatingPoint | None) -> Answered:
    wrong = _wrong(predictions, operating)
    return Answered(Proportion(int(kept.sum()), len(kept)), Proportion(int((wrong & kept).sum()), int(kept.sum())))


def _certainty(probabilities: Array, classes: tuple[str, ...], operating: OperatingPoint | None) -> Array:
    if operating is None:
        top: Array = probabilities.max(1)
        return top
    p = probabilities[:, class_index(classes, operating.rule.positive)]
    distance: Array = np.abs(_log_odds(p) - _log_odds(np.asarray(operating.threshold)))
    return distance


def _wrong(predictions: Predictions, operating: OperatingPoint | None) -> NDArray[np.bool_]:
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    if operating is None:
        found: NDArray[np.bool_] = p.argmax(1) != labels
        return found
    c = class_index(predictions.classes, operating.rule.positive)
    return (p[:, c] >= operating.threshold) != (labels == c)


def _log_odds(p: Array) -> Array:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    odds: Array = np.log(p / (1 - p))
    return odds


def _around(threshold: float, distance: float) -> tuple[float, float]:
    middle = float(_log_odds(np.asarray(threshold)))
    low, high = (1 / (1 + np.exp(-(middle + sign * distance))) for sign in (-1, 1))
    return float(low), float(high)
