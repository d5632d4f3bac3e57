"""The whole report in Markdown, made from the table alone."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from shpeft import NOTICE
from shpeft.compare.analysis.bootstrap import mean_sd
from shpeft.compare.analysis.formatting import format_difference, format_estimate, points
from shpeft.compare.analysis.hypotheses import Verdict
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import LOG_LOSS, NONE, POINTS, SMALLER_IS_BETTER
from shpeft.compare.report import summary
from shpeft.compare.report.calibration_section import calibration_section
from shpeft.compare.report.failure_section import failure_section
from shpeft.compare.report.markdown import VERDICT_LABELS, table
from shpeft.compare.table import Record
from shpeft.support.formatting import METRIC_TITLES, percent

SECOND = {
    "macro_auroc": "AUROC",
    "macro_average_precision": "average precision",
    "grade_error": "grade error",
    "r2": "R²",
}
"""The second metric of a task at the head of a column."""

BY_CLASS = {
    "recall": (
        "recall",
        "## Recall of each class",
        "Mean over seeds; n is the number of test cases. The number of cases alone makes a recall uncertain by up to "
        "98/√n points (95 %): 25 points for 15 cases, 10 for 100.",
    ),
    "auroc": (
        "AUROC",
        "## AUROC of each finding",
        "Mean over seeds, in points; n is the number of test cases that have the finding. A dash: all or none have it.",
    ),
}
"""What is written for each class or finding: the table's corner, the heading and a note."""


