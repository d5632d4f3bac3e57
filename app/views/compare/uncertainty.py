"""Uncertainty on the Compare page: the evidence for one comparison, and the paper's two claims."""

import streamlit as st

from app.views.compare.results import equivalence
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft import figures
from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.hypotheses import Verdict, compared_with_method
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Results
from shpeft.compare.analysis.retained_gain import retained_gains, retention_verdicts
from shpeft.compare.analysis.support_agreement import agreement_verdicts
from shpeft.compare.measures import inside
from shpeft.compare.report import figures as report_figures
from shpeft.compare.report.markdown import VERDICT_LABELS
from shpeft.compare.report.write import read_overlaps
from shpeft.support.markdown import plain


def evidence(results: Results, comparisons: list[PairedComparison]) -> None:
    """Draw one comparison of the selected arm and the evidence for it."""
    st.header("How certain is this?", anchor=False)
    if not comparisons:
        st.caption("No other arm shares a dataset and a seed with the selected one yet.")
        return
    by_title = {comparison.other.title: comparison for comparison in comparisons}
    rivals = [entry.title for entry in compared_with_method(results) if entry.title in by_title]
    default = list(by_title).index(rivals[0]) if rivals else 0
    comparison = by_title[st.selectbox("Against", list(by_title), index=default, key="against")]
    st.markdown(_claim(results, comparison))
    pooled, smallest = comparison.pooled, comparison.mean.smallest
    scale = comparison.scale
    disagree = pooled.share is not None
    columns = st.columns(4 if disagree else 2)
    columns[0].metric(
        "Test cases",
        f"{pooled.cases:,}",
        border=True,
        help=f"In {len(comparison.by_dataset)} datasets, of {pooled.groups:,} patients, or images if patients "
        f"are unknown. At least {pooled.seeds:,} training runs per arm predicted each; that adds no cases.",
    )
    if disagree:
        columns[1].metric(
            "Disagreement",
            f"{pooled.share:.1%}",
            border=True,
            help=f"Only {plain(comparison.method.title)} is right in {pooled.only_method:.1f} cases, only "
            f"{plain(comparison.other.title)} in {pooled.only_other:.1f} (mean over seeds). Only these cases tell the "
            "arms apart.",
        )
        columns[2].metric(
            "False claim",
            _probability(pooled.false_claim),
            border=True,
            help="The probability that the arm with the higher accuracy is not the better one on such cases, computed "
            "from the cases that only one of them gets right (Christodoulou et al. 2025). 50 % is a coin flip. Cases "
            "are treated as independent and trainings as fixed.",
        )
    columns[-1].metric(
        "Detectable difference",
        "none" if smallest is None else f"{scale.text(smallest)} {plain(scale.unit)}",
        border=True,
        help="The smallest true difference that these test images and seeds detect with 80 % power. A smaller "
        "difference usually looks like a tie.",
    )
    names = [*comparison.by_dataset, "mean"]
    differences = [*comparison.by_dataset.values(), comparison.mean]
    chart(
        figures.paired_differences(
            names,
            [d.value for d in differences],
            [d.interval() for d in differences],
            margin=results.margin(comparison.metric),
            unit=f"{inside(comparison.metric)}, {scale.unit}",
            factor=scale.factor,
            decimals=scale.decimals,
            larger_is_better=comparison.mean.larger_is_better,
        ),
        key="claim",
        alt="Intervals: the difference on each dataset and overall",
    )
    rows = []
    for dataset, difference in comparison.by_dataset.items():
        discordance, (low, high) = comparison.discordance[dataset], difference.interval()
        rows.append(
            {
                "dataset": dataset,
                "test cases": discordance.cases,
                "patients or images": discordance.groups,
                "seeds": discordance.seeds,
                "difference": scale.factor * difference.value,
                "low": scale.factor * low,
                "high": scale.factor * high,
                "verdict": VERDICT_LABELS[difference.verdict],
                "detectable": None if difference.smallest is None else scale.factor * difference.smallest,
            }
        )
        if disagree:
            rows[-1] |= {
                f"only {comparison.method.title} right": discordance.only_method,
                f"only {comparison.other.title} right": discordance.only_other,
                "false claim": discordance.false_claim,
            }
    signed, unsigned = f"%+.{scale.decimals}f", f"%.{scale.decimals}f"
    formats = dict.fromkeys(("difference", "low", "high"), signed) | {"false claim": "%.2f", "detectable": unsigned}
    formats |= dict.fromkeys([key for key in rows[0] if key.startswith("only ")], "%.1f")
    numbers_table(rows, "how_sure", formats)


