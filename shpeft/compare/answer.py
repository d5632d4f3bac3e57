"""The answer in words that follow from the intervals, for people who do not read tables; and what is still missing."""

from collections import Counter
from collections.abc import Sequence

from shpeft.compare.claims import NO, THEN, WAITS, YES, Finding, difference_told
from shpeft.compare.duels import Duel
from shpeft.compare.markdown import WORDS, margin_told, points, table
from shpeft.compare.results import Entry, Results
from shpeft.runs.card import METRICS, percent


def answer(results: Results, duels: Sequence[Duel], findings: Sequence[Finding]) -> str:
    """A paragraph: what was tried, against what it won, tied and lost, and how sure that is.

    Args:
        duels: the method against the others; those that the goals ask about are told.
    """
    told = [duel for duel in duels if duel.other in rivals(results)]
    if not told:
        return "There is no answer yet: the method has no cell in common with another arm."
    done, asked = len(results.records), len(results.plan.cells())
    unfinished = f"**This is no result yet**: {done} of {asked} cells are done. So far: " if done < asked else ""
    sure = " ".join(filter(None, [_together(duels, told), _calibration(findings), _limit(told), _edges(results)]))
    lines = "\n".join(_against(results, told))
    return "\n\n".join([f"{unfinished}{_what(results)} {_in_short(told)}", lines, sure])


def _in_short(told: Sequence[Duel]) -> str:
    counts = Counter(duel.mean.verdict for duel in told)
    parts = {"better": "it wins against", "worse": "loses to", "tie": "ties with", "same": "is the same as"}
    listed = [f"{words} {counts[word] or 'none'}" for word, words in parts.items() if word != "same" or counts[word]]
    return f"Of the {len(told)} that it is held against here, {', '.join(listed)}."


def rivals(results: Results) -> list[Entry]:
    """Whom the goals hold the method against: the better floor, random weights, the halves, full fine-tuning, LoRA."""
    arms, method, floor = results.plan.arms, results.method, results.floor(results.plan.report.metric)
    lora = max((e for e in results.of_kind("lora")), key=lambda e: arms[e.arm].rank, default=None)
    halves = [
        e
        for e in results.of_kind("sparse")
        if arms[e.arm].score in ("random", "gradient", "magnitude")
        and arms[e.arm].like in (None, method.arm)  # the layers of another arm are no control of this one
        and (arms[e.arm].order, arms[e.arm].gradients, e.budget) == ("largest", "own", method.budget)
    ]
    found = [floor, *halves, *results.of_kind("full"), lora]
    return [entry for entry in found if entry is not None and entry != method]


def _what(results: Results) -> str:
    method, metric = results.method, results.plan.report.metric
    rows = results.rows(method)
    datasets = tuple(d for d in results.plan.datasets if results.rows(method, d))
    cases = sum(results.rows(method, d)[0]["cases"]["test"] for d in datasets)
    trained, share = results.typical(method, "trained"), results.typical(method, "share")
    seeds = len({r["seed"] for r in rows})
    value = points(results.mean(method, metric, datasets))
    found = f"has a {METRICS[metric].lower()} of {value} points"
    if metric == "balanced_accuracy":
        found = f"finds {value} % of the cases of a class, the mean over classes (balanced accuracy)"
    images = "test images" if results.plan.tested_on == "test" else "images held out of the training splits"
    levels = [
        f"{_called(results, entry)} {'finds' if metric == 'balanced_accuracy' else 'has'} {points(level)}"
        for entry in rivals(results)
        if results.plan.arms[entry.arm].kind in ("probe", "head", "full")
        and (level := results.mean(entry, metric, datasets)) is not None
    ]
    return (
        f"**{method.title}** trains {trained:,.0f} of the model's weights ({percent(share)}). On {_sets(datasets)} "
        f"with {cases:,} {images} together, and as the mean over {seeds} training run{'s' * (seeds > 1)} on each, "
        f"it {found}{'; ' if levels else ''}{', '.join(levels)}."
    )


def _sets(datasets: Sequence[str]) -> str:
    return "one set of images" if len(datasets) == 1 else f"{len(datasets)} sets of images"


def _against(results: Results, told: Sequence[Duel]) -> list[str]:
    """A line for each rival, by verdict; every number with its interval."""
    begin = {
        "better": "**Won** against",
        "worse": "**Lost** to",
        "tie": "**A tie** with",
        "same": "**The same** as",
    }
    return [
        f"- {words} {_called(results, duel.other)}: {one_told(duel, results.plan.report.margin)}."
        for verdict, words in begin.items()
        for duel in told
        if duel.mean.verdict == verdict
    ]


def _called(results: Results, entry: Entry) -> str:
    """An arm for those who do not know its name, which follows in brackets."""
    arm = results.plan.arms[entry.arm]
    words = {"probe": "the frozen model", "head": "the frozen model", "full": "full fine-tuning"}.get(arm.kind, "")
    if arm.kind == "sparse" and arm.score == "random":
        words = "random weights of the same layers" if arm.like else "weights chosen at random"
    elif arm.kind == "sparse":
        words = {"gradient": "the task's half alone", "magnitude": "the task-agnostic half alone"}[arm.score]
    return f"{words} ({entry.title})" if words else entry.title


