"""Reliability of a model of several findings: calibration and decision rules of each finding, as of two classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shpeft.errors import ConfigError
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.findings import known_rows, of_finding
from shpeft.evaluation.gate import OODDistances
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.reliability import DecisionRules, Reliability, fit_reliability
from shpeft.evaluation.thresholds import ThresholdRule


@dataclass(frozen=True, repr=False)
class FindingReliability:
    """Calibration and decision rules of several findings, each fitted on the validation cases where it is known.

    Attributes:
        findings: by finding its reliability; its two classes are ``no edema`` and ``edema``.
    """

    findings: dict[str, Reliability]

    def __repr__(self) -> str:
        return f"FindingReliability({len(self.findings)} findings: {', '.join(self.findings)})"

    @property
    def parts(self) -> dict[str, Reliability]:
        """The reliability by finding."""
        return self.findings

    @property
    def classes(self) -> tuple[str, ...]:
        """The findings."""
        return tuple(self.findings)

    @property
    def must_not_miss(self) -> str:
        """The finding whose threshold has to reach a sensitivity; empty if there is none."""
        points = {name: r.operating for name, r in self.findings.items()}
        return next((name for name, point in points.items() if point and point.rule.rule == "sensitivity"), "")

    @property
    def headline(self) -> str:
        """What the model achieves on the test images for each finding, in counts."""
        lines = []
        for name, reliability in self.findings.items():
            test, point = reliability.test, reliability.operating
            rates = None if point is None else point.validation if test is None else test.operating
            if rates is not None:
                others = rates.specificity
                flagged = f"{others.cases - others.count:,} of {others.cases:,} others flagged"
                lines.append(f"{name}: {rates.sensitivity.counts} found, {flagged}")
        which = "test" if all(r.test is not None for r in self.findings.values()) else "validation"
        return f"Of the {which} images: {'; '.join(lines)}."

    @property
    def rules(self) -> dict[str, DecisionRules]:
        """By finding, the user's choices."""
        return {name: reliability.rules for name, reliability in self.findings.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, under the keys of ``trust.json``."""
        return {"findings": {name: reliability.to_dict() for name, reliability in self.findings.items()}}


def rules_by_finding(findings: Sequence[str], rules: DecisionRules) -> dict[str, DecisionRules]:
    """Return the rules of each finding: those given where they name it, else the threshold with the highest J.

    Youden's J is sensitivity + specificity − 1. The abstain band lies around each threshold.

    Raises:
        ClassMismatch: the rules name a finding that there is not.
    """
    if rules.threshold is not None:
        class_index(findings, rules.threshold.positive)
    abstention = rules.abstention and replace(rules.abstention, on="threshold")

    def threshold(name: str) -> ThresholdRule:
        named = rules.threshold
        return named if named is not None and named.positive == name else ThresholdRule(name, "youden")

    return {name: replace(rules, threshold=threshold(name), abstention=abstention) for name in findings}


def fit_finding_reliability(
    validation: Predictions,
    rules: DecisionRules | dict[str, DecisionRules] | None = None,
    test: Predictions | None = None,
    distances: OODDistances | None = None,
) -> FindingReliability:
    """Fit calibration and decision rules of every finding on validation cases, and evaluate them on test cases.

    Args:
        validation: the model's own probabilities, uncalibrated; so are those of ``test``.
        rules: by finding, or for all of them; see ``rules_by_finding``.
        distances: of an out-of-distribution detector, for the rates of the gate.

    Raises:
        ConfigError: a rule that these validation cases cannot meet.
        ClassMismatch: an unknown finding.
    """
    given = rules if isinstance(rules, dict) else rules_by_finding(validation.classes, rules or DecisionRules())
    fitted = {}
    for name in validation.classes:
        known = None if distances is None else _known(distances, validation, test, name)
        held_out = None if test is None else of_finding(test, name)
        if held_out is not None and len(set(held_out.labels)) < 2:  # nothing to measure the finding by
            held_out, known = None, None
        try:
            fitted[name] = fit_reliability(of_finding(validation, name), given[name], held_out, known)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    return FindingReliability(fitted)


def _known(distances: OODDistances, validation: Predictions, test: Predictions | None, name: str) -> OODDistances:
    """Return the distances of the cases of which a finding is known."""
    tested = distances.test if test is None else distances.test[known_rows(test, name)]
    return replace(distances, validation=distances.validation[known_rows(validation, name)], test=tested)
