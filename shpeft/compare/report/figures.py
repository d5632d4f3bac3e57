"""Draw the figures of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shpeft import figures
from shpeft.compare.analysis.hypotheses import compared_with_method
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Entry, Ranking, Results
from shpeft.compare.analysis.retained_gain import RetainedGain
from shpeft.compare.analysis.support_overlap import SupportPair, grouped
from shpeft.compare.measures import SMALLER_IS_BETTER
from shpeft.support.formatting import METRIC_TITLES


def draw_figures(
    bootstrap: Bootstrap,
    comparisons: Sequence[PairedComparison],
    gains: Sequence[RetainedGain],
    pairs: Sequence[SupportPair] = (),
) -> dict[str, tuple[str, Any]]:
    """Draw all figures of a report: by file name, the caption and the plotly figure."""
    results = bootstrap.results
    metric, method = results.metric, results.method
    drawn = {
        "differences": (
            f"{method.title} minus each other arm, mean over datasets, 95 % intervals; green: too small to matter.",
            differences(comparisons, results.margin(metric)),
        ),
        "ranks": (
            "Mean ranks over datasets; the bar is Nemenyi's critical difference around the method.",
            ranks(results.ranking(metric), method),
        ),
        "weights": (
            "The metric against the number of trained weights, mean over datasets.",
            weights(results, metric, method),
        ),
    }
    if gains:
        drawn["sparsity"] = (
            "Only the k largest changes of full fine-tuning, mean over datasets, 95 % intervals.",
            sparsity(results, gains),
        )
    if (lines := against_budget(bootstrap, metric, method)) is not None:
        intervals = f", with 95 % intervals of {method.arm}" if method in results.of_kind("sparse") else ""
        caption = f"The metric against the budget, mean over datasets{intervals}; level lines: arms without one."
        drawn["budgets"] = caption, lines
    if pairs:
        drawn["overlaps"] = "Weights that two supports share, mean over pairs, and by chance.", overlaps(pairs)
    return drawn


def against_budget(bootstrap: Bootstrap, metric: str, method: Entry) -> Any | None:
    """Draw a line for each score over its budgets, and levels of arms without one; None if no arm has two budgets.

    Only the method's intervals are drawn, since those of all lines would cover each other.
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
                intervals.append(bootstrap.estimate(entry, metric, results.common[1]).interval())
    if all(len(xs) < 2 for xs, _ in lines.values()):
        return None
    levels = {e.arm: results.mean(e, metric) for e in compared_with_method(results) if e.budget is None}
    known = {arm: value for arm, value in levels.items() if value is not None}
    return figures.metric_by_budget(lines, known, intervals={method.arm: intervals}, **_axis(results, metric))


def differences(
    comparisons: Sequence[PairedComparison], margin: float | None = None, dataset: str | None = None
) -> Any:
    """Draw the differences of a method and each other arm, averaged over datasets or on one."""
    shown = [(d.other.title, d.mean if dataset is None else d.by_dataset[dataset]) for d in comparisons]
    return figures.paired_differences(
        [title for title, _ in shown],
        [difference.value for _, difference in shown],
        [difference.interval() for _, difference in shown],
        margin=margin,
        unit=f"{METRIC_TITLES[comparisons[0].metric].lower()}, {comparisons[0].scale.unit}" if comparisons else "",
        factor=comparisons[0].scale.factor if comparisons else 100,
        decimals=comparisons[0].scale.decimals if comparisons else 1,
        larger_is_better=all(difference.larger_is_better for _, difference in shown),
    )


def ranks(ranking: Ranking | None, method: Entry) -> Any:
    """Draw mean ranks, with the critical difference around one arm."""
    if ranking is None:
        return figures.mean_ranks([], [])
    titles = [entry.title for entry in ranking.entries]
    return figures.mean_ranks(titles, ranking.ranks, method.title, ranking.critical)


def weights(results: Results, metric: str, method: Entry) -> Any:
    """Draw a metric against the trained share of the backbone, over the datasets that all arms have."""
    entries, datasets = results.common
    shares = [results.typical(e, "share") for e in entries]
    values = [results.mean(e, metric, datasets) or 0.0 for e in entries]
    better = metric not in SMALLER_IS_BETTER
    titles = [e.title for e in entries]
    return figures.metric_by_trained_share(
        titles, shares, values, method.title, larger_is_better=better, **_axis(results, metric)
    )


def sparsity(results: Results, gains: Sequence[RetainedGain]) -> Any:
    """Draw the metric against k, between the baseline and full fine-tuning."""
    metric = results.metric
    datasets = tuple(d for d in results.plan.datasets if all(results.rows(g.entry, d) for g in gains))
    ends = [*dict.fromkeys(g.full for g in gains), results.baseline(metric)]
    levels = {end.title: results.mean(end, metric, datasets) for end in ends if end is not None}
    arms = dict.fromkeys(g.entry.arm for g in gains)
    lines = {arm: [g for g in gains if g.entry.arm == arm] for arm in arms}
    return figures.metric_by_budget(
        {
            arm: ([results.typical(g.entry, "share") for g in line], [g.metric.value for g in line])
            for arm, line in lines.items()
        },
        {title: value for title, value in levels.items() if value is not None},
        intervals={arm: [g.metric.interval() for g in line] for arm, line in lines.items()},
        **_axis(results, metric),
    )


def _axis(results: Results, metric: str) -> dict[str, Any]:
    """Return how a figure writes a metric: the title of its axis, and the factor and the decimals of its values."""
    scale = results.scale(metric)
    unit = f"{METRIC_TITLES[metric].lower()}, {scale.unit}"
    return {"unit": unit, "factor": scale.factor, "decimals": scale.decimals}


def overlaps(pairs: Sequence[SupportPair]) -> Any:
    """Draw the shares of two supports, and those by chance, a row for all pairs of a kind."""
    groups = grouped(pairs)
    return figures.shared_weights(
        list(groups),
        [float(np.mean([pair.share for pair in group])) for group in groups.values()],
        [float(np.mean([pair.expected / pair.k for pair in group])) for group in groups.values()],
    )