def report(
    bootstrap: Bootstrap,
    comparisons: Sequence[PairedComparison],
    verdicts: Sequence[Verdict],
    other_verdicts: Sequence[Verdict] = (),
    sections: Sequence[str] = (),
) -> str:
    """Write the whole report in Markdown.

    Args:
        bootstrap: the results and their replicates.
        comparisons: the plan's method against every other arm, in the plan's metric.
        verdicts: the answers to the questions on the method.
        other_verdicts: further answers, given in ``sections``; only pending ones are listed here.
        sections: further sections: budgets, figures, sparsity, hybridity.
    """
    results = bootstrap.results
    parts = [
        f"# Appendix: {results.plan.report.title}",
        "[One page](RESULTS.md) has the essentials. Made by `shpeft compare report` from `cells.jsonl` and the test "
        f"probabilities beside it. {NOTICE}",
        f"## Summary\n\n{summary.answer(results, comparisons, verdicts)}",
        f"## Questions about {results.method.title}\n\n{summary.verdict_table(verdicts)}" if verdicts else "",
        summary.missing_section(results, [*verdicts, *other_verdicts]),
        _metric_section(results),
        _comparison_section(results, comparisons),
        _every_metric_section(bootstrap, comparisons),
        _dataset_section(results, comparisons),
        calibration_section(bootstrap),
        _all_metrics_section(results),
        _cost_section(results),
        _recall_section(bootstrap),
        *sections,
        failure_section(bootstrap, comparisons),
        _rates_section(results),
        _choice_section(results),
        _setting_section(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _choice_section(results: Results) -> str:
    """Write how often each arm was taken by those that choose; empty without such arms."""
    rows = []
    for entry in results.of_kind("choice"):
        taken = Counter(Entry(record["chosen"], record["chosen_budget"]).title for record in results.rows(entry))
        rows.append([entry.title, ", ".join(f"{title}: {count}" for title, count in taken.most_common())])
    return "## Choices\n\n" + table(["arm", "how often it took each"], rows) if rows else ""


def _setting_section(results: Results) -> str:
    plan, records = results.plan, results.records
    cases = {r["dataset"]: r["cases"] for r in records}
    rows = [[name, *map(cases[name].get, ("train", "val", "test"))] for name in plan.datasets if name in cases]
    data = table(["dataset", "training", "validation", "test"], rows)
    hours = sum(r["seconds"] for r in records if r["kind"] != "choice") / 3600  # its seconds are its candidates'
    caps = ", ".join(f"{n} {part}" for part, n in plan.images_per_class.model_dump().items() if n) or "no limit"
    versions = ", ".join(f"{k} {v}" for k, v in records[-1]["libraries"].items() if k in ("shpeft", "torch", "timm"))
    test_images = "Every cell uses the test images once."
    if plan.tested_on == "training":
        test_images = "Half of each training split stands in for the test images, which are not used."
    outcome = "the epoch that has the lowest validation loss after temperature scaling"
    if plan.training.average != "none":
        outcome = "the mean of the weights over the last quarter of them, unless an arm says otherwise"
    chosen = {
        "each": "by each seed",
        "first": "by the first seed, for all seeds",
        "pooled": "for all datasets and seeds at once, by the sum of the losses of the tuning seeds",
    }[plan.tune]
    return (
        f"## Setting, hardware and hours\n\nBackbone {plan.backbone.name} at "
        f"{plan.input_sizes}; seeds {', '.join(map(str, plan.seeds))}; images per class at "
        f"most: {caps}. Training runs for at most {plan.training.epochs} epochs and ends with {outcome}. "
        "Learning rates are chosen on validation images "
        f"{chosen}, from the same number of rates for every arm. {test_images}\n\n{len(records)} cells took "
        f"**{hours:.1f} hours**, the sum of their durations; several processes may have shared the work. Hardware: "
        f"{plan.report.hardware or 'not recorded'}; cells by processor: {_processors(records)}. Training on another "
        f"processor gives other numbers. Versions: {versions}."
        f"\n\n{data}"
    )


def _processors(records: Sequence[Record]) -> str:
    """Count cells by processor: ``300 Intel Xeon, 20 AMD EPYC``."""
    counts = Counter(record.get("processor", "not recorded") for record in records)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _metric_section(results: Results) -> str:
    metric, second = results.metric, results.measures.second
    scale = results.scale(metric)
    ranking = results.ranking(metric)
    rank = ranking.rank if ranking else {}
    rows = []
    for entry in sorted(results.entries, key=lambda e: rank.get(e, np.inf)):
        cells = [entry.title]
        for dataset in results.plan.datasets:
            values = list(results.by_seed(entry, dataset, metric).values())
            mean, sd = mean_sd(values) if values else (None, np.nan)
            cells.append(scale.text(mean) + ("" if np.isnan(sd) else f" ± {scale.text(sd)}"))
        cells += [scale.text(results.mean(entry, metric)), results.scale(second).text(results.mean(entry, second))]
        rows.append([*cells, f"{rank[entry]:.1f}" if entry in rank else NONE])
    head = ["arm", *results.plan.datasets, "mean", f"mean {SECOND[second]}", "mean rank"]
    ranks = summary.describe_ranks(results, metric)
    return f"## {METRIC_TITLES[metric]}, mean ± SD over seeds, in {scale.unit}\n\n{table(head, rows)}\n\n{ranks}"


def _comparison_section(results: Results, comparisons: Sequence[PairedComparison]) -> str:
    if not comparisons:
        return ""
    size, scale, n = results.margin(results.metric), results.scale(results.metric), len(results.plan.datasets)
    cases = comparisons[0].pooled.false_claim is not None
    rows = [
        [
            comparison.other.title,
            format_difference(comparison),
            VERDICT_LABELS[comparison.mean.verdict],
            f"{comparison.holm:.2g}",
            *([] if size is None else [_equivalence(comparison)]),
            f"{comparison.wilcoxon:.2g}",
            f"{comparison.wilcoxon_holm:.2g}",
            *([_probability(comparison.pooled.false_claim)] if cases else []),
            comparison.scale.text(comparison.mean.smallest),
            f"{len(comparison.by_dataset)} × {comparison.pooled.seeds}",
        ]
        for comparison in comparisons
    ]
    head = ["against", "difference", "verdict", "p, Holm"]
    equivalence, claim = "", ""
    if size is not None:
        margin = scale.margin(size)
        head.append(f"within {margin}?")
        equivalence = (
            f" Within {margin}: two one-sided tests, with p of being worse by that or more, and p of being better by "
            "that or more; they are impossible where the resamples of a dataset show no difference."
        )
    head += ["Wilcoxon p", "Wilcoxon p, Holm"]
    if cases:
        head.append("false claim")
        claim = (
            " False claim: the probability that the arm with the higher accuracy is not the better one (Christodoulou "
            "et al. 2025, arXiv 2505.04720), all test cases pooled; it takes trainings as fixed, so it can be small "
            "although the interval, which does not, is a tie."
        )
    head += ["detectable", "datasets × seeds"]
    return (
        f"## {results.method.title} against each other arm\n\n{table(head, rows)}\n\nDifference: the method minus the "
        f"other arm, in {scale.unit}, mean over datasets, with the 95 % interval of a paired bootstrap. Within each "
        "dataset, test groups are resampled, the same for all arms and seeds, and seeds vary with their spread; a "
        "single seed has no spread, and its interval is too narrow. No interval covers that another seed might have "
        "tuned another learning rate. A tie is an interval that includes 0; the intervals are not adjusted for the "
        f"number of comparisons, p by Holm is adjusted for all rows.{equivalence} Wilcoxon: the signed-rank test over "
        f"datasets, which cannot fall below {2 / 2**n:.2g} for {n} of them.{claim} Detectable: the true difference "
        "that such test images and seeds would show four times in five. Intervals hold for these datasets; only the "
        "signed-rank test generalizes to similar ones."
    )


def _equivalence(comparison: PairedComparison) -> str:
    if comparison.tost is None:
        return "cannot be tested"
    label = "equivalent" if comparison.tost.equivalent else "not worse" if comparison.tost.not_worse else "open"
    return f"{label} ({comparison.tost.p_worse:.2g}, {comparison.tost.p_better:.2g})"


def _probability(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if value >= 0.005 else "< 0.01"


def _dataset_section(results: Results, comparisons: Sequence[PairedComparison]) -> str:
    if not comparisons:
        return ""
    datasets = results.plan.datasets
    rows = []
    for comparison in comparisons:
        differences = (comparison.by_dataset.get(dataset) for dataset in datasets)
        rows.append(
            [
                comparison.other.title,
                *(NONE if d is None else format_estimate(d, scale=comparison.scale) for d in differences),
            ]
        )
    return f"### On each dataset\n\n{table(['against', *datasets], rows)}"


def _all_metrics_section(results: Results) -> str:
    rows = []
    for entry in results.entries:
        values = {name: results.mean(entry, name) for name in results.measures.every}
        cells = [
            NONE if v is None else results.scale(n).text(v) if n not in ("mcc", "brier") else f"{v:.3f}"
            for n, v in values.items()
        ]
        rows.append([entry.title, *cells])
    head = ["arm", *(METRIC_TITLES[name] for name in results.measures.every)]
    return f"## All metrics, mean over datasets\n\n{table(head, rows)}"


def _every_metric_section(bootstrap: Bootstrap, comparisons: Sequence[PairedComparison]) -> str:
    """Write the method's paired difference to each arm in the metrics that are always shown side by side."""
    rows = [
        [c.other.title, *(NONE if d is None else format_difference(d) for d in _in_each_metric(bootstrap, c))]
        for c in comparisons
    ]
    results, shown = bootstrap.results, bootstrap.results.measures.shown
    head = ["against", *(METRIC_TITLES[metric] for metric in shown)]
    units = " and ".join(dict.fromkeys(results.scale(metric).unit for metric in shown))
    older = len(results.uncalibrated)
    note = (
        f"{older} cells have no temperature from validation images, so log loss and Brier score are at cross-fitted "
        "temperatures for all arms: each fifth of the test groups at the temperature that the others fit."
        if older
        else "Log loss and Brier score are at the temperature of the validation images."
        if LOG_LOSS in shown
        else ""
    )
    points_alone = units == POINTS.unit
    body = f"{'Points' if points_alone else f'In {units}'}, with 95 % intervals. {note}".rstrip()
    return f"### In each metric\n\n{table(head, rows)}\n\n{body}" if rows else ""


def _in_each_metric(bootstrap: Bootstrap, comparison: PairedComparison) -> list[PairedComparison | None]:
    return [
        bootstrap.compare(comparison.method, comparison.other, metric) for metric in bootstrap.results.measures.shown
    ]


def _cost_section(results: Results) -> str:
    def mean(entry: Entry, name: str, text: Callable[[float], str]) -> str:
        values = [row[name] for row in results.rows(entry) if row.get(name) is not None]
        return text(float(np.mean(values))) if values else NONE

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
    head = ["arm", "trained weights", "of the backbone", "with head", "seconds per step", "memory, MiB", "file, KiB"]
    unknown = any("seconds_a_step" in r and "memory" not in r for r in results.records)
    hint = " A dash: not measured yet (`shpeft compare memory`)." if unknown else ""
    return (
        f"## Cost\n\n{table(head, rows)}\n\nSeconds per step: the median of each training, while other cells may have "
        "shared the machine. Memory: what a training step holds beside the backbone's weights, namely the activations "
        f"saved for a batch of {results.plan.training.batch_size}, and the gradient and AdamW's two moments of each "
        f"trained value.{hint}"
    )


def _recall_section(bootstrap: Bootstrap) -> str:
    """Write the recalls of the method, the baseline and the best arm; and pairs of classes by themselves.

    Of findings it is their AUROC; numbers have no classes.
    """
    results = bootstrap.results
    by_class = results.measures.by_class
    if not by_class:
        return ""
    metric, baseline = results.metric, results.baseline(results.metric)
    means = [(value, e) for e in results.entries if (value := results.mean(e, metric, results.common[1])) is not None]
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    best = max(means, key=lambda pair: sign * pair[0])[1] if means else None
    entries = [e for e in dict.fromkeys([results.method, baseline, best]) if e is not None]
    parts = []
    for dataset in results.plan.datasets:
        rows = [(entry, results.rows(entry, dataset)) for entry in entries]
        rows = [(entry, records) for entry, records in rows if records]
        if not rows:
            continue
        tested = results.predictions(rows[0][1][0]["key"])
        counts = tested.task.counts(tested.labels, tested.classes)
        names = [f"{name} (n = {count})" for name, count in counts.items()]
        body = [[e.title, *map(points, _mean_by_class([r[by_class] for r in records]))] for e, records in rows]
        parts.append(f"### {dataset}\n\n{table([BY_CLASS[by_class][0], *names], body)}")
        if pair := results.plan.report.pairs.get(dataset):
            parts.append(_pair(bootstrap, [e for e, _ in rows], dataset, pair))
    _, heading, note = BY_CLASS[by_class]
    return "\n\n".join([heading, note, *parts]) if parts else ""


def _mean_by_class(values: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean over seeds for each class; None where a seed's test images have none of it."""
    return [None if None in column else float(np.mean(column)) for column in zip(*values, strict=True)]


def _pair(bootstrap: Bootstrap, entries: Sequence[Entry], dataset: str, pair: tuple[str, str]) -> str:
    """Write the AUROC of two classes by themselves, with the difference to the baseline."""
    baseline, rows = bootstrap.results.baseline(bootstrap.results.metric), []
    for entry in entries:
        values = [float(values[0]) for values in bootstrap.by_seed(entry, dataset, "macro_auroc", pair).values()]
        against = None
        if baseline is not None and entry != baseline:
            against = bootstrap.difference(entry, baseline, dataset, "macro_auroc", pair)
        rows.append(
            [entry.title, points(float(np.mean(values))), NONE if against is None else format_estimate(against)]
        )
    head = ["arm", "AUROC", "minus the baseline" if baseline is None else f"minus {baseline.title}"]
    return f"{pair[0]} against {pair[1]} only:\n\n{table(head, rows)}"


def _rates_section(results: Results) -> str:
    rows = []
    for entry in results.tuned:
        grid = ", ".join(f"{lr:g}" for lr in results.grid(entry))
        chosen = [
            ", ".join(f"{lr:g}" + " (edge)" * edge for lr, edge in results.rates(entry, dataset).items()) or NONE
            for dataset in results.plan.datasets
        ]
        rows.append([entry.title, grid, *chosen])
    return f"## Learning rates\n\n{table(['arm', 'tried', *results.plan.datasets], rows)}" if rows else ""
