"""Overlap of one run's task-specific and task-agnostic scores."""

import streamlit as st

from app.widgets import data_table, layout, session
from app.widgets.charts import chart
from shpeft import figures
from shpeft.figures.theme import format_count
from shpeft.pipeline import overlap_within
from shpeft.runs import RunFolder
from shpeft.selection.overlap import Overlap, agreement_begins, overlap_by_budget
from shpeft.selection.ranking import budgets

CONCLUSIONS = {
    "more": "That is more than by chance: the two scores partly agree.",
    "less": "That is less than by chance: each score avoids what the other selects.",
    "as much": "That is as many as by chance: the two scores look for different things.",
}


def score_overlap() -> None:
    """Draw the choice of a run and the overlap of its two scores."""
    st.write(
        "The *task-specific* score measures what matters for your images, the *task-agnostic* score what matters in "
        "the pretrained model. How many weights do both select with the same budget?"
    )
    run = session.choose_run(
        [run for run in session.runs_with("support.safetensors") if run.config.selection.score == "hybrid"],
        if_none="Start a run with the hybrid score first; this page compares its two parts.",
        if_unsuitable="It has no hybrid scores. Choose another run.",
    )
    overlap = overlap_within(run)
    _by_budget(run, overlap)
    st.header("At the run's own budget", anchor=False)
    _summary(overlap)
    left, right = st.columns([2, 3], gap="large")
    with left:
        chart(
            figures.overlap_counts(overlap),
            key="sets",
            alt="Bars: weights selected by one score and by both",
        )
    with left:
        data_table.numbers_table(
            [
                {"selected by": "task-specific only", "weights": overlap.a - overlap.intersection},
                {"selected by": "task-agnostic only", "weights": overlap.b - overlap.intersection},
                {"selected by": "both", "weights": overlap.intersection},
                {"selected by": "both, by chance", "weights": overlap.chance},
            ],
            f"{run.name}_overlap_sets",
        )
    with right:
        chart(
            figures.overlap_bars(overlap),
            key="bars",
            alt="Bars: shared weights of each matrix, observed and by chance",
        )
    _by_layer(run, overlap)


def _summary(overlap: Overlap) -> None:
    st.markdown(
        f"Of the **{overlap.a:,}** weights that each score selects, **{overlap.intersection:,}** are the same "
        f"({overlap.containment:.2%}). Random selections share {format_count(overlap.chance)} on average and, in 95 % "
        f"of draws, {overlap.chance_low:,} to {overlap.chance_high:,}. {CONCLUSIONS[overlap.against_chance]}"
    )


def _by_layer(run: RunFolder, overlap: Overlap) -> None:
    rows = [
        {
            "block": layer.block,
            "matrix": layer.matrix,
            "weights": layer.eligible,
            "task-specific": layer.a,
            "task-agnostic": layer.b,
            "shared": layer.intersection,
            "by chance": layer.chance,
            "chance, 2.5 %": layer.chance_low,
            "chance, 97.5 %": layer.chance_high,
        }
        for layer in overlap.layers
    ]
    formats = {"weights": "localized", "by chance": "%.2g"}
    data_table.numbers_table(rows, f"{run.name}_overlap", formats, label="Show each matrix as a table")
    st.caption(
        "By chance: shared weights if each score selected at random within the matrix, and the range of 95 % of such "
        "draws. One in twenty matrices is outside it by chance."
    )


def _by_budget(run: RunFolder, overlap: Overlap) -> None:
    rankings = run.scores.rankings()
    if rankings is None:
        st.caption("This run was made by an older version and has no rankings, so other budgets cannot be shown.")
        return
    points = overlap_by_budget(rankings, budgets(rankings.reach, also=(overlap.a,), per_decade=8))
    begin, last = agreement_begins(points), points[-1]
    st.markdown(
        f"The scores agree more than by chance for budgets from **{begin:,}** weights "
        f"({layout.share(rankings.share(begin))}) on."
        if begin is not None
        else f"At **{last.k:,}** weights, the largest budget here, both scores select "
        f"{layout.share(last.shares['share'])} of them; random selections share "
        f"{layout.share(last.shares['share by chance'])}."
    )
    chart(
        figures.overlap_by_budget(points, overlap.a),
        key="budgets",
        alt="Lines: the share of the budget that both scores select, by budget",
    )
    st.caption("Dotted: the run's own budget.")
    rows = [
        {
            "budget": point.k,
            "shared": point.shared,
            "by chance": point.chance,
            "chance, 2.5 %": point.chance_low,
            "chance, 97.5 %": point.chance_high,
        }
        | point.shares
        for point in points
    ]
    formats = {"budget": "localized", "by chance": "%.2g"} | {name: "%.2g" for p in points for name in p.shares}
    data_table.numbers_table(rows, f"{run.name}_overlap_by_budget", formats, label="Show as a table")
