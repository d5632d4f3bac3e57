"""What a comparison was made to find out: questions, each answered by a written rule from intervals.

The goals are what is asked of the method; the paper's two claims are sparsity (a few weights decide the result of
fine-tuning) and hybridity (some of them matter for every task, some for one alone).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.markdown import margin_told, points
from shpeft.compare.overlaps import Foretold, Pair
from shpeft.compare.plan import Arm, Budget, Plan
from shpeft.compare.results import Entry, Results, size
from shpeft.compare.statistics import Difference, Estimate, mean_difference
from shpeft.compare.table import CALIBRATED

KEPT = 0.9
"""Sparsity: the share of full fine-tuning's gain that the largest changes must keep."""

FORETELLS, HINTS = 0.5, 0.1
"""Rank correlations from which one score foretells another, and below which it does not."""

YES, NO, OPEN, WAITS = "yes", "no", "not shown", "not yet"
"""Answers: ``OPEN`` means that the interval allows both, ``WAITS`` that cells are missing."""


THEN = "each at the temperature that its validation images fit"

GAIN = "yes: the difference is that large and its 95 % interval excludes 0; no: the interval ends below it"
SIDES = "yes or no: the 95 % interval lies on one side of 0"
MARGIN = "yes or no: the 90 % interval lies on one side of the margin (one-sided tests at 5 %)"


@dataclass(frozen=True)
class Finding:
    """A question, the answer that its rule gives, and the number that the rule looked at."""

    question: str
    answer: str
    number: str
    rule: str


def goals(bootstrap: Bootstrap, duels: Sequence[Duel]) -> list[Finding]:
    """What is asked of the method: gain, better than chance and than each half, not worse than others, calibrated.

    Args:
        duels: the plan's method against the others, in the plan's metric.
    """
    results, claim = bootstrap.results, bootstrap.results.plan.report
    arms, method, margin = results.plan.arms, results.method, margin_told(claim.margin)
    against, findings = {duel.other: duel for duel in duels}, list[Finding]()

    def ask(question: str, duel: Duel | None, rule: Callable[[Duel], str], words: str) -> None:
        if duel is None:
            findings.append(Finding(question, WAITS, "no cell in common yet", words))
        else:
            findings.append(Finding(question, rule(duel) if duel.complete else WAITS, _number(results, duel), words))

    def margin_rule(duel: Duel) -> str:
        return _not_worse(duel, claim.margin)

    floor = results.floor(claim.metric) or next((e for e in results.planned if arms[e.arm].kind == "probe"), None)
    if floor is not None and floor != method:
        question = f"Is it at least {margin_told(claim.gain)} above the better floor, {floor.title}?"
        ask(question, against.get(floor), lambda duel: _gain(duel, claim.gain), GAIN)
    for other in results.planned:
        arm = arms[other.arm]
        if other == method or arm.kind != "sparse" or other.budget != method.budget:
            continue
        if (control := _control(results.plan, arm)) is not None:
            name, question = control
            tested = Entry(name, other.budget)
            duel = against.get(other) if tested == method else bootstrap.duel(tested, other, claim.metric)
            subject = "it" if tested == method else tested.title
            ask(f"{question}: is {subject} above {other.title}?", duel, _better, SIDES)
        elif arm.score == "random":
            ask(f"Does it matter which weights: is it above {other.title}?", against.get(other), _better, SIDES)
        elif arm.score in ("gradient", "magnitude") and (arm.order, arm.gradients) == ("largest", "own"):
            ask(f"Is it above one half alone, {other.title}?", against.get(other), _better, SIDES)
    rivals = [e for e in results.planned if arms[e.arm].kind == "full"]
    rivals += sorted((e for e in results.planned if arms[e.arm].kind == "lora"), key=lambda e: -arms[e.arm].rank)[:1]
    for other in (rival for rival in rivals if rival != method):
        ask(f"Is it less than {margin} below {other.title}?", against.get(other), margin_rule, MARGIN)
    if floor is not None and floor != method:
        question = f"Is its calibration error less than {margin} above that of {floor.title}"
        ask(f"{question}?", bootstrap.duel(method, floor, "ece"), margin_rule, MARGIN)
        if all("temperature" in record for entry in (method, floor) for record in results.rows(entry)):
            ask(f"{question}, {THEN}?", bootstrap.duel(method, floor, CALIBRATED), margin_rule, MARGIN)
    return findings


