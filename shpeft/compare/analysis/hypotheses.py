"""Verdicts on the questions that a plan declares, each by a written rule from intervals.

Comparisons of arms are decided here, retention of full fine-tuning's gain in
:mod:`shpeft.compare.analysis.retained_gain`, and agreement of selected weights in
:mod:`shpeft.compare.analysis.support_agreement`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shpeft.compare.analysis import significance
from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import CALIBRATED, SMALLER_IS_BETTER
from shpeft.compare.report_schema import BASELINE, Question
from shpeft.support.formatting import METRIC_TITLES

YES, NO, OPEN, PENDING = "yes", "no", "not shown", "not yet"
"""Answers. ``OPEN``: the interval allows both. ``PENDING``: cells are missing."""

CALIBRATED_CLAUSE = "each at the temperature fitted to its validation images"

SIDES = {"better": YES, "worse": NO}
"""Answers by the verdict of a difference; of any other it is open."""

GAIN_RULE = "yes: the difference is that large and its 95 % interval excludes 0; no: the interval ends below it"
SIDE_RULE = "yes or no: the 95 % interval lies on one side of 0"
MARGIN_RULE = "yes or no: the 90 % interval lies on one side of the margin (one-sided tests at 5 %)"
HOLM_CLAUSE = "for a yes, p is also below 5 % after Holm's adjustment for the primary questions"


@dataclass(frozen=True)
class Verdict:
    """The answer to a question.

    Attributes:
        question: the question in words.
        answer: ``yes``, ``no``, ``not shown`` or ``not yet``.
        evidence: the numbers that the rule was applied to, in words.
        rule: when the answer is yes, and when it is no.
        metric: the metric of a comparison; None for other questions.
        p: of a primary question, the p value of its test, two-sided for better and one-sided for not_worse; None for
            other questions.
    """

    question: str
    answer: str
    evidence: str
    rule: str
    metric: str | None = None
    p: float | None = None


def method_verdicts(bootstrap: Bootstrap, comparisons: Sequence[PairedComparison]) -> list[Verdict]:
    """Answer the plan's questions whether an arm is better, or not worse, than another.

    Skips questions on calibrated probabilities where older cells record no temperature.

    Args:
        comparisons: the plan's method against every other arm, in the plan's metric.
    """
    results = bootstrap.results
    known = {(c.method, c.other, c.metric): c for c in comparisons}
    verdicts = []
    for question in results.questions:
        if question.kind not in ("better", "not_worse"):
            continue
        tested, other = tested_entry(results, question), compared_entry(results, question)
        metric = metric_of(results, question)
        if (
            other is None
            or tested == other
            or (metric == CALIBRATED and not _have_temperatures(results, tested, other))
        ):
            continue
        comparison = known.get((tested, other, metric)) or bootstrap.compare(tested, other, metric)
        verdicts.append(_decide(results, question, tested, other, comparison))
    return _adjusted(verdicts, sum(question.primary for question in results.plan.report.questions))


def _adjusted(verdicts: Sequence[Verdict], number: int) -> list[Verdict]:
    """Withdraw the yes of primary questions whose p value, adjusted for all of them, is 5 % or more.

    Args:
        number: of primary questions; those without a verdict count as well, with p = 1.
    """
    primary = [verdict.p for verdict in verdicts if verdict.p is not None]
    adjusted, out = iter(significance.holm([*primary, *[1.0] * (number - len(primary))])), []
    for verdict in verdicts:
        if verdict.p is not None:
            p = next(adjusted)
            verdict = replace(
                verdict,
                answer=OPEN if verdict.answer == YES and p >= 0.05 else verdict.answer,
                evidence=verdict.evidence if verdict.answer == PENDING else f"{verdict.evidence}, adjusted p = {p:.2g}",
                rule=f"{verdict.rule}; {HOLM_CLAUSE}",
            )
        out.append(verdict)
    return out


def tested_entry(results: Results, question: Question) -> Entry:
    """Return the entry that a question is about, by default the report's method."""
    return results.method if question.arm is None else _entry(results, question.arm)


def compared_entry(results: Results, question: Question) -> Entry | None:
    """Return the entry that a question compares with; None for a baseline that the plan does not have."""
    if question.than in results.plan.arms:
        return _entry(results, str(question.than))
    metric = results.metric
    probes = (entry for entry in results.planned if results.plan.arms[entry.arm].kind == "probe")
    return results.baseline(metric) or next(probes, None)


