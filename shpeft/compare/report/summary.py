"""The summary of a report in sentences that follow from the intervals, and what is still missing."""

from collections import Counter
from collections.abc import Sequence

from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.hypotheses import (
    CALIBRATED_CLAUSE,
    NO,
    PENDING,
    YES,
    Verdict,
    compared_with_method,
)
from shpeft.compare.analysis.paired_comparison import PairedComparison
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.cells import list_cells
from shpeft.compare.measures import CALIBRATED, within_sentence
from shpeft.compare.report.markdown import table
from shpeft.support.formatting import METRIC_TITLES, percent

VERDICT_PHRASES = {"better": "better than", "worse": "worse than", "tie": "tied with", "same": "identical to"}
"""Verdicts of a paired difference in a sentence, in the order in which they are listed."""


def answer(results: Results, comparisons: Sequence[PairedComparison], verdicts: Sequence[Verdict]) -> str:
    """Write what the method reaches, how it compares with others, and how certain that is.

    Args:
        results: the results of the plan.
        comparisons: the method against every other arm; those that the plan's questions name are described.
        verdicts: the answers to the questions about the method.
    """
    named = compared_with_method(results)
    shown = [comparison for comparison in comparisons if comparison.other in named]
    if not shown:
        return "There is no answer yet: the method has no cell in common with another arm."
    finished, planned = len(results.records), len(list_cells(results.plan))
    warning = ""
    if finished < planned:
        warning = f"**This is not a result yet**: {finished} of {planned} cells are finished. So far: "
    first = f"{warning}{_method(results)} {_counts(shown)}"
    last = [_adjusted(comparisons, shown), _calibration(verdicts), _detectable(shown), _edges(results)]
    return "\n\n".join([first, "\n".join(_lines(results, shown)), " ".join(filter(None, last))])


def _counts(shown: Sequence[PairedComparison]) -> str:
    counts = Counter(comparison.mean.verdict for comparison in shown)
    listed = [
        f"{phrase} {counts[verdict] or 'none'}"
        for verdict, phrase in VERDICT_PHRASES.items()
        if verdict != "same" or counts[verdict]
    ]
    arms = "arm" if len(shown) == 1 else "arms"
    return f"Of the {len(shown)} {arms} that it is compared with here, it is {', '.join(listed)}."


def _method(results: Results) -> str:
    method, metric = results.method, results.metric
    scale = results.scale(metric)
    records = results.rows(method)
    datasets = tuple(d for d in results.plan.datasets if results.rows(method, d))
    cases = sum(results.rows(method, d)[0]["cases"]["test"] for d in datasets)
    trained, share = results.typical(method, "trained"), results.typical(method, "share")
    seeds = len({r["seed"] for r in records})
    images = "test images" if results.plan.tested_on == "test" else "images held out of the training splits"
    explained = " (the recall averaged over classes)" if metric == "balanced_accuracy" else ""
    others = [
        f"for {plain_name(results, entry)} it is {scale.text(level)}"
        for entry in compared_with_method(results)
        if results.plan.arms[entry.arm].kind in ("probe", "head", "full")
        and (level := results.mean(entry, metric, datasets)) is not None
    ]
    return (
        f"**{method.title}** trains {trained:,.0f} of the model's weights ({percent(share)}). On {_datasets(datasets)} "
        f"with {cases:,} {images} in total, averaged over {seeds} training run{'s' * (seeds > 1)} on each, its "
        f"{within_sentence(METRIC_TITLES[metric])}{explained} is "
        f"{scale.text(results.mean(method, metric, datasets))} {scale.unit}{'; ' if others else ''}{', '.join(others)}."
    )


def _datasets(datasets: Sequence[str]) -> str:
    return "one dataset" if len(datasets) == 1 else f"{len(datasets)} datasets"


def _lines(results: Results, shown: Sequence[PairedComparison]) -> list[str]:
    """Write a line for each comparison, by verdict; every number has its interval."""
    margin = results.margin(results.metric)
    lines = []
    for verdict, phrase in VERDICT_PHRASES.items():
        first, _, rest = phrase.partition(" ")
        lines += [
            f"- **{first.capitalize()}** {rest} {plain_name(results, comparison.other)}: "
            f"{describe_comparison(comparison, margin)}."
            for comparison in shown
            if comparison.mean.verdict == verdict
        ]
    return lines


def plain_name(results: Results, entry: Entry) -> str:
    """Return what an arm is in plain words, from the plan or by its kind, with its name in parentheses."""
    arm = results.plan.arms[entry.arm]
    by_kind = {"probe": "the frozen model", "head": "the frozen model", "full": "full fine-tuning"}
    name = results.plan.report.names.get(entry.arm, by_kind.get(arm.kind, ""))
    if not name and arm.kind == "sparse" and arm.score == "random":
        name = "random weights of the same layers" if arm.like else "weights selected at random"
    return f"{name} ({entry.title})" if name else entry.title


def describe_comparison(comparison: PairedComparison, margin: float | None) -> str:
    """Write ``+1.0 [-0.2, +2.1] points; better on 1, tied on 4 of 5 datasets; at most 1 point worse``."""
    parts = [format_difference(comparison) + ("" if comparison.mean.same else f" {comparison.scale.unit}")]
    if len(comparison.by_dataset) > 1 and not comparison.mean.same:
        labels = {verdict: phrase.partition(" ")[0] for verdict, phrase in VERDICT_PHRASES.items()}
        counts = ", ".join(f"{labels[verdict]} on {n}" for verdict, n in comparison.counts.items() if n)
        parts.append(f"{counts} of {len(comparison.by_dataset)} datasets")
    if comparison.tost is None or margin is None:
        return "; ".join(parts)
    if comparison.tost.equivalent:
        parts.append(f"equivalent within {comparison.scale.margin(margin)}")
    elif comparison.tost.not_worse and comparison.mean.verdict != "better":
        parts.append(f"not worse by {comparison.scale.margin(margin)} or more")
    return "; ".join(parts)


