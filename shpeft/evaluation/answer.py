"""The answer to one case: a decision at the operating point, or no answer and the reasons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shpeft.evaluation.calibration import Bin
from shpeft.evaluation.ood import OODScore
from shpeft.evaluation.prediction_interval import Estimate
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.reliability import CaseReliability
from shpeft.evaluation.thresholds import Rates
from shpeft.support.formatting import probability as shown
from shpeft.support.jsonable import to_jsonable

NO_ANSWER = "No answer"


@dataclass(frozen=True)
class Answer:
    """What a model answers to one case, and what its validation and test images say about such answers.

    Without an answer, everything but ``headline`` and ``reasons`` is not an answer, and has to be marked so.

    Attributes:
        given: whether the model answers.
        reasons: why it does not, one sentence each; empty if it does.
        decision: ``malignant: positive`` or ``malignant: negative`` at an operating threshold, else the most probable
            class, or of ordered classes the median one.
        probability_of: the class that the decision is about.
        probability: of that class; calibrated if ``calibrated``.
        threshold: the operating threshold on that probability; None for the most probable class.
        rates: sensitivity and specificity of such decisions on the test images; None without a test.
        evidence: the validation images with a similar probability of the class; None if not calibrated.
        still_possible: the prediction set, the most probable class first; empty if not calibrated.
        coverage: for each class, the test images of this class whose prediction set has it; empty without a test.
        most_probable: the class with the highest probability.
        findings: where findings may occur together, the answer to each of them; this one is then their summary.
        estimate: of a regression, the number; there are then no probability, threshold, evidence or set.

    Examples:
        >>> answer = Answer(True, (), "ill: positive", "ill", 0.31, True, 0.2)
        >>> answer.headline
        'ill: positive'
        >>> answer.probability_sentence
        'The calibrated probability of ill is 31.0 %; the threshold is 20.0 %.'
        >>> Answer(True, (), "ill: negative", "ill", 0.11, True, 0.2, most_probable="hurt").headline
        'ill: negative; most probable: hurt'
    """

    given: bool
    reasons: tuple[str, ...]
    decision: str
    probability_of: str
    probability: float
    calibrated: bool
    threshold: float | None = None
    rates: Rates | None = None
    evidence: Bin | None = None
    still_possible: tuple[str, ...] = ()
    coverage: tuple[tuple[str, Proportion], ...] = ()
    most_probable: str = ""
    findings: tuple["Answer", ...] = ()
    estimate: Estimate | None = None

    @property
    def headline(self) -> str:
        """The decision, or ``No answer``; a negative one names the most probable class, which may be a disease, too."""
        if not self.given:
            return NO_ANSWER
        negative = self.threshold is not None and self.probability < self.threshold
        named = negative and self.most_probable not in ("", self.probability_of)
        return f"{self.decision}; most probable: {self.most_probable}" if named else self.decision

    @property
    def is_positive(self) -> bool:
        """Whether the probability reaches the threshold, or one half without a threshold."""
        return self.probability >= (0.5 if self.threshold is None else self.threshold)

    @property
    def probability_sentence(self) -> str:
        """The probability of the class that the decision is about, and the threshold."""
        kind = "calibrated" if self.calibrated else "uncalibrated"
        sentence = f"The {kind} probability of {self.probability_of} is {shown(self.probability)}"
        return f"{sentence}." if self.threshold is None else f"{sentence}; the threshold is {shown(self.threshold)}."

    @property
    def operating_sentence(self) -> str:
        """Sensitivity and specificity of such decisions on the test images, as counts; empty without a test."""
        if self.rates is None:
            return ""
        way = "By the most probable class" if self.threshold is None else "At this threshold"
        sentence = (
            f"{way}, {self.rates.sensitivity.counts} test images of {self.probability_of} are found (sensitivity), "
            f"and {self.rates.specificity.counts} others are not flagged (specificity)."
        )
        return f"{sentence} All others are flagged, so a flag says nothing." if self.rates.flags_all else sentence

    @property
    def evidence_sentence(self) -> str:
        """The count of validation images with a similar probability that have the class; empty if not calibrated."""
        if self.evidence is None:
            return ""
        observed, (low, high) = self.evidence.observed, (self.evidence.low, self.evidence.high)
        return (
            f"Of {observed.cases:,} validation images with a similar probability of {self.probability_of} "
            f"({100 * low:.0f} to {100 * high:.0f} %), {observed.count:,} had it."
        )

    @property
    def still_possible_sentence(self) -> str:
        """The classes of the prediction set; empty if not calibrated."""
        return f"Still possible: {', '.join(self.still_possible)}." if self.still_possible else ""

    @property
    def coverage_sentence(self) -> str:
        """How often such a list held the true class, for each class; empty without a test."""
        if not self.coverage:
            return ""
        counts = "; ".join(f"{name}: {share.counts}" for name, share in self.coverage)
        return f"Test images whose list held their true class: {counts}."

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences that are not empty, in reading order, without headline and reasons."""
        if self.estimate is not None:
            return self.estimate.sentences
        if self.findings:
            return tuple(f"{part.headline}. {' '.join((*part.reasons, *part.sentences[:2]))}" for part in self.findings)
        lines = (
            self.probability_sentence,
            self.operating_sentence,
            self.evidence_sentence,
            self.still_possible_sentence,
            self.coverage_sentence,
        )
        return tuple(line for line in lines if line)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        rates = self.rates
        if self.estimate is not None:
            given = {"answered": self.given, "headline": self.headline, "reasons": list(self.reasons)}
            return {**given, "estimate": to_jsonable(self.estimate)}
        return {
            "answered": self.given,
            "headline": self.headline,
            "most_probable": self.most_probable,
            "reasons": list(self.reasons),
            "decision": self.decision,
            "probability_of": self.probability_of,
            "probability": self.probability,
            "calibrated": self.calibrated,
            "threshold": self.threshold,
            "test_sensitivity": None if rates is None else rates.sensitivity.to_dict(),
            "test_specificity": None if rates is None else rates.specificity.to_dict(),
            "still_possible": list(self.still_possible),
            "test_coverage": {name: share.to_dict() for name, share in self.coverage},
            **({"findings": {part.probability_of: part.to_dict() for part in self.findings}} if self.findings else {}),
        }


