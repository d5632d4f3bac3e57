"""The part of the Compare page that doubts: how sure one claim is; and the paper's two claims."""

import streamlit as st
from comparing import equivalence
from evaluating import PLAIN
from tables import same_numbers

from shpeft import figures
from shpeft.compare import answer, claims, pictures
from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.markdown import WORDS, margin_told
from shpeft.compare.results import Results
from shpeft.compare.writing import read_overlaps
from shpeft.runs.card import METRICS


def doubt(results: Results, duels: list[Duel]) -> None:
    """One claim of the chosen arm, and what it stands on."""
    st.header("How sure is this?", anchor=False)
    if not duels:
        st.caption("No other arm has a dataset and a seed in common with the chosen one yet.")
        return
    by_title = {duel.other.title: duel for duel in duels}
    rivals = [entry.title for entry in answer.rivals(results) if entry.title in by_title]
    usual = list(by_title).index(rivals[0]) if rivals else 0
    duel = by_title[st.selectbox("Against", list(by_title), index=usual, key="against")]
    st.markdown(_claim(results, duel))
    pooled, smallest = duel.pooled, duel.mean.smallest
    columns = st.columns(4)
    columns[0].metric(
        "Test cases",
        f"{pooled.cases:,}",
        border=True,
        help=f"In {len(duel.by_dataset)} datasets, of {pooled.groups:,} patients or, where patients are not known, "
        f"images. Each was seen by {pooled.seeds} training runs of either arm or more, which does not multiply it.",
    )
    columns[1].metric(
        "They disagree on",
        f"{pooled.disagree:.1%}",
        border=True,
        help=f"Only {duel.method.title} is right in {pooled.only_method:.1f} cases, only {duel.other.title} in "
        f"{pooled.only_other:.1f}, the mean over seeds. All that is known of the difference in accuracy is in these.",
    )
    columns[2].metric(
        "False claim",
        _probability(pooled.false_claim),
        border=True,
        help="The probability that the arm that is ahead in accuracy is not the better one on cases like these, from "
        "the cases that only one of them gets right (Christodoulou et al. 2025). 50 % is a coin. It takes cases as "
        "independent and trainings as fixed.",
    )
    columns[3].metric(
        "Could show",
        "nothing" if smallest is None else f"{100 * smallest:.1f} points",
        border=True,
        help="The smallest true difference that these test images and seeds would show four times in five. A smaller "
        "one mostly passes for a tie, whichever arm is better.",
    )
    names = [*duel.by_dataset, "mean"]
    found = [*duel.by_dataset.values(), duel.mean]
    st.plotly_chart(
        figures.differences(
            names,
            [d.value for d in found],
            [d.interval() for d in found],
            margin=results.plan.report.margin,
            unit=f"{METRICS[duel.metric].partition(' (')[0].lower()}, points",
            larger_is_better=duel.mean.larger_is_better,
        ),
        key="claim",
        alt="Intervals: the difference on each dataset, and over all",
        config=PLAIN,
    )
    rows = []
    for dataset, difference in duel.by_dataset.items():
        odds, (low, high) = duel.odds[dataset], difference.interval()
        rows.append(
            {
                "dataset": dataset,
                "test cases": odds.cases,
                "patients or images": odds.groups,
                "seeds": odds.seeds,
                "difference": 100 * difference.value,
                "low": 100 * low,
                "high": 100 * high,
                "verdict": WORDS[difference.verdict],
                f"only {duel.method.title} right": odds.only_method,
                f"only {duel.other.title} right": odds.only_other,
                "false claim": odds.false_claim,
                "could show": None if difference.smallest is None else 100 * difference.smallest,
            }
        )
    formats = dict.fromkeys(("difference", "low", "high"), "%+.1f") | {"false claim": "%.2f", "could show": "%.1f"}
    formats |= dict.fromkeys([key for key in rows[0] if key.startswith("only ")], "%.1f")
    same_numbers(rows, "how_sure", formats)