def _claim(results: Results, comparison: PairedComparison) -> str:
    """Return the comparison as a sentence, with its limits."""
    verb = {
        "better": "is **better than**",
        "worse": "is **worse than**",
        "tie": "and {other}: **a tie**, neither is shown to be better",
        "same": "and {other} give **the same decisions** on every test case",
    }[comparison.mean.verdict]
    name = plain(inside(comparison.metric))
    unit = plain(comparison.scale.unit)
    rival = plain(comparison.other.title)
    other = "" if "{other}" in verb else f" {rival}"
    lines = [f"{plain(comparison.method.title)} {verb.format(other=rival)}{other} in {name}: "]
    lines[0] += f"**{format_difference(comparison)}**" + ("" if comparison.mean.same else f" {unit}") + "."
    size = results.margin(comparison.metric)
    if size is None:
        lines.append("Equivalence is not tested: the comparison names no margin in this unit.")
    elif comparison.tost is None:
        lines.append("Equivalence cannot be tested on test sets without any difference.")
    elif comparison.mean.verdict != "better":
        margin = plain(comparison.scale.margin(size))
        lines.append(
            {
                "equivalent": f"The two are equivalent within {margin} (two one-sided tests at 5 %).",
                "not worse": f"It is not worse by {margin} or more (one-sided test at 5 %).",
                "not shown": f"It may be worse by {margin} or more.",
            }[equivalence(comparison)]
        )
    if comparison.mean.verdict in ("better", "worse"):
        significant = "remains significant" if comparison.holm < 0.05 else "is not significant"
        lines.append(f"Corrected for all arms (Holm), the difference {significant}: p = {comparison.holm:.2g}.")
    n = len(comparison.by_dataset)
    lines.append(
        f"Across datasets, the signed-rank test gives p = {comparison.wilcoxon:.2g}; with {n} "
        f"dataset{'s' * (n > 1)} it cannot "
        f"be below {2 / 2**n:.2g}."
    )
    if not comparison.complete:
        lines.append("Cells of these arms are missing, so this is preliminary.")
    elif n < len(results.plan.datasets):
        lines.append(
            f"Only {n} of {len(results.plan.datasets)} datasets are included: a training failed on the others."
        )
    if comparison.pooled.seeds == 1:
        lines.append("With a single seed, the intervals do not include the variation between trainings.")
    return " ".join(lines)


def _probability(p: float | None) -> str:
    if p is None:
        return "–"
    return "below 0.1 %" if p < 0.001 else f"{p:.1%}"


def paper_claims(bootstrap: Bootstrap) -> None:
    """Draw the paper's claims on sparsity and hybridity, if the plan tests them."""
    results = bootstrap.results
    gains = retained_gains(bootstrap)
    retention = retention_verdicts(results, gains)
    if gains or retention:
        st.header("Are a few weights enough?", anchor=False)
        if gains:
            chart(
                report_figures.sparsity(results, gains),
                key="sparsity",
                alt="Lines: the result by number of trained weights, and of full fine-tuning",
            )
        st.caption(
            "All weights are fine-tuned; then only the largest changes stay, and the others are reverted.",
            help="The fine-tuned head stays. Shares are of the gain of full fine-tuning over the frozen model; bars "
            "are 95 % intervals of the metric itself.",
        )
        _verdict_table(retention, "sparsity")
    pairs, magnitude = read_overlaps(results.table.folder)
    if pairs:
        st.header("Do tasks share key weights?", anchor=False)
        chart(
            report_figures.overlaps(pairs),
            key="overlaps",
            alt="Weights that two selections share, by kind of pair, observed and by chance",
        )
        st.caption("Weights that two selections share, mean over pairs, and the number expected by chance.")
        _verdict_table(agreement_verdicts(results.plan.report.questions, pairs, magnitude), "hybridity")
    elif results.plan.overlaps.arms:
        st.caption("The overlap between tasks is not computed yet: run `shpeft compare overlaps`.")
    elif not (gains or retention):
        st.caption("This comparison asks about neither of the paper's claims.")


def _verdict_table(verdicts: list[Verdict], name: str) -> None:
    rows = [{"question": v.question, "answer": v.answer, "evidence": v.evidence, "rule": v.rule} for v in verdicts]
    if rows:
        numbers_table(rows, name, label="By question", open=True, sentences=True)