def _adjusted(comparisons: Sequence[PairedComparison], shown: Sequence[PairedComparison]) -> str:
    """Say which differences remain after adjustment for all comparisons of the table."""
    settled = [comparison for comparison in shown if comparison.mean.verdict in ("better", "worse")]
    brackets = "Brackets hold 95 % intervals, not adjusted for the number of comparisons."
    if not settled:
        return brackets
    left = [comparison.other.title for comparison in settled if comparison.holm < 0.05]
    remains = f"the difference to {', '.join(left)} remains" if left else "none of these differences remains"
    return f"{brackets} After Holm's adjustment for all {len(comparisons)} comparisons of the table, {remains}."


def _calibration(verdicts: Sequence[Verdict]) -> str:
    answered = [v for v in verdicts if v.metric in ("ece", CALIBRATED) and v.answer != PENDING]
    if not answered:
        return ""
    phrases = {YES: "are not less reliable than", NO: "are less reliable than"}
    parts = [
        f"{phrases.get(v.answer, 'are not shown to be as reliable as')} the frozen model's (calibration error "
        f"{v.evidence} points{', ' + CALIBRATED_CLAUSE if v.metric == CALIBRATED else ''})"
        for v in answered
    ]
    return f"Its probabilities {'; they '.join(parts)}."


def _detectable(shown: Sequence[PairedComparison]) -> str:
    smallest = sorted(comparison.mean.smallest for comparison in shown if comparison.mean.smallest is not None)
    if not smallest:
        return ""
    scale = shown[0].scale
    span = " to ".join(dict.fromkeys((scale.text(smallest[0]), scale.text(smallest[-1]))))
    return (
        f"These test images and training runs can show differences of about {span} {scale.unit}; smaller ones mostly "
        "appear as ties."
    )


def _edges(results: Results) -> str:
    """Name the compared arms whose learning rates may not be at their best."""
    datasets = len(results.plan.datasets)
    weak = [e.title for e in compared_with_method(results) if 2 * len(results.edges(e)) >= datasets]
    if not weak:
        return ""
    return (
        f"Some of these arms may do better than shown: for {', '.join(weak)} the best learning rate is at an edge of "
        "the grid on at least half of the datasets."
    )


def describe_ranks(results: Results, metric: str, method: Entry | None = None) -> str:
    """Write what mean ranks show: Friedman's test, Nemenyi's critical difference, and which arms differ by it."""
    ranking, method = results.ranking(metric), method or results.method
    if ranking is None:
        return "No two arms have a dataset in common yet, so there are no ranks."
    n, planned = len(ranking.datasets), len(results.plan.datasets)
    so_far = "" if n == planned else f" of {planned}, so far"
    lines = [f"Rank 1 is the best; mean over {n} dataset{'s' * (n > 1)}{so_far}."]
    if ranking.p is not None:
        lines.append(f"Friedman's test that all arms are equal: p = {ranking.p:.2g}.")
    lines.append(
        f"By Nemenyi's test (5 %, all pairs of {len(ranking.entries)} arms), two mean ranks must be "
        f"{ranking.critical:.1f} apart"
    )
    if method in ranking.rank:
        apart = [e.title for e, r in ranking.rank.items() if abs(r - ranking.rank[method]) >= ranking.critical]
        lines[-1] += f": {method.title} differs from {', '.join(apart) if apart else 'none'}"
    lines[-1] += "."
    return " ".join(lines)


def missing_table(results: Results) -> str:
    """Write a table of the number of missing cells, by arm and dataset."""
    missing = Counter((Entry(c.arm, c.budget), c.dataset) for c in results.missing)
    planned = Counter((Entry(c.arm, c.budget), c.dataset) for c in list_cells(results.plan))
    datasets = results.plan.datasets
    rows = [
        [e.title, *(f"{missing[e, d]} of {planned[e, d]}" if missing[e, d] else "" for d in datasets)]
        for e in results.planned
        if any(missing[e, d] for d in datasets)
    ]
    return table(["missing", *datasets], rows)


def missing_section(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Write which cells are missing and which questions are pending; empty where the table is complete."""
    pending = [f"- {verdict.question}" for verdict in verdicts if verdict.answer == PENDING]
    if not results.missing and not pending:
        return ""
    planned = len(list_cells(results.plan))
    parts = [f"## What is missing\n\n{len(results.missing)} of {planned} cells are not finished."]
    if results.missing:
        parts.append(missing_table(results))
    if pending:
        parts.append("These questions cannot be answered yet:\n\n" + "\n".join(pending))
    return "\n\n".join(parts)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Write a table of questions, answers, evidence and rules."""
    rules = list(dict.fromkeys(v.rule for v in verdicts))
    rows = [[v.question, f"**{v.answer}**", v.evidence, f"({rules.index(v.rule) + 1})"] for v in verdicts]
    listed = "\n".join(f"{n}. {rule}" for n, rule in enumerate(rules, 1))
    body = table(["question", "answer", "evidence", "rule"], rows)
    return f"{body}\n\nRules; where neither yes nor no applies, the answer is *not shown*:\n\n{listed}"