def _claim(results: Results, duel: Duel) -> str:
    """The claim in a sentence, and what limits it."""
    verb = {
        "better": "is **ahead of**",
        "worse": "is **behind**",
        "tie": "and {other}: **a tie**, neither is shown to be better",
        "same": "and {other} give **the same decisions** on every test case",
    }[duel.mean.verdict]
    name = METRICS[duel.metric].partition(" (")[0].lower()
    other = "" if "{other}" in verb else f" {duel.other.title}"
    lines = [f"{duel.method.title} {verb.format(other=duel.other.title)}{other} in {name}: "]
    lines[0] += f"**{claims.difference_told(duel)}**" + ("" if duel.mean.same else " points") + "."
    if duel.tost is None:
        lines.append("No claim of equivalence can be made from test sets on which nothing differs.")
    elif duel.mean.verdict != "better":
        margin = margin_told(results.plan.report.margin)
        lines.append(
            {
                "equivalent": f"The two are equivalent within {margin} (two one-sided tests at 5 %).",
                "not worse": f"It is not worse by {margin} or more (one-sided test at 5 %).",
                "open": f"That it is not worse by {margin} or more is not shown.",
            }[equivalence(duel)]
        )
    if duel.mean.verdict in ("better", "worse"):
        stands = "stands" if duel.holm < 0.05 else "does not stand"
        lines.append(f"With all arms compared at once (Holm), this {stands}: p = {duel.holm:.2g}.")
    n = len(duel.by_dataset)
    lines.append(
        f"Across datasets, the signed-rank test gives p = {duel.wilcoxon:.2g}; with {n} of them it cannot fall below "
        f"{2 / 2**n:.2g}."
    )
    if not duel.complete:
        lines.append("Cells of these arms are still missing: this is no result yet.")
    elif n < len(results.plan.datasets):
        lines.append(f"Only {n} of {len(results.plan.datasets)} datasets count: on the others a training failed.")
    if duel.pooled.seeds == 1:
        lines.append("There is one seed only: what another training would change is in none of the intervals.")
    return " ".join(lines)


def _probability(p: float) -> str:
    return "below 0.1 %" if p < 0.001 else f"{p:.1%}"


def paper(bootstrap: Bootstrap) -> None:
    """Sparsity and hybridity, as far as the comparison asks about them."""
    results = bootstrap.results
    kept = claims.kept(bootstrap)
    sparse = claims.sparsity(results, kept)
    if sparse:
        st.header("Do a few weights decide the result?", anchor=False)
        if kept:
            st.plotly_chart(
                pictures.sparsity(results, kept),
                key="sparsity",
                alt="Lines: the result against the number of trained weights, and that of full fine-tuning",
                config=PLAIN,
            )
        st.caption(
            "All weights are fine-tuned; then only the largest changes are kept, and the others taken back.",
            help="The fine-tuned head stays. Kept is the share of what full fine-tuning gained over the frozen model; "
            "bars are 95 % intervals of the measure itself.",
        )
        same_numbers(_told(sparse), "sparsity", label="Question by question", open=True, sentences=True)
    pairs, foretold = read_overlaps(results.table.folder)
    if pairs:
        st.header("Do tasks share key weights?", anchor=False)
        st.plotly_chart(
            pictures.overlaps(pairs),
            key="overlaps",
            alt="Weights that two choices share, by kind of pair, and what chance gives",
            config=PLAIN,
        )
        st.caption("Weights that two choices share, the mean over pairs, beside what random choices would share.")
        same_numbers(
            _told(claims.hybridity(pairs, foretold)),
            "hybridity",
            label="Question by question",
            open=True,
            sentences=True,
        )
    elif results.plan.overlaps.arms:
        st.caption("Whether tasks choose the same weights was not computed yet: `shpeft compare overlaps`.")


def _told(findings: list[claims.Finding]) -> list[dict[str, str]]:
    return [{"question": f.question, "answer": f.answer, "found": f.number, "rule": f.rule} for f in findings]