def answer_case(
    classes: Sequence[str],
    probabilities: Sequence[float],
    case: CaseReliability | None = None,
    ood: OODScore | None = None,
    about: str | None = None,
    predicted: str | None = None,
) -> Answer:
    """Return the answer to one case.

    Args:
        classes: (C,) names.
        probabilities: (C,) the model's own, uncalibrated; used if the case was not assessed.
        case: calibrated probabilities and decisions; None without a fitted reliability.
        ood: how unusual the image is; None without a detector.
        about: the class that the decision is about, positive from one half on where it has no threshold; None: that of
            the threshold, or the one that is predicted.
        predicted: the class that is decided on without a threshold; None: the most probable one.
    """
    p = tuple(probabilities if case is None else case.probabilities)
    decision = None if case is None else case.decision
    most_probable = classes[p.index(max(p))]
    name = decision.positive_class if decision is not None else about or predicted or most_probable
    reached = p[list(classes).index(name)] >= 0.5 if decision is None else decision.is_positive
    side = "" if decision is None and about is None else ": positive" if reached else ": negative"
    reasons = (*(() if ood is None else ood.reasons), *_abstention_reasons(case))
    return Answer(
        given=not reasons,
        reasons=reasons,
        decision=name + side,
        probability_of=name,
        probability=p[list(classes).index(name)],
        calibrated=case is not None,
        threshold=None if decision is None else decision.threshold,
        rates=None if case is None else case.test_rates,
        evidence=None if case is None else case.evidence[list(classes).index(name)],
        still_possible=() if case is None else case.prediction_set,
        coverage=() if case is None else case.test_coverage,
        most_probable=most_probable,
    )


def answer_number(estimate: Estimate, ood: OODScore | None = None) -> Answer:
    """Return the answer to a case of which a number is predicted.

    Args:
        estimate: the number with its interval.
        ood: how unusual the image is; it withholds the number.
    """
    reasons = () if ood is None else tuple(ood.reasons)
    return Answer(
        given=not reasons,
        reasons=reasons,
        decision=f"{estimate.quantity}: {estimate.text}",
        probability_of=estimate.quantity,
        probability=math.nan,
        calibrated=estimate.coverage is not None,
        estimate=estimate,
    )


def answer_findings(parts: Sequence[Answer], ood: OODScore | None = None) -> Answer:
    """Return the answer to a case of which every finding has an answer of its own.

    Args:
        parts: the answer to each finding.
        ood: how unusual the image is; it withholds all of them.
    """
    parts = [replace(part, most_probable="") for part in parts]  # the other class is that the finding is not there
    reasons = () if ood is None else tuple(ood.reasons)
    positive = [part for part in parts if part.is_positive and (part.given or reasons)]
    uncertain = [part.probability_of for part in parts if not part.given and not reasons]
    said = [", ".join(part.probability_of for part in positive)] * bool(positive)
    said += [f"uncertain: {', '.join(uncertain)}"] * bool(uncertain)
    decision = "; ".join(said) or f"None of the {len(parts)} findings"
    about = max(positive or parts, key=lambda part: part.probability - (part.threshold or 0))
    return replace(
        about,
        given=not reasons,
        reasons=reasons,
        decision=decision,
        still_possible=(),
        coverage=(),
        findings=tuple(parts),
    )


def _abstention_reasons(case: CaseReliability | None) -> tuple[str, ...]:
    if case is None or not case.abstains:
        return ()
    return ("The model is too uncertain: the image is inside its abstain band. A person should read it.",)
