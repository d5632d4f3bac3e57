"""The overlap of one run's two halves: what its images need against what pretraining made large."""

import shared
import streamlit as st
import tables

from shpeft import figures
from shpeft.figures.theme import number
from shpeft.overlaps import Overlap, overlap_by_budget
from shpeft.pipeline import overlap_in
from shpeft.ranking import budgets
from shpeft.runs import RunFolder

JUDGED = {
    "more": "That is more than chance gives: the two scores agree in part.",
    "less": "That is less than chance gives: what one score chooses, the other avoids.",
    "as much": "That is what chance gives: the two scores look for different things.",
}
STILL = {"displayModeBar": False}


def show() -> None:
    """Choose a run and compare its halves."""
    st.write(
        "The *task-specific* score asks what your images need; the *task-agnostic* score asks what pretraining made "
        "large. With the same budget, how many weights would both choose?"
    )
    run = shared.pick_run(
        [run for run in shared.runs_with("support.safetensors") if run.config.selection.score == "hybrid"],
        "There is no run yet that was scored both ways.",
        "It was not scored both ways, or not yet. Choose another run.",
    )
    found = overlap_in(run)
    _in_all(found)
    left, right = st.columns([2, 3], gap="large")
    left.plotly_chart(
        figures.overlap_sets(found), key="sets", alt="Bars: weights that one score chooses, and both", config=STILL
    )
    with left:
        tables.same_numbers(
            [
                {"chosen by": "task-specific only", "weights": found.a - found.intersection},
                {"chosen by": "task-agnostic only", "weights": found.b - found.intersection},
                {"chosen by": "both", "weights": found.intersection},
                {"chosen by": "both, by chance", "weights": found.chance},
            ],
            f"{run.name}_overlap_sets",
        )
    right.plotly_chart(
        figures.overlap_bars(found),
        key="bars",
        alt="Bars: shared weights of each matrix, and what chance gives",
        config=STILL,
    )
    _by_layer(run, found)
    _by_budget(run, found)


def _in_all(found: Overlap) -> None:
    st.markdown(
        f"Of the **{found.a:,}** weights that each score would choose, **{found.intersection:,}** are the same "
        f"({found.containment:.2%}). Random choices would share {number(found.chance)} on average and, in 95 % of "
        f"draws, {found.chance_low:,} to {found.chance_high:,}. {JUDGED[found.against_chance]}"
    )
    columns = st.columns(4)
    columns[0].metric("Shared weights", f"{found.intersection:,}", border=True)
    columns[1].metric(
        "By chance",
        f"{number(found.chance)}",
        border=True,
        help=f"The average for random choices of the same size among the {found.eligible:,} weights that may be "
        f"chosen; 95 % of them share {found.chance_low:,} to {found.chance_high:,}.",
    )
    columns[2].metric(
        "Jaccard index",
        f"{found.jaccard:.4f}",
        border=True,
        help="Shared weights over weights in either choice: 0 is none, 1 is all. Chance gives "
        f"{found.chance_jaccard:.2g}.",
    )
    columns[3].metric(
        "Probability by chance",
        "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
        border=True,
        help="How probable it is that random choices share at least this many weights (hypergeometric).",
    )


def _by_layer(run: RunFolder, found: Overlap) -> None:
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
        for layer in found.layers
    ]
    formats = {"weights": "localized", "by chance": "%.2g"}
    tables.same_numbers(rows, f"{run.name}_overlap", formats, label="The same numbers for each matrix")
    st.caption(
        "By chance: how many would be shared if each score spread its choices within the matrix at random, and the "
        "range of 95 % of such draws. Of many matrices, one in twenty lies outside by chance alone."
    )


def _by_budget(run: RunFolder, found: Overlap) -> None:
    st.header("With another budget", anchor=False)
    rankings = run.rankings()
    if rankings is None:
        st.caption("This run was made before rankings were kept, so that other budgets cannot be tried on it.")
        return
    points = overlap_by_budget(rankings, budgets(rankings.reach, also=(found.a,), a_decade=8))
    st.caption(
        "The share of the budget on which both scores agree, for every budget up to "
        f"{rankings.reach:,} weights; the dotted line is the run's own budget."
    )
    st.plotly_chart(
        figures.overlap_against_budget(points, found.a),
        key="budgets",
        alt="Lines: the share of the budget on which both scores agree, by budget",
        config=STILL,
    )
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
    tables.same_numbers(rows, f"{run.name}_overlap_by_budget", formats, label="Budgets in a table")