def compared_with_method(results: Results) -> list[Entry]:
    """List the finished entries that the questions compare the method with; all others where no question does."""
    entries = [
        compared_entry(results, question)
        for question in results.questions
        if question.kind in ("better", "not_worse")
        and question.metric in (None, results.metric)
        and tested_entry(results, question) == results.method
    ]
    others = [entry for entry in results.entries if entry != results.method]
    return [entry for entry in dict.fromkeys(entries) if entry in others] if entries else others


def _entry(results: Results, arm: str) -> Entry:
    """Return an arm at the method's budget where it has that budget, or else at its first one."""
    budgets = results.plan.sizes(results.plan.arms[arm])
    return Entry(arm, results.method.budget if results.method.budget in budgets else budgets[0])


def _decide(
    results: Results, question: Question, tested: Entry, other: Entry, comparison: PairedComparison | None
) -> Verdict:
    text, rule = _sentence(results, question, tested, other), _rule(question)
    metric, never = metric_of(results, question), 1.0 if question.primary else None
    if comparison is None:
        return Verdict(text, PENDING, "no cell in common yet", rule, metric, never)
    evidence = _evidence(results, comparison)
    if not comparison.complete:
        return Verdict(text, PENDING, evidence, rule, metric, never)
    if question.kind == "not_worse":
        margin = question.by or results.margin(metric)
        assert margin is not None, "questions without a margin are refused"
        answer, p = _not_worse(comparison, margin)
    else:
        answer = _better_by(comparison, question.by) if question.by else SIDES.get(comparison.mean.verdict, OPEN)
        p = comparison.mean.p_better
    return Verdict(text, answer, evidence, rule, metric, p if question.primary else None)


def _sentence(results: Results, question: Question, tested: Entry, other: Entry) -> str:
    subject = "it" if tested == results.method else tested.title
    rival = f"the stronger baseline, {other.title}" if question.than == BASELINE else other.title
    metric = metric_of(results, question)
    size = question.by or results.margin(metric)
    margin = "" if size is None else results.scale(metric).margin(size)
    if metric in SMALLER_IS_BETTER:
        name, clause = METRIC_TITLES[metric].partition(",")[0].partition(" (")[0], ""
        name, whose = f"{name[0].lower()}{name[1:]}", "its" if tested == results.method else f"{tested.title}'s"
        if metric in ("ece", CALIBRATED):  # a baseline's calibration error says nothing about its strength
            rival, clause = other.title, f", {CALIBRATED_CLAUSE}" if metric == CALIBRATED else ""
        if question.kind == "not_worse":
            asked = f"is {whose} {name} less than {margin} above that of {rival}{clause}?"
        elif question.by:
            asked = f"is {whose} {name} at least {margin} below that of {rival}{clause}?"
        else:
            asked = f"is {whose} {name} below that of {rival}{clause}?"
    elif question.kind == "not_worse":
        asked = f"is {subject} less than {margin} below {rival}?"
    elif question.by:
        asked = f"is {subject} at least {margin} above {rival}?"
    else:
        asked = f"is {subject} above {rival}?"
    return f"{question.topic}: {asked}" if question.topic else asked[0].upper() + asked[1:]


def metric_of(results: Results, question: Question) -> str:
    """Return the metric of a question, by default the report's."""
    return question.metric or results.metric


def _rule(question: Question) -> str:
    return MARGIN_RULE if question.kind == "not_worse" else GAIN_RULE if question.by else SIDE_RULE


def _have_temperatures(results: Results, *entries: Entry) -> bool:
    return all("temperature" in record for entry in entries for record in results.rows(entry))


def _evidence(results: Results, comparison: PairedComparison) -> str:
    compared, planned = len(comparison.by_dataset), len(results.plan.datasets)
    return format_difference(comparison) + ("" if compared == planned else f" on {compared} of {planned} datasets")


def _better_by(comparison: PairedComparison, gain: float) -> str:
    low, high, value = *comparison.mean.interval(), comparison.mean.value
    if not comparison.mean.larger_is_better:
        low, high, value = -high, -low, -value
    return YES if low > 0 and value >= gain else NO if high < gain else OPEN


def _not_worse(comparison: PairedComparison, margin: float) -> tuple[str, float]:
    """Return the answer and the p value of a test of non-inferiority."""
    tost = significance.tost(comparison.mean, margin)
    if tost is None:
        return OPEN, 1.0
    r = comparison.mean.replicates if comparison.mean.larger_is_better else -comparison.mean.replicates
    return YES if tost.not_worse else NO if np.quantile(r, 0.95) <= -margin else OPEN, tost.p_worse
