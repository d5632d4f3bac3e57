"""The report's section on what did not work, as far as the table tells."""

from collections import Counter
from collections.abc import Sequence

from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.markdown import points


def failures(bootstrap: Bootstrap, duels: Sequence[Duel]) -> str:
    """What did not work, as far as the table tells."""
    results = bootstrap.results
    metric, lines = results.plan.report.metric, []
    floor = results.floor(metric)
    if floor is not None:
        datasets = results.common[1]
        bar = results.mean(floor, metric, datasets)
        assert bar is not None
        values = {e: results.mean(e, metric, datasets) for e in results.entries if e != floor}
        below = [e.title for e, value in values.items() if value is not None and value <= bar]
        if below:
            lines.append(f"Not above the better floor, {floor.title} ({points(bar)}): {'; '.join(below)}.")
    behind = [duel.other.title for duel in duels if duel.mean.verdict == "worse"]
    if behind:
        lines.append(f"{results.method.title} is behind: {'; '.join(behind)}.")
    lines += _near_chance(bootstrap)
    failed = [f"{r['arm']} on {r['dataset']}" for r in results.records if r["status"] == "failed"]
    if failed:
        lines.append(f"Every training diverged: {'; '.join(sorted(set(failed)))}.")
    diverged = sum(loss is None for r in results.records for loss in r.get("trials", {}).values())
    if diverged:
        lines.append(f"{diverged} single trainings diverged.")
    if edges := [f"{e.title} ({_counts(results.edges(e))})" for e in results.tuned if results.edges(e)]:
        lines.append(
            "The best learning rate stands at an edge of the grid, low or high, on some of the "
            f"{len(results.plan.datasets)} datasets, where a wider grid might do better: {'; '.join(edges)}."
        )
    lines += results.plan.report.tried
    return "## What did not work\n\n" + "\n".join(f"- {line}" for line in lines or ["Nothing was noticed."])


def _counts(edges: dict[str, str]) -> str:
    """``low on 2, high on 1``."""
    return ", ".join(f"{edge} on {n}" for edge, n in Counter(edges.values()).items())


def _near_chance(bootstrap: Bootstrap) -> list[str]:
    """Datasets on which most arms cannot be told from guessing: they tell no arms apart either."""
    results, lines = bootstrap.results, []
    metric = results.plan.report.metric
    if metric not in ("balanced_accuracy", "macro_auroc"):
        return []
    for dataset in results.plan.datasets:
        there = [e for e in results.entries if results.rows(e, dataset)]
        if not there:
            continue
        classes = len(results.predictions(results.rows(there[0], dataset)[0]["key"]).classes)
        chance = 1 / classes if metric == "balanced_accuracy" else 0.5
        above = [e for e in there if bootstrap.estimate(e, metric, (dataset,)).interval()[0] > chance]
        if 2 * len(above) < len(there):
            lines.append(
                f"On {dataset} {len(above)} of {len(there)} arms are above guessing ({points(chance)}; 95 % interval): "
                "this set hardly tells arms apart."
            )
    return lines
