"""Verdicts on whether tasks select the same weights, and whether magnitude predicts the shared ones."""

from collections.abc import Sequence

import numpy as np

from shpeft.compare.analysis.hypotheses import NO, OPEN, YES, Verdict
from shpeft.compare.analysis.results import size
from shpeft.compare.analysis.support_overlap import MagnitudeAgreement, SupportPair
from shpeft.compare.report_schema import Question

SHARED_RULE = (
    "yes: every pair of tasks shares more weights than by chance (hypergeometric, Bonferroni, 5 %), within layers too"
)
OWN_RULE = "yes: no two tasks share as much as any two seeds of one task; no: they share as much on average"


def agreement_verdicts(
    questions: Sequence[Question], pairs: Sequence[SupportPair], magnitude: MagnitudeAgreement | None
) -> list[Verdict]:
    """Answer the questions of kinds ``shared_weights``, ``own_weights`` and ``magnitude_predicts``.

    The first two are asked for each arm and budget of which tasks were compared.
    """
    verdicts = []
    for arm, budget in dict.fromkeys((p.arms, p.budget) for p in pairs if p.kind == "tasks"):
        tasks = [p for p in pairs if (p.kind, p.arms, p.budget) == ("tasks", arm, budget)]
        seeds = [p for p in pairs if (p.kind, p.arms, p.budget) == ("seeds", arm, budget)]
        for question in questions:
            if question.arm in (None, arm) and question.kind == "shared_weights":
                verdicts.append(_shared(tasks, f"{arm}, {size(budget)}"))
            elif question.arm in (None, arm) and question.kind == "own_weights" and seeds:
                verdicts.append(_own(tasks, seeds, f"{arm}, {size(budget)}"))
    if magnitude is not None:
        verdicts += [_predicts(q, magnitude) for q in questions if q.kind == "magnitude_predicts"]
    return verdicts


def _shared(pairs: Sequence[SupportPair], name: str) -> Verdict:
    share, chance = np.mean([p.share for p in pairs]), np.mean([p.expected / p.k for p in pairs])
    largest_p = max(p.p for p in pairs)
    expected = sum(chance for p in pairs for _, chance in p.layers.values())
    ratio = sum(shared for p in pairs for shared, _ in p.layers.values()) / expected
    answer = YES if largest_p * len(pairs) < 0.05 and ratio > 1 else NO if ratio <= 1 else OPEN
    evidence = f"{100 * share:.1f} % shared, {100 * chance:.2g} % by chance; {ratio:.3g} times the chance within layers"
    return Verdict(f"Do tasks share key weights ({name})?", answer, evidence, SHARED_RULE)


def _own(tasks: Sequence[SupportPair], seeds: Sequence[SupportPair], name: str) -> Verdict:
    a, b = [p.share for p in tasks], [p.share for p in seeds]
    answer = YES if max(a) < min(b) else NO if np.mean(a) >= np.mean(b) else OPEN
    evidence = f"two tasks share {_range(a)}, two seeds of one task {_range(b)}"
    return Verdict(f"Does each task need weights of its own ({name})?", answer, evidence, OWN_RULE)


def _range(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.1f} % ({100 * min(shares):.1f} to {100 * max(shares):.1f})"


def _predicts(question: Question, magnitude: MagnitudeAgreement) -> Verdict:
    hits = ", ".join(
        f"{100 * precision.share:.1f} % at {budget} (chance {100 * precision.chance:.2g} %)"
        for budget, precision in magnitude.precision.items()
    )
    high, low = question.yes_from, question.no_below
    answer = YES if magnitude.correlation >= high else NO if magnitude.correlation < low else OPEN
    return Verdict(
        "Does magnitude find the weights that all tasks need?",
        answer,
        f"rank correlation with the tasks' consensus {magnitude.correlation:+.3f}; of the consensus' best weights "
        f"{hits} are also among the largest",
        f"yes: the rank correlation is at least {high:g}; no: below {low:g}",
    )
