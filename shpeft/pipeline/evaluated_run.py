"""What the evaluation of a finished run is about: all its classes, or one finding as two classes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shpeft.errors import RunError
from shpeft.evaluation import DecisionRules, FindingReliability, Reliability
from shpeft.evaluation.findings import of_finding
from shpeft.pipeline.calibrate import fit_decision_rules, set_decision_rules
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from shpeft.evaluation.by_task import AnyReliability
    from shpeft.evaluation.predict import Predictions


@dataclass(frozen=True)
class EvaluatedRun:
    """A run's predictions, reliability and decision rules, of all classes or of one finding.

    Attributes:
        folder: the run.
        finding: of a run of several findings, the one; empty in a run of single labels.
    """

    folder: RunFolder
    finding: str = ""

    @property
    def name(self) -> str:
        """The run's name, and that of the finding."""
        return f"{self.folder.name}-{self.finding}" if self.finding else self.folder.name

    @property
    def is_example(self) -> bool:
        """Whether the run is the read-only example."""
        return self.folder.is_example

    def test(self, model: str = "finetuned") -> "Predictions":
        """Return the test predictions of a model."""
        predictions = self.folder.predictions.test(model)
        return of_finding(predictions, self.finding) if self.finding else predictions

    def validation(self) -> "Predictions | None":
        """Return the validation predictions, or None in a run of an older version."""
        predictions = self.folder.predictions.validation()
        return of_finding(predictions, self.finding) if predictions and self.finding else predictions

    def reliability(self) -> Reliability | None:
        """Return the reliability, or None in a run of an older version."""
        saved = self.folder.reliability.read()
        return None if saved is None else self._part(saved)

    def positive_classes(self) -> tuple[str, ...]:
        """Return the classes that a threshold can be for."""
        return (self.finding,) if self.finding else self.test().classes

    def fit(self, rules: DecisionRules) -> Reliability:
        """Return the reliability by new rules; the run is unchanged.

        Raises:
            ConfigError, ClassMismatch: the validation images do not allow these rules.
        """
        return self._part(fit_decision_rules(self.folder, self._all(rules)))

    def save(self, rules: DecisionRules) -> Reliability:
        """Fit the reliability by new rules, and write it to the run; the rules of other findings stay.

        Raises:
            RunError: the run is read-only.
            ConfigError, ClassMismatch: the validation images do not allow these rules; the run is unchanged.
        """
        return self._part(set_decision_rules(self.folder, self._all(rules)))

    def _all(self, rules: DecisionRules) -> DecisionRules | dict[str, DecisionRules]:
        if not self.finding:
            return rules
        saved = self.folder.reliability.read()
        if not isinstance(saved, FindingReliability):
            raise RunError(f"The run {self.folder.name} has no rules by finding. Calibrate it first.")
        return saved.rules | {self.finding: rules}

    def _part(self, reliability: "AnyReliability") -> Reliability:
        return reliability.parts[self.finding]
