"""The report's section on what did not work, as far as the table shows it."""

from collections import Counter
from collections.abc import Sequence

from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.measures import SMALLER_IS_BETTER

CHANCE = {"balanced_accuracy": None, "macro_auroc": 0.5, "quadratic_kappa": 0.0, "r2": 0.0}
"""What guessing gives; None: one of the number of classes."""


def failure_section(bootstrap: Bootstrap, comparisons: Sequence[PairedComparison]) -> str:
    """List arms that are not above the baseline, diverged trainings, and learning rates at an edge of the grid."""
    results = bootstrap.results
    metric, lines = results.metric, list[str]()
    baseline = results.baseline(metric)
    if baseline is not None:
        datasets = results.common[1]
        level = results.mean(baseline, metric, datasets)
        assert level is not None
        values = {e: results.mean(e, metric, datasets) for e in results.entries if e != baseline}
        sign = -1 if metric in SMALLER_IS_BETTER else 1
        below = [e.title for e, value in values.items() if value is not None and sign * value <= sign * level]
        if below:
            lines.append(
                f"Not better than the stronger baseline, {baseline.title} "
                f"({results.scale(metric).text(level)}): {'; '.join(below)}."
            )
    worse = [comparison.other.title for comparison in comparisons if comparison.mean.verdict == "worse"]
    if worse:
        lines.append(f"{results.method.title} is worse than: {'; '.join(worse)}.")
    lines += _near_chance(bootstrap)
    failed = dict[str, set[str]]()
    for r in results.records:
        if r["status"] == "failed":
            seed = f", seed {r['seed']}" if "failure" in r else ""
            failed.setdefault(r.get("failure", ""), set()).add(f"{r['arm']} on {r['dataset']}{seed}")
    for reason, cells in failed.items():
        title = f"Not trained, because {reason}" if reason else "Every training diverged"
        lines.append(f"{title}: {'; '.join(sorted(cells))}.")
    diverged = sum(loss is None for r in results.records for loss in r.get("trials", {}).values())
    if diverged:
        lines.append(f"{diverged} single trainings diverged.")
    if edges := [f"{e.title} ({_count(results.edges(e))})" for e in results.tuned if results.edges(e)]:
        lines.append(
            f"On some of the {len(results.plan.datasets)} datasets the best learning rate is the lowest or highest of "
            f"the grid, so a wider grid might do better: {'; '.join(edges)}."
        )
    lines += results.plan.report.tried
    return "## What did not work\n\n" + "\n".join(f"- {line}" for line in lines or ["No failures were found."])


def _count(edges: dict[str, str]) -> str:
    """Format how often each edge was chosen: ``low on 2, high on 1``."""
    return ", ".join(f"{edge} on {n}" for edge, n in Counter(edges.values()).items())


def _near_chance(bootstrap: Bootstrap) -> list[str]:
    """Name the datasets on which most arms do not exceed chance, so that they hardly tell arms apart."""
    results, lines = bootstrap.results, []
    metric = results.metric
    if metric not in CHANCE:
        return []
    for dataset in results.plan.datasets:
        entries = [e for e in results.entries if results.rows(e, dataset)]
        if not entries:
            continue
        classes = len(results.predictions(results.rows(entries[0], dataset)[0]["key"]).classes)
        level = CHANCE[metric]
        chance = 1 / classes if level is None else level
        above = [e for e in entries if bootstrap.estimate(e, metric, (dataset,)).interval()[0] > chance]
        if 2 * len(above) < len(entries):
            lines.append(
                f"On {dataset}, {len(above)} of {len(entries)} arms exceed chance ("
                f"{results.scale(metric).text(chance)}; 95 % interval): this dataset hardly tells arms apart."
            )
    return lines
