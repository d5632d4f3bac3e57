"""RESULTS.md: the table in numbers and in words, made from the table alone. A tie is reported as a tie."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from shpeft import NOTICE
from shpeft.compare.results import Duel, Entry, Results
from shpeft.compare.statistics import mean_sd
from shpeft.compare.table import Record
from shpeft.runs.card import METRICS, percent

NONE = "–"


def report(results: Results, duels: Sequence[Duel], more: Sequence[str] = ()) -> str:
    """The whole report in Markdown.

    Args:
        more: figures, and sections on experiments besides the arms.
    """
    sections = [
        f"# {results.plan.report.title}",
        f"Made by `shpeft compare report` from `cells.jsonl` and the test probabilities beside it. {NOTICE}",
        _setting(results),
        "## In short\n\n" + "\n".join(f"- {line}" for line in in_short(results, duels)),
        _scores(results),
        _duels(results, duels),
        _by_dataset(results, duels),
        _metrics(results),
        _cost(results),
        _recalls(results),
        *more,
        _failures(results, duels),
        _rates(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def points(value: float | None, sign: bool = False) -> str:
    """A fraction in points of a hundred, one digit."""
    return NONE if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def in_short(results: Results, duels: Sequence[Duel]) -> list[str]:
    """The answer in sentences: the method against the floor, the controls, and what others do."""
    claim, method, metric = results.plan.report, results.method, METRICS[results.plan.report.metric].lower()
    value = results.mean(method, claim.metric)
    lines = []
    if results.missing:
        lines.append(f"**Unfinished**: {results.missing} of {len(results.plan.cells())} cells are still missing.")
    if value is not None:
        lines.append(
            f"{method.title}: {metric} {points(value)} as the mean over {len(results.plan.datasets)} datasets."
        )
    floor = results.floor(claim.metric)
    for duel in duels:
        name = duel.other.title + (" (the better floor)" if duel.other == floor else "")
        low, high = duel.mean.interval()
        verdict = {"better": "ahead of", "worse": "behind", "tie": "a tie with"}[duel.mean.verdict]
        equal = f"; equivalent within {points(claim.margin)}" if duel.tost.equivalent else ""
        if not equal and duel.mean.verdict != "worse" and duel.tost.not_worse:
            equal = f"; not worse by {points(claim.margin)} or more"
        lines.append(
            f"{verdict} **{name}**: {points(duel.mean.value, True)} [{points(low, True)}, {points(high, True)}]{equal}"
        )
    return lines


def _setting(results: Results) -> str:
    plan, records = results.plan, results.records
    cases = {r["dataset"]: r["cases"] for r in records}
    rows = [[name, *map(cases[name].get, ("train", "val", "test"))] for name in plan.datasets if name in cases]
    data = markdown(["dataset", "training", "validation", "test"], rows)
    hours = sum(r["seconds"] for r in records) / 3600
    caps = ", ".join(f"{n} {part}" for part, n in plan.images_per_class.model_dump().items() if n) or "none"
    versions = ", ".join(f"{k} {v}" for k, v in records[-1]["libraries"].items() if k in ("shpeft", "torch", "timm"))
    choice = "by each seed" if plan.tune == "each" else "by the first seed, for all seeds"
    return (
        f"Backbone {plan.backbone.name} at {plan.backbone.image_size or 'its own'} px; seeds "
        f"{', '.join(map(str, plan.seeds))}; at most per class: {caps}. {plan.training.epochs} epochs at most, the one "
        f"with the lowest validation loss is kept; learning rates are chosen on validation images {choice}, the same "
        f"number for every arm. Every cell looks at the test images once. "
        f"{len(records)} cells, {hours:.1f} hours of work; {versions}.\n\n{data}"
    )


def _scores(results: Results) -> str:
    metric = results.plan.report.metric
    ranking = results.ranking(metric)
    rank = dict(zip(ranking[0], ranking[1].mean, strict=True)) if ranking else {}
    rows = []
    for entry in sorted(results.entries, key=lambda e: rank.get(e, np.inf)):
        cells = [entry.title]
        for dataset in results.plan.datasets:
            values = list(results.by_seed(entry, dataset, metric).values())
            mean, sd = mean_sd(values) if values else (None, np.nan)
            cells.append(points(mean) + ("" if np.isnan(sd) else f" ± {points(sd)}"))
        cells += [points(results.mean(entry, metric)), points(results.mean(entry, "macro_auroc"))]
        rows.append([*cells, f"{rank[entry]:.1f}" if entry in rank else NONE])
    p = f" Friedman's test that all are equal: p = {ranking[1].p:.2g}." if ranking and ranking[1].p is not None else ""
    head = ["arm", *results.plan.datasets, "mean", "mean AUROC", "mean rank"]
    return f"## {METRICS[metric]}, mean ± sd over seeds, in points\n\n{markdown(head, rows)}\n\nRank 1 is the best.{p}"


def _duels(results: Results, duels: Sequence[Duel]) -> str:
    rows = []
    for duel in duels:
        low, high = duel.mean.interval()
        word = {"better": "ahead", "worse": "behind", "tie": "tie"}[duel.mean.verdict]
        equal = "equivalent" if duel.tost.equivalent else "not worse" if duel.tost.not_worse else "open"
        rows.append(
            [
                duel.other.title,
                f"{points(duel.mean.value, True)} [{points(low, True)}, {points(high, True)}]",
                word,
                f"{equal} ({duel.tost.p_worse:.2g}, {duel.tost.p_better:.2g})",
                f"{duel.p:.2g}",
                f"{duel.holm:.2g}",
                f"{np.mean(list(duel.false_claim.values())):.2f}",
                len(duel.by_dataset),
            ]
        )
    margin, n = points(results.plan.report.margin), len(results.plan.datasets)
    head = [
        "against",
        "difference",
        "",
        f"margin {margin}: p worse, p better",
        "Wilcoxon p",
        "Holm",
        "false claim",
        "sets",
    ]
    return (
        f"## {results.method.title} against each\n\n{markdown(head, rows)}\n\nThe method minus the other, in points, "
        "mean over datasets, with the 95 % interval of a paired bootstrap over test groups and seeds; a tie is an "
        f"interval that holds 0. Equivalence: two one-sided tests. Signed-rank test over datasets, which cannot give "
        f"less than {2 / 2**n:.2g} for {n} of them; Holm over all rows. False claim: the probability that the arm that "
        "is ahead in accuracy is not the better one (Christodoulou et al. 2025, arXiv 2505.04720), mean over datasets."
    )


def _by_dataset(results: Results, duels: Sequence[Duel]) -> str:
    def cell(duel: Duel, dataset: str) -> str:
        if dataset not in duel.by_dataset:
            return NONE
        low, high = duel.by_dataset[dataset].interval()
        return f"{points(duel.by_dataset[dataset].value, True)} [{points(low, True)}, {points(high, True)}]"

    rows = [[duel.other.title, *(cell(duel, dataset) for dataset in results.plan.datasets)] for duel in duels]
    return f"### On each dataset\n\n{markdown(['against', *results.plan.datasets], rows)}"


def _metrics(results: Results) -> str:
    rows = []
    for entry in results.entries:
        values = {name: results.mean(entry, name) for name in METRICS}
        shown = [
            NONE if v is None else points(v) if n not in ("mcc", "brier") else f"{v:.3f}" for n, v in values.items()
        ]
        rows.append([entry.title, *shown])
    return f"## All metrics, means over datasets\n\n{markdown(['arm', *METRICS.values()], rows)}"


def _cost(results: Results) -> str:
    def mean(entry: Entry, name: str, words: Callable[[float], str]) -> str:
        values = [row[name] for row in results.rows(entry) if row.get(name) is not None]
        return words(float(np.mean(values))) if values else NONE

    rows = [
        [
            entry.title,
            mean(entry, "trained", lambda v: f"{v:,.0f}"),
            mean(entry, "share", percent),
            mean(entry, "share_with_head", percent),
            mean(entry, "seconds_a_step", lambda v: f"{v:.2f}"),
            mean(entry, "bytes", lambda v: f"{v / 1024:,.0f}"),
        ]
        for entry in results.entries
    ]
    head = ["arm", "trained weights", "of the backbone", "with head", "seconds a step", "file, KiB"]
    return f"## What it takes\n\n{markdown(head, rows)}"


def _recalls(results: Results) -> str:
    """Recall of each class for the method, the floor and the best other; and pairs of classes by themselves."""
    metric = results.plan.report.metric
    known = [(value, e) for e in results.entries if (value := results.mean(e, metric)) is not None]
    shown = [results.method, results.floor(metric), max(known, key=lambda pair: pair[0])[1] if known else None]
    entries = list(dict.fromkeys(entry for entry in shown if entry is not None))
    parts = []
    for dataset in results.plan.datasets:
        rows = [(entry, results.rows(entry, dataset)) for entry in entries]
        rows = [(entry, found) for entry, found in rows if found]
        if rows:
            names = results.table.predictions(rows[0][1][0]["key"]).classes
            body = [[e.title, *map(points, np.mean([r["recall"] for r in found], axis=0))] for e, found in rows]
            parts.append(f"### {dataset}\n\n{markdown(['recall', *names], body)}")
        pair = results.plan.report.pairs.get(dataset)
        if pair and rows:
            told = [[e.title, points(float(np.mean([_pair_auroc(results, r, pair) for r in f])))] for e, f in rows]
            parts.append(f"{pair[0]} against {pair[1]} alone:\n\n{markdown(['arm', 'AUROC'], told)}")
    return "## Recall of each class\n\n" + "\n\n".join(parts) if parts else ""


def _pair_auroc(results: Results, record: Record, pair: tuple[str, str]) -> float:
    found = results.table.predictions(record["key"])
    a, b = (found.classes.index(name) for name in pair)
    labels = np.asarray(found.labels)
    rows, p = np.isin(labels, (a, b)), found.probabilities
    return float(roc_auc_score(labels[rows] == b, p[rows, b] / np.maximum(p[rows, a] + p[rows, b], 1e-12)))


def _failures(results: Results, duels: Sequence[Duel]) -> str:
    """What did not work, as far as the table tells."""
    metric, lines = results.plan.report.metric, []
    floor = results.floor(metric)
    if floor is not None:
        bar = results.mean(floor, metric)
        assert bar is not None
        below = [
            e.title for e in results.entries if e != floor and (v := results.mean(e, metric)) is not None and v <= bar
        ]
        if below:
            lines.append(f"Not above the better floor, {floor.title} ({points(bar)}): {'; '.join(below)}.")
    behind = [duel.other.title for duel in duels if duel.mean.verdict == "worse"]
    if behind:
        lines.append(f"{results.method.title} is behind: {'; '.join(behind)}.")
    failed = [f"{r['arm']} on {r['dataset']}" for r in results.records if r["status"] == "failed"]
    if failed:
        lines.append(f"Every training diverged: {'; '.join(sorted(set(failed)))}.")
    diverged = sum(loss is None for r in results.records for loss in r.get("trials", {}).values())
    if diverged:
        lines.append(f"{diverged} single trainings diverged.")
    edges = sorted({Entry(r["arm"], r["budget"]).title for r in results.records if r.get("edge")})
    if edges:
        lines.append(f"The best learning rate stands at an edge of the grid on some dataset: {'; '.join(edges)}.")
    return "## What did not work\n\n" + "\n".join(f"- {line}" for line in lines or ["Nothing was noticed."])


def _rates(results: Results) -> str:
    rows = []
    for entry in results.entries:
        if not any("lr" in row for row in results.rows(entry)):
            continue
        grid = ", ".join(f"{lr:g}" for lr in results.plan.grid(results.plan.arms[entry.arm]))
        by_set = [sorted({r["lr"] for r in results.rows(entry, dataset)}) for dataset in results.plan.datasets]
        rows.append([entry.title, grid, *(", ".join(f"{lr:g}" for lr in rates) or NONE for rates in by_set)])
    return f"## Learning rates\n\n{markdown(['arm', 'tried', *results.plan.datasets], rows)}" if rows else ""
