"""Evaluate a model: metrics, calibration, thresholds, prediction sets, abstention and out-of-distribution detection."""

from shpeft.evaluation.abstention import (
    Abstention,
    AbstentionRates,
    AbstentionRule,
    RiskCoverage,
    abstention_rates,
    risk_coverage,
)
from shpeft.evaluation.answer import NO_ANSWER, Answer, answer_case, answer_findings, answer_number
from shpeft.evaluation.by_task import AnyReliability, AnyRules
from shpeft.evaluation.calibration import Bin, Calibration, calibrate_predictions, calibration_curve
from shpeft.evaluation.conformal import Coverage, PredictionSets, SetRule, fit_prediction_sets, set_coverage
from shpeft.evaluation.curves import Curve, cases_in_cell, confusion, pr_curve, roc_curve
from shpeft.evaluation.finding_reliability import FindingReliability
from shpeft.evaluation.gate import GateRates, OODDistances
from shpeft.evaluation.ood import OODDetector, OODScore, fit_ood_detector
from shpeft.evaluation.prediction_interval import (
    Estimate,
    IntervalReliability,
    IntervalRule,
    estimate_case,
    fit_interval,
)
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.reliability import (
    CaseReliability,
    DecisionRules,
    Reliability,
    TestResults,
    ThresholdDecision,
    assess_case,
    fit_reliability,
)
from shpeft.evaluation.subgroups import Subgroup, by_subgroup
from shpeft.evaluation.thresholds import (
    OperatingPoint,
    Rates,
    ThresholdCurve,
    ThresholdRule,
    choose_threshold,
    rates,
    rates_by_class,
    threshold_curve,
)
from shpeft.evaluation.training_facts import TrainingFacts

__all__ = [
    "NO_ANSWER",
    "Answer",
    "answer_case",
    "answer_findings",
    "answer_number",
    "Abstention",
    "AbstentionRule",
    "AbstentionRates",
    "AnyReliability",
    "AnyRules",
    "Bin",
    "Calibration",
    "CaseReliability",
    "Coverage",
    "Curve",
    "DecisionRules",
    "Estimate",
    "FindingReliability",
    "GateRates",
    "IntervalReliability",
    "IntervalRule",
    "OODDetector",
    "OODDistances",
    "OODScore",
    "OperatingPoint",
    "PredictionSets",
    "Proportion",
    "Rates",
    "Reliability",
    "RiskCoverage",
    "SetRule",
    "Subgroup",
    "TestResults",
    "ThresholdCurve",
    "TrainingFacts",
    "ThresholdDecision",
    "ThresholdRule",
    "abstention_rates",
    "by_subgroup",
    "calibrate_predictions",
    "cases_in_cell",
    "choose_threshold",
    "confusion",
    "estimate_case",
    "fit_interval",
    "set_coverage",
    "fit_ood_detector",
    "fit_prediction_sets",
    "fit_reliability",
    "assess_case",
    "pr_curve",
    "rates",
    "rates_by_class",
    "calibration_curve",
    "risk_coverage",
    "roc_curve",
    "threshold_curve",
]
