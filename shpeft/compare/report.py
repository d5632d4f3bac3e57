"""RESULTS.md: the table in numbers and in words, made from the table alone. A tie is reported as a tie."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from shpeft import NOTICE
from shpeft.compare import answer
from shpeft.compare.calibration import calibration_section
from shpeft.compare.claims import Finding, difference_told, told
from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.failures import failures
from shpeft.compare.markdown import NONE, WORDS, margin_told, points, table
from shpeft.compare.results import Entry, Results
from shpeft.compare.statistics import mean_sd
from shpeft.compare.table import Record
from shpeft.runs.card import METRICS, percent


def report(
    bootstrap: Bootstrap,
    duels: Sequence[Duel],
    goals: Sequence[Finding],
    others: Sequence[Finding] = (),
    more: Sequence[str] = (),
) -> str:
    """The whole report in Markdown.

    Args:
        duels: the plan's method against the others, in the plan's metric.
        goals: what is asked of the method, answered.
        others: further questions, which ``more`` answers; those that wait are listed.
        more: figures, and sections on experiments besides the arms.
    """
    results = bootstrap.results
    sections = [
        f"# {results.plan.report.title}",
        f"Made by `shpeft compare report` from `cells.jsonl` and the test probabilities beside it. {NOTICE}",
        f"## The answer\n\n{answer.answer(results, duels, goals)}",
        f"## What was asked of {results.method.title}\n\n{answer.asked(goals)}" if goals else "",
        answer.unfinished(results, [*goals, *others]),
        _scores(results),
        _duels(results, duels),
        _by_dataset(results, duels),
        calibration_section(bootstrap),
        _metrics(results),
        _cost(results),
        _recalls(bootstrap),
        *more,
        failures(bootstrap, duels),
        _rates(results),
        _setting(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _setting(results: Results) -> str:
    plan, records = results.plan, results.records
    cases = {r["dataset"]: r["cases"] for r in records}
    rows = [[name, *map(cases[name].get, ("train", "val", "test"))] for name in plan.datasets if name in cases]
    data = table(["dataset", "training", "validation", "test"], rows)
    hours = sum(r["seconds"] for r in records) / 3600
    caps = ", ".join(f"{n} {part}" for part, n in plan.images_per_class.model_dump().items() if n) or "none"
    versions = ", ".join(f"{k} {v}" for k, v in records[-1]["libraries"].items() if k in ("shpeft", "torch", "timm"))
    looked = "Every cell looks at the test images once."
    if plan.tested_on == "training":
        looked = "Half of each training split stands in for the test images, which were not looked at."
    choice = "by each seed" if plan.tune == "each" else "by the first seed, for all seeds"
    return (
        f"## Setting, hardware and hours\n\nBackbone {plan.backbone.name} at "
        f"{plan.backbone.image_size or 'its own'} px; seeds {', '.join(map(str, plan.seeds))}; at most per class: "
        f"{caps}. {plan.training.epochs} epochs at most, the one with the lowest validation loss after temperature "
        f"scaling is kept; learning rates are chosen on validation images {choice}, the same number for every arm. "
        f"{looked}\n\n{len(records)} cells took **{hours:.1f} hours** of work, the "
        "sum of their seconds; several processes may have shared it. Hardware: "
        f"{plan.report.hardware or 'not recorded'}; cells by processor: {_processors(records)}. A training ends at "
        f"other numbers on another processor. Versions: {versions}."
        f"\n\n{data}"
    )


def _processors(records: Sequence[Record]) -> str:
    """``300 Intel Xeon, 20 AMD EPYC``."""
    counts = Counter(record.get("processor", "not recorded") for record in records)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _scores(results: Results) -> str:
    metric = results.plan.report.metric
    ranking = results.ranking(metric)
    rank = ranking.rank if ranking else {}
    rows = []
    for entry in sorted(results.entries, key=lambda e: rank.get(e, np.inf)):
        cells = [entry.title]
        for dataset in results.plan.datasets:
            values = list(results.by_seed(entry, dataset, metric).values())
            mean, sd = mean_sd(values) if values else (None, np.nan)
            cells.append(points(mean) + ("" if np.isnan(sd) else f" ± {points(sd)}"))
        cells += [points(results.mean(entry, metric)), points(results.mean(entry, "macro_auroc"))]
        rows.append([*cells, f"{rank[entry]:.1f}" if entry in rank else NONE])
    head = ["arm", *results.plan.datasets, "mean", "mean AUROC", "mean rank"]
    told = answer.ranks_told(results, metric)
    return f"## {METRICS[metric]}, mean ± sd over seeds, in points\n\n{table(head, rows)}\n\n{told}"


def _duels(results: Results, duels: Sequence[Duel]) -> str:
    if not duels:
        return ""
    rows = [
        [
            duel.other.title,
            difference_told(duel),
            WORDS[duel.mean.verdict],
            f"{duel.holm:.2g}",
            _equivalence(duel),
            f"{duel.wilcoxon:.2g}",
            f"{duel.wilcoxon_holm:.2g}",
            _odds(duel.pooled.false_claim),
            points(duel.mean.smallest),
            f"{len(duel.by_dataset)} × {duel.pooled.seeds}",
        ]
        for duel in duels
    ]
    margin, n = margin_told(results.plan.report.margin), len(results.plan.datasets)
    head = ["against", "difference", "", "p, Holm", f"within {margin}?", "Wilcoxon p", "Wilcoxon p, Holm"]
    head += ["false claim", "could show", "sets × seeds"]
    return (
        f"## {results.method.title} against each\n\n{table(head, rows)}\n\nThe method minus the other, in points, "
        "mean over datasets, with the 95 % interval of a paired bootstrap: within each dataset test groups are drawn, "
        "the same for all arms and seeds, and seeds vary with the spread that they have; a single seed has none, and "
        "the interval is too narrow. That another seed might have tuned another learning rate is in no interval. "
        "A tie is an interval that holds 0; the intervals are each arm's own, and p by Holm is for all rows together. "
        f"Within {margin}: two one-sided tests; p of being worse by that or more, and p of being better by that or "
        "more; not where the resamples of a dataset show no difference at all. Signed-rank test over datasets, which "
        f"cannot give less than {2 / 2**n:.2g} for {n} of them. False claim: the probability that the arm that is "
        "ahead in accuracy is not the better one (Christodoulou et al. 2025, arXiv 2505.04720), all test cases pooled; "
        "it takes trainings as fixed, so it can be small where the interval, which does not, is a tie. "
        "Could show: the true difference that such test images and seeds would show four times in five. Intervals "
        "hold for these datasets; only the signed-rank test asks about others like them."
    )


def _equivalence(duel: Duel) -> str:
    if duel.tost is None:
        return "cannot be tested"
    says = "equivalent" if duel.tost.equivalent else "not worse" if duel.tost.not_worse else "open"
    return f"{says} ({duel.tost.p_worse:.2g}, {duel.tost.p_better:.2g})"


def _odds(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else "< 0.01"


def _by_dataset(results: Results, duels: Sequence[Duel]) -> str:
    if not duels:
        return ""
    rows = [
        [
            duel.other.title,
            *(told(duel.by_dataset[d]) if d in duel.by_dataset else NONE for d in results.plan.datasets),
        ]
        for duel in duels
    ]
    return f"### On each dataset\n\n{table(['against', *results.plan.datasets], rows)}"


def _metrics(results: Results) -> str:
    rows = []
    for entry in results.entries:
        values = {name: results.mean(entry, name) for name in METRICS}
        shown = [
            NONE if v is None else points(v) if n not in ("mcc", "brier") else f"{v:.3f}" for n, v in values.items()
        ]
        rows.append([entry.title, *shown])
    return f"## All metrics, means over datasets\n\n{table(['arm', *METRICS.values()], rows)}"


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
            mean(entry, "seconds_a_step", lambda v: f"{v:.3f}"),
            mean(entry, "memory", lambda v: f"{v / 2**20:,.1f}"),
            mean(entry, "bytes", lambda v: f"{v / 1024:,.0f}"),
        ]
        for entry in results.entries
    ]
    head = ["arm", "trained weights", "of the backbone", "with head", "seconds a step", "memory, MiB", "file, KiB"]
    unknown = any("seconds_a_step" in r and "memory" not in r for r in results.records)
    measured = " A dash: not measured yet (`shpeft compare memory`)." if unknown else ""
    return (
        f"## What it takes\n\n{table(head, rows)}\n\nSeconds a step: the median of each training, while other cells "
        "may have shared the machine. Memory: what a training step keeps beside the backbone's weights, namely the "
        f"activations of a batch of {results.plan.training.batch_size}, and the gradient and AdamW's two moments of "
        f"each trained value.{measured}"
    )


def _recalls(bootstrap: Bootstrap) -> str:
    """Recall of each class for the method, the floor and the best other; and pairs of classes by themselves."""
    results = bootstrap.results
    metric, floor = results.plan.report.metric, results.floor(results.plan.report.metric)
    known = [(value, e) for e in results.entries if (value := results.mean(e, metric, results.common[1])) is not None]
    shown = [results.method, floor, max(known, key=lambda pair: pair[0])[1] if known else None]
    entries = list(dict.fromkeys(entry for entry in shown if entry is not None))
    parts = []
    for dataset in results.plan.datasets:
        rows = [(entry, results.rows(entry, dataset)) for entry in entries]
        rows = [(entry, found) for entry, found in rows if found]
        if not rows:
            continue
        tested = results.predictions(rows[0][1][0]["key"])
        names = [f"{name} (n = {tested.labels.count(c)})" for c, name in enumerate(tested.classes)]
        body = [[e.title, *map(points, np.mean([r["recall"] for r in found], axis=0))] for e, found in rows]
        parts.append(f"### {dataset}\n\n{table(['recall', *names], body)}")
        if pair := results.plan.report.pairs.get(dataset):
            parts.append(_pair(bootstrap, [e for e, _ in rows], dataset, pair))
    note = (
        "Of n test cases; the mean over seeds. The cases alone make a recall uncertain by up to 98/√n points (95 %): "
        "25 points for 15 cases, 10 for 100."
    )
    return "\n\n".join(["## Recall of each class", note, *parts]) if parts else ""


def _pair(bootstrap: Bootstrap, entries: Sequence[Entry], dataset: str, pair: tuple[str, str]) -> str:
    """Two classes alone, with the difference to the floor."""
    floor, rows = bootstrap.results.floor(bootstrap.results.plan.report.metric), []
    for entry in entries:
        values = [float(of[0]) for of in bootstrap.by_seed(entry, dataset, "macro_auroc", pair).values()]
        against = None
        if floor is not None and entry != floor:
            against = bootstrap.difference(entry, floor, dataset, "macro_auroc", pair)
        rows.append([entry.title, points(float(np.mean(values))), NONE if against is None else told(against)])
    head = ["arm", "AUROC", "minus the floor" if floor is None else f"minus {floor.title}"]
    return f"{pair[0]} against {pair[1]} alone:\n\n{table(head, rows)}"


def _rates(results: Results) -> str:
    rows = []
    for entry in results.tuned:
        grid = ", ".join(f"{lr:g}" for lr in results.grid(entry))
        chosen = [
            ", ".join(f"{lr:g}" + " (edge)" * edge for lr, edge in results.rates(entry, dataset).items()) or NONE
            for dataset in results.plan.datasets
        ]
        rows.append([entry.title, grid, *chosen])
    return f"## Learning rates\n\n{table(['arm', 'tried', *results.plan.datasets], rows)}" if rows else ""