def _control(plan: Plan, arm: Arm) -> tuple[str, str] | None:
    """The arm that a control is for, which need not be the method, and what it asks; None of what is no control."""
    if arm.like is not None:
        return arm.like, "Does it matter which weights of each layer"
    if arm.gradients == "own":
        return None
    own = arm.model_copy(update={"gradients": "own"})
    tested = next((name for name, settings in plan.arms.items() if settings == own), None)
    matters = {"shuffled": "which image has which label", "other": "which task the gradients are of"}[arm.gradients]
    return None if tested is None else (tested, f"Does it matter {matters}")


def _number(results: Results, duel: Duel) -> str:
    sets, wanted = len(duel.by_dataset), len(results.plan.datasets)
    return difference_told(duel) + ("" if sets == wanted else f" on {sets} of {wanted} datasets")


def difference_told(duel: Duel) -> str:
    """``+1.2 [-0.3, +2.6]`` points, or in words where no resample shows a difference."""
    if duel.mean.same:
        return "the same predictions" if duel.identical else "the same decisions on every test case"
    return told(duel.mean)


def told(found: Estimate, sign: bool = True) -> str:
    """``+1.2 [-0.3, +2.6]``, in points."""
    value, low, high = (points(v, sign) for v in (found.value, *found.interval()))
    return f"{value} [{low}, {high}]"


def _gain(duel: Duel, gain: float) -> str:
    low, high = duel.mean.interval()
    return YES if low > 0 and duel.mean.value >= gain else NO if high < gain else OPEN


def _better(duel: Duel) -> str:
    return {"better": YES, "worse": NO}.get(duel.mean.verdict, OPEN)


def _not_worse(duel: Duel, margin: float) -> str:
    if duel.tost is None:
        return OPEN
    r = duel.mean.replicates if duel.mean.larger_is_better else -duel.mean.replicates
    return YES if duel.tost.not_worse else NO if np.quantile(r, 0.95) <= -margin else OPEN


@dataclass(frozen=True)
class Kept:
    """What the k largest changes of full fine-tuning keep of it.

    Attributes:
        full: whose changes they are.
        metric: of the reverted model, the mean over datasets.
        loss: reverted − full.
        share: of full fine-tuning's gain over the floor; None where there is no gain to keep.
        complete: every dataset and seed is there, for all three.
    """

    entry: Entry
    full: Entry
    metric: Estimate
    loss: Difference
    share: Estimate | None
    complete: bool

    @property
    def budget(self) -> Budget:
        """k."""
        assert self.entry.budget is not None
        return self.entry.budget


def kept(bootstrap: Bootstrap) -> list[Kept]:
    """For each budget of the plan's revert arms, over the datasets on which it, full fine-tuning and the floor are."""
    results = bootstrap.results
    metric = results.plan.report.metric
    floor, found = results.floor(metric), []
    for entry in results.of_kind("revert"):
        full = Entry(str(results.plan.arms[entry.arm].of), None)
        pairs = {
            dataset: (loss, gain)
            for dataset in results.plan.datasets
            if floor is not None
            and (loss := bootstrap.difference(entry, full, dataset, metric)) is not None
            and (gain := bootstrap.difference(full, floor, dataset, metric)) is not None
        }
        if floor is None or not pairs:
            continue
        loss, gain = (mean_difference([pair[i] for pair in pairs.values()]) for i in (0, 1))
        complete = not any(map(results.pending, (entry, full, floor)))
        share = _share(loss, gain) if gain.verdict == "better" else None
        found.append(Kept(entry, full, bootstrap.estimate(entry, metric, pairs), loss, share, complete))
    arms = list(results.plan.arms)
    return sorted(found, key=lambda k: (arms.index(k.entry.arm), results.typical(k.entry, "trained")))


def _share(loss: Difference, gain: Difference) -> Estimate:
    """1 + loss / gain; replicates without a gain say nothing of its share and are held at no gain's limit."""
    least = np.maximum(gain.replicates, 1e-3)
    return Estimate(1 + loss.value / gain.value, 1 + loss.replicates / least)


