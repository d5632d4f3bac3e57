"""The figures of a report, drawn from the table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shpeft import figures
from shpeft.compare.overlaps import Pair, grouped
from shpeft.compare.results import Duel, Results
from shpeft.runs.card import METRICS


def pictures(results: Results, duels: Sequence[Duel], pairs: Sequence[Pair] = ()) -> dict[str, tuple[str, Any]]:
    """By file name: a caption, and the plotly figure."""
    metric, method = results.plan.report.metric, results.method
    unit = f"{METRICS[metric].lower()}, points"
    order, ranks = results.ranking(metric) or ([], None)
    complete = [(e, value) for e in results.entries if (value := results.mean(e, metric)) is not None]
    shares = [float(np.mean([r["share"] for r in results.rows(e)])) for e, _ in complete]
    drawn = {
        "differences": (
            f"{method.title} against each arm, mean over datasets, 95 % intervals; green: too small to matter.",
            figures.differences(
                [duel.other.title for duel in duels],
                [duel.mean.value for duel in duels],
                [duel.mean.interval() for duel in duels],
                margin=results.plan.report.margin,
                unit=unit,
            ),
        ),
        "ranks": (
            "Mean ranks over datasets.",
            figures.mean_ranks([e.title for e in order], ranks.mean if ranks else [], method.title),
        ),
        "weights": (
            "What more trained weights buy, mean over datasets.",
            figures.against_weights(
                [e.title for e, _ in complete], shares, [v for _, v in complete], method.title, unit=unit
            ),
        ),
    }
    lines, levels = _budgets(results, metric)
    if any(len(xs) > 1 for xs, _ in lines.values()):
        caption = "Against the budget, mean over datasets; dotted: arms without a budget."
        drawn["budgets"] = caption, figures.against_budget(lines, levels, unit=unit)
    if pairs:
        drawn["overlaps"] = (
            "Weights that two choices share, mean over pairs, beside chance.",
            figures.shared_against_chance(
                list(groups := grouped(pairs)),
                [float(np.mean([pair.share for pair in group])) for group in groups.values()],
                [float(np.mean([pair.expected / pair.k for pair in group])) for group in groups.values()],
            ),
        )
    return drawn


def _budgets(results: Results, metric: str) -> tuple[dict[str, tuple[list[float], list[float]]], dict[str, float]]:
    """For each arm with a budget its shares and values; for the others the value."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    levels: dict[str, float] = {}
    for entry in results.entries:
        value = results.mean(entry, metric)
        if value is None:
            continue
        if entry.budget is None:
            levels[entry.arm] = value
            continue
        xs, ys = lines.setdefault(entry.arm, ([], []))
        xs.append(float(np.mean([r["share"] for r in results.rows(entry)])))
        ys.append(value)
    return lines, levels
