"""The figures of a report, drawn from the table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shpeft import figures
from shpeft.compare import answer
from shpeft.compare.claims import Kept
from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.overlaps import Pair, grouped
from shpeft.compare.results import Entry, Ranking, Results
from shpeft.runs.card import METRICS


def pictures(
    bootstrap: Bootstrap, duels: Sequence[Duel], kept: Sequence[Kept], pairs: Sequence[Pair] = ()
) -> dict[str, tuple[str, Any]]:
    """By file name: a caption, and the plotly figure."""
    results = bootstrap.results
    metric, method = results.plan.report.metric, results.method
    drawn = {
        "differences": (
            f"{method.title} against each arm, mean over datasets, 95 % intervals; green: too small to matter.",
            differences(duels, results.plan.report.margin),
        ),
        "ranks": (
            "Mean ranks over datasets; the bar is Nemenyi's critical difference around the method.",
            ranks(results.ranking(metric), method),
        ),
        "weights": ("What more trained weights buy, mean over datasets.", weights(results, metric, method)),
    }
    if kept:
        drawn["sparsity"] = (
            "The k largest changes of full fine-tuning alone, mean over datasets, 95 % intervals.",
            sparsity(results, kept),
        )
    if (lines := against_budget(bootstrap, metric, method)) is not None:
        sure = f", with 95 % intervals of {method.arm}" if method in results.of_kind("sparse") else ""
        drawn["budgets"] = f"Against the budget, mean over datasets{sure}; level lines: arms without a budget.", lines
    if pairs:
        drawn["overlaps"] = "Weights that two choices share, mean over pairs, beside chance.", overlaps(pairs)
    return drawn


def against_budget(bootstrap: Bootstrap, metric: str, method: Entry) -> Any | None:
    """A line a score over its budgets, and the levels of the rivals that have none; None where each has one.

    One arm's intervals are drawn: all of them would cover each other.
    """
    results = bootstrap.results
    lines: dict[str, tuple[list[float], list[float]]] = {}
    intervals = []
    for entry in results.of_kind("sparse"):
        if (value := results.mean(entry, metric)) is not None:
            xs, ys = lines.setdefault(entry.arm, ([], []))
            xs.append(results.typical(entry, "share"))
            ys.append(value)
            if entry.arm == method.arm:
                intervals.append(bootstrap.estimate(entry, metric, results.plan.datasets).interval())
    if all(len(xs) < 2 for xs, _ in lines.values()):
        return None
    levels = {e.arm: results.mean(e, metric) for e in answer.rivals(results) if e.budget is None}
    known = {arm: value for arm, value in levels.items() if value is not None}
    unit = f"{METRICS[metric].lower()}, points"
    return figures.against_budget(lines, known, intervals={method.arm: intervals}, unit=unit)


def differences(duels: Sequence[Duel], margin: float | None = None, dataset: str | None = None) -> Any:
    """An arm against each other, in the mean or on one dataset."""
    shown = [(d.other.title, d.mean if dataset is None else d.by_dataset[dataset]) for d in duels]
    return figures.differences(
        [title for title, _ in shown],
        [found.value for _, found in shown],
        [found.interval() for _, found in shown],
        margin=margin,
        unit=f"{METRICS[duels[0].metric].lower()}, points" if duels else "",
        larger_is_better=all(found.larger_is_better for _, found in shown),
    )


def ranks(ranking: Ranking | None, method: Entry) -> Any:
    """Mean ranks, with the critical difference around one arm."""
    if ranking is None:
        return figures.mean_ranks([], [])
    titles = [entry.title for entry in ranking.entries]
    return figures.mean_ranks(titles, ranking.ranks, method.title, ranking.critical)


def weights(results: Results, metric: str, method: Entry) -> Any:
    """A metric against how much of the backbone is trained, over the datasets that all of the arms have."""
    entries, datasets = results.common
    shares = [results.typical(e, "share") for e in entries]
    values = [results.mean(e, metric, datasets) or 0.0 for e in entries]
    unit = f"{METRICS[metric].lower()}, points"
    return figures.against_weights([e.title for e in entries], shares, values, method.title, unit=unit)


def sparsity(results: Results, kept: Sequence[Kept]) -> Any:
    """The metric against k, between the floor and full fine-tuning."""
    metric = results.plan.report.metric
    datasets = tuple(d for d in results.plan.datasets if all(results.rows(one.entry, d) for one in kept))
    ends = [*dict.fromkeys(one.full for one in kept), results.floor(metric)]
    levels = {end.title: results.mean(end, metric, datasets) for end in ends if end is not None}
    lines = {arm: [one for one in kept if one.entry.arm == arm] for arm in dict.fromkeys(k.entry.arm for k in kept)}
    return figures.against_budget(
        {
            arm: ([results.typical(one.entry, "share") for one in line], [one.metric.value for one in line])
            for arm, line in lines.items()
        },
        {title: value for title, value in levels.items() if value is not None},
        intervals={arm: [one.metric.interval() for one in line] for arm, line in lines.items()},
        unit=f"{METRICS[metric].lower()}, points",
    )


def overlaps(pairs: Sequence[Pair]) -> Any:
    """What two choices share, beside chance, a row for all pairs of a kind."""
    groups = grouped(pairs)
    return figures.shared_against_chance(
        list(groups),
        [float(np.mean([pair.share for pair in group])) for group in groups.values()],
        [float(np.mean([pair.expected / pair.k for pair in group])) for group in groups.values()],
    )