def sparsity(results: Results, found: Sequence[Kept]) -> list[Finding]:
    """Whether a few changes carry full fine-tuning's gain, at each k."""
    rule = f"yes or no: the 95 % interval of the share lies on one side of {100 * KEPT:g} %"
    there, findings = {one.entry: one for one in found}, []
    several = len({arm.of for arm in results.plan.arms.values() if arm.kind == "revert"}) > 1
    for entry in results.planned:
        arm = results.plan.arms[entry.arm]
        if arm.kind != "revert" or entry.budget is None:
            continue
        who = f"full fine-tuning ({arm.of})" if several else "full fine-tuning"
        question = f"Do the {size(entry.budget)} that {who} changes most keep {100 * KEPT:g} % of its gain?"
        answer, number = WAITS, "no cell in common yet"
        if (one := there.get(entry)) is not None:
            answer, number = OPEN, "full fine-tuning shows no gain over the floor that could be kept"
            if one.share is not None:
                low, high = one.share.interval()
                answer = YES if low >= KEPT else NO if high < KEPT else OPEN
                number = f"{100 * one.share.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the gain"
            answer = answer if one.complete else WAITS
        findings.append(Finding(question, answer, number, rule))
    return findings


def hybridity(pairs: Sequence[Pair], foretold: Foretold | None) -> list[Finding]:
    """Whether tasks share key weights, need their own, and whether magnitude finds the shared ones."""
    findings = []
    tasks = {(p.arms, p.budget): None for p in pairs if p.kind == "tasks"}
    for arm, budget in tasks:
        between = [p for p in pairs if (p.kind, p.arms, p.budget) == ("tasks", arm, budget)]
        again = [p for p in pairs if (p.kind, p.arms, p.budget) == ("seeds", arm, budget)]
        findings.append(_shared(between, f"{arm}, {size(budget)}"))
        if again:
            findings.append(_own(between, again, f"{arm}, {size(budget)}"))
    return [*findings, *([] if foretold is None else [_agnostic(foretold)])]


def _shared(pairs: Sequence[Pair], what: str) -> Finding:
    share, chance = np.mean([p.share for p in pairs]), np.mean([p.expected / p.k for p in pairs])
    worst = max(p.p for p in pairs)
    inside = sum(n for p in pairs for n, _ in p.layers.values()) / sum(c for p in pairs for _, c in p.layers.values())
    answer = YES if worst * len(pairs) < 0.05 and inside > 1 else NO if inside <= 1 else OPEN
    return Finding(
        f"Do tasks share key weights ({what})?",
        answer,
        f"{100 * share:.1f} % shared, {100 * chance:.2g} % by chance; {inside:.3g} times what each layer's counts give",
        "yes: every pair of tasks shares more than chance gives (hypergeometric, Bonferroni, 5 %), within layers too",
    )


def _own(between: Sequence[Pair], again: Sequence[Pair], what: str) -> Finding:
    a, b = [p.share for p in between], [p.share for p in again]
    answer = YES if max(a) < min(b) else NO if np.mean(a) >= np.mean(b) else OPEN
    return Finding(
        f"Does each task need weights of its own ({what})?",
        answer,
        f"two tasks share {_range(a)}, two seeds of one task {_range(b)}",
        "yes: no two tasks share as much as any two seeds of one task do; no: they share as much on average",
    )


def _range(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.1f} % ({100 * min(shares):.1f} to {100 * max(shares):.1f})"


def _agnostic(found: Foretold) -> Finding:
    hits = ", ".join(
        f"{100 * precision.share:.1f} % at {budget} (chance {100 * precision.chance:.2g} %)"
        for budget, precision in found.precision.items()
    )
    answer = YES if found.correlation >= FORETELLS else NO if found.correlation < HINTS else OPEN
    return Finding(
        "Does magnitude find the weights that all tasks need?",
        answer,
        f"rank correlation with the tasks' consensus {found.correlation:+.3f}; of the consensus' best weights {hits} "
        "are also the largest",
        f"yes: the rank correlation is at least {FORETELLS:g}; no: below {HINTS:g}",
    )