def one_told(duel: Duel, margin: float) -> str:
    """``+1.0 [-0.2, +2.1] points; won on 1, a tie on 4 of 5 sets; less than 1 point behind, if at all``."""
    parts = [difference_told(duel) + ("" if duel.mean.same else " points")]
    if len(duel.by_dataset) > 1 and not duel.mean.same:
        counts = ", ".join(f"{WORDS[word]} on {n}" for word, n in duel.counts.items() if n)
        parts.append(f"{counts} of {len(duel.by_dataset)} sets")
    if duel.tost is not None and duel.tost.equivalent:
        parts.append(f"equivalent within {margin_told(margin)}")
    elif duel.tost is not None and duel.tost.not_worse and duel.mean.verdict != "better":
        parts.append(f"less than {margin_told(margin)} behind, if at all")
    return "; ".join(parts)


def _together(duels: Sequence[Duel], told: Sequence[Duel]) -> str:
    """What is left of the wins and losses when all comparisons of the table are allowed for."""
    settled = [duel for duel in told if duel.mean.verdict in ("better", "worse")]
    brackets = "In brackets: 95 % intervals, each for itself."
    if not settled:
        return brackets
    left = [duel.other.title for duel in settled if duel.holm < 0.05]
    remains = f"what remains is that against {', '.join(left)}" if left else "none of these wins and losses remains"
    return f"{brackets} When all {len(duels)} comparisons of the table are allowed for (Holm), {remains}."


def _edges(results: Results) -> str:
    """Rivals that were perhaps not tried at their best."""
    sets = len(results.plan.datasets)
    weak = [e.title for e in rivals(results) if 2 * len(results.edges(e)) >= sets]
    if not weak:
        return ""
    return (
        f"Not all rivals may stand at their best: for {', '.join(weak)} the best learning rate lies at an edge of what "
        "was tried on half of the sets or more."
    )


def _calibration(findings: Sequence[Finding]) -> str:
    found = [f for f in findings if "calibration" in f.question and f.answer != WAITS]
    if not found:
        return ""
    says = {YES: "are no less reliable than", NO: "are less reliable than"}
    parts = [
        f"{says.get(f.answer, 'are not shown to be as reliable as')} the frozen model's (calibration error {f.number} "
        f"points{', ' + THEN if THEN in f.question else ''})"
        for f in found
    ]
    return f"Its probabilities {'; they '.join(parts)}."


def _limit(told: Sequence[Duel]) -> str:
    known = sorted(duel.mean.smallest for duel in told if duel.mean.smallest is not None)
    if not known:
        return ""
    span = " to ".join(dict.fromkeys((points(known[0]), points(known[-1]))))
    return (
        f"These test images and training runs can show differences of about {span} points; smaller ones would mostly "
        "pass for a tie."
    )


def ranks_told(results: Results, metric: str, method: Entry | None = None) -> str:
    """What mean ranks can and cannot show: Friedman's test, Nemenyi's critical difference, and their limits."""
    found, method = results.ranking(metric), method or results.method
    if found is None:
        return "No two arms have a dataset in common yet, so there are no ranks."
    n, most = len(found.datasets), len(results.plan.datasets)
    lines = [f"Rank 1 is the best; mean over {n} dataset{'s' * (n > 1)}{'' if n == most else f' of {most}, so far'}."]
    if found.p is not None:
        lines.append(f"Friedman's test that all are equal: p = {found.p:.2g}.")
    lines.append(
        f"By Nemenyi's test (5 %, all pairs of {len(found.entries)} arms) two mean ranks must be "
        f"{found.critical:.1f} apart"
    )
    if method in found.rank:
        apart = [e.title for e, r in found.rank.items() if abs(r - found.rank[method]) >= found.critical]
        lines[-1] += f": {method.title} {'differs from ' + ', '.join(apart) if apart else 'differs from none'}"
    lines[-1] += "."
    return " ".join(lines)


def missing(results: Results) -> str:
    """How many cells are missing of how many, arm by arm and dataset by dataset."""
    of = Counter((Entry(c.arm, c.budget), c.dataset) for c in results.missing)
    wanted = Counter((Entry(c.arm, c.budget), c.dataset) for c in results.plan.cells())
    rows = [
        [e.title, *(f"{of[e, d]} of {wanted[e, d]}" if of[e, d] else "" for d in results.plan.datasets)]
        for e in results.planned
        if any(of[e, d] for d in results.plan.datasets)
    ]
    return table(["missing", *results.plan.datasets], rows)


def unfinished(results: Results, findings: Sequence[Finding]) -> str:
    """Which cells are missing, arm by arm, and which questions wait for them; nothing where all are there."""
    waiting = [f"- {finding.question}" for finding in findings if finding.answer == WAITS]
    if not results.missing and not waiting:
        return ""
    parts = [f"## What is missing\n\n{len(results.missing)} of {len(results.plan.cells())} cells are not done."]
    if results.missing:
        parts.append(missing(results))
    if waiting:
        parts.append("These questions cannot be answered yet:\n\n" + "\n".join(waiting))
    return "\n\n".join(parts)


def asked(findings: Sequence[Finding]) -> str:
    """The questions with their answers, numbers and rules."""
    rules = list(dict.fromkeys(f.rule for f in findings))
    rows = [[f.question, f"**{f.answer}**", f.number, f"({rules.index(f.rule) + 1})"] for f in findings]
    told = "\n".join(f"{n}. {rule}" for n, rule in enumerate(rules, 1))
    body = table(["question", "answer", "found", "rule"], rows)
    return f"{body}\n\nRules; what none of them settles is *not shown*:\n\n{told}"
