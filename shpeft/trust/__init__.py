"""How far to believe a model: what its predictions on validation images, which it was not trained on, say about it."""

from shpeft.trust.abstention import Abstention, AbstentionRule, Answered, RiskCoverage, answered, risk_coverage
from shpeft.trust.calibration import Bin, Calibration, calibrated, reliability_of
from shpeft.trust.conformal import Coverage, PredictionSets, SetRule, coverage_of, fit_sets
from shpeft.trust.curves import Curve, cases_in, confusion, pr_curve, roc_curve
from shpeft.trust.fitted import Call, Choices, Judgement, TestResults, Trust, fit_trust, judge
from shpeft.trust.novelty import Novelty, NoveltyDetector, fit_novelty
from shpeft.trust.proportions import Proportion
from shpeft.trust.subgroups import Subgroup, by_subgroup
from shpeft.trust.thresholds import (
    OperatingPoint,
    Rates,
    ThresholdCurve,
    ThresholdRule,
    choose_threshold,
    rates,
    threshold_curve,
)

__all__ = [
    "Abstention",
    "AbstentionRule",
    "Answered",
    "Bin",
    "Calibration",
    "Call",
    "Choices",
    "Coverage",
    "Curve",
    "Judgement",
    "Novelty",
    "NoveltyDetector",
    "OperatingPoint",
    "PredictionSets",
    "Proportion",
    "Rates",
    "RiskCoverage",
    "SetRule",
    "Subgroup",
    "TestResults",
    "ThresholdCurve",
    "ThresholdRule",
    "Trust",
    "answered",
    "by_subgroup",
    "calibrated",
    "cases_in",
    "choose_threshold",
    "confusion",
    "coverage_of",
    "fit_novelty",
    "fit_sets",
    "fit_trust",
    "judge",
    "pr_curve",
    "rates",
    "reliability_of",
    "risk_coverage",
    "roc_curve",
    "threshold_curve",
]
