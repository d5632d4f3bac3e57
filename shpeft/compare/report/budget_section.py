"""The report's section on budgets: what more trained weights bring, score by score."""

from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, size
from shpeft.compare.arm import Budget
from shpeft.compare.measures import NONE
from shpeft.compare.report.markdown import table
from shpeft.support.formatting import METRIC_TITLES


def budget_section(bootstrap: Bootstrap) -> str:
    """Write the metric of each score at each budget, and the method's differences; empty with a single budget."""
    results = bootstrap.results
    sparse = [entry for entry in results.planned if results.plan.arms[entry.arm].kind == "sparse"]
    budgets = list(dict.fromkeys(entry.budget for entry in sparse if entry.budget is not None))
    if len(budgets) < 2:
        return ""
    metric, method = results.metric, results.method.arm
    scores = list(dict.fromkeys(entry.arm for entry in sparse))
    head = [f"{size(budget)}{_trained(bootstrap, method, budget)}" for budget in budgets]
    levels = [[arm, *(_level(bootstrap, Entry(arm, budget)) for budget in budgets)] for arm in scores]
    others = [arm for arm in scores if arm != method]
    others += [entry.arm for entry in results.planned if entry.budget is None]
    against = [
        [arm, *(_difference(bootstrap, Entry(method, b), Entry(arm, b if arm in scores else None)) for b in budgets)]
        for arm in others
    ]
    return (
        f"## What more trained weights bring\n\n{METRIC_TITLES[metric]}, mean over datasets and seeds, in "
        f"{results.scale(metric).unit}:\n\n"
        f"{table(['score', *head], levels)}\n\n{method} at each budget minus the other arm, at the same budget where "
        f"it has one, with 95 % intervals (bold: 0 is outside):\n\n{table(['against', *head], against)}"
    )


def _trained(bootstrap: Bootstrap, arm: str, budget: Budget) -> str:
    entry = Entry(arm, budget)
    if budget >= 1 or not bootstrap.results.rows(entry):
        return ""
    return f" ({bootstrap.results.typical(entry, 'trained'):,.0f})"


def _level(bootstrap: Bootstrap, entry: Entry) -> str:
    results = bootstrap.results
    datasets = tuple(d for d in results.plan.datasets if results.rows(entry, d))
    if not datasets:
        return NONE
    level = results.scale(results.metric).text(results.mean(entry, results.metric, datasets))
    return level + _coverage(bootstrap, len(datasets))


def _difference(bootstrap: Bootstrap, method: Entry, other: Entry) -> str:
    comparison = bootstrap.compare(method, other, bootstrap.results.metric)
    if comparison is None:
        return NONE
    difference = format_difference(comparison)
    settled = comparison.mean.verdict in ("better", "worse")
    return (f"**{difference}**" if settled else difference) + _coverage(bootstrap, len(comparison.by_dataset))


def _coverage(bootstrap: Bootstrap, datasets: int) -> str:
    planned = len(bootstrap.results.plan.datasets)
    return "" if datasets == planned else f" on {datasets} of {planned}"
