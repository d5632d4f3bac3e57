"""Accuracy against budget in Markdown: what more trained weights buy, score by score."""

from shpeft.compare.claims import difference_told
from shpeft.compare.duels import Bootstrap
from shpeft.compare.markdown import NONE, points, table
from shpeft.compare.plan import Budget
from shpeft.compare.results import Entry, size
from shpeft.runs.card import METRICS


def budgets_section(bootstrap: Bootstrap) -> str:
    """The metric of each score at each budget, and the method's distance to the others; nothing with one budget."""
    results = bootstrap.results
    sparse = [entry for entry in results.planned if results.plan.arms[entry.arm].kind == "sparse"]
    budgets = list(dict.fromkeys(entry.budget for entry in sparse if entry.budget is not None))
    if len(budgets) < 2:
        return ""
    metric, method = results.plan.report.metric, results.method.arm
    scores = list(dict.fromkeys(entry.arm for entry in sparse))
    head = [f"{size(budget)}{_trained(bootstrap, method, budget)}" for budget in budgets]
    levels = [[arm, *(_level(bootstrap, Entry(arm, budget)) for budget in budgets)] for arm in scores]
    others = [arm for arm in scores if arm != method]
    others += [entry.arm for entry in results.planned if entry.budget is None]
    against = [
        [arm, *(_against(bootstrap, Entry(method, b), Entry(arm, b if arm in scores else None)) for b in budgets)]
        for arm in others
    ]
    return (
        f"## What more trained weights buy\n\n{METRICS[metric]}, means over datasets and seeds, in points:\n\n"
        f"{table(['score', *head], levels)}\n\n{method} at each budget minus the others, those that have a budget at "
        f"the same one, with 95 % intervals (bold: 0 is outside):\n\n{table(['against', *head], against)}"
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
    return points(results.mean(entry, results.plan.report.metric, datasets)) + _part(bootstrap, len(datasets))


def _against(bootstrap: Bootstrap, method: Entry, other: Entry) -> str:
    duel = bootstrap.duel(method, other, bootstrap.results.plan.report.metric)
    if duel is None:
        return NONE
    told = difference_told(duel)
    settled = duel.mean.verdict in ("better", "worse")
    return (f"**{told}**" if settled else told) + _part(bootstrap, len(duel.by_dataset))


def _part(bootstrap: Bootstrap, sets: int) -> str:
    wanted = len(bootstrap.results.plan.datasets)
    return "" if sets == wanted else f" on {sets} of {wanted}"
