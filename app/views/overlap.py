"""Overlap: do the task-specific and the task-agnostic score choose the same weights?"""

import shared
import streamlit as st
import tables
from tables import same_numbers

from shpeft import figures
from shpeft.figures.theme import number
from shpeft.pipeline import overlap_in

JUDGED = {
    "more": "That is more than chance gives: the two scores agree in part.",
    "less": "That is less than chance gives: what one score chooses, the other avoids.",
    "as much": "That is what chance gives: the two scores look for different things.",
}

st.title("Overlap", anchor=False)
st.write(
    "The *task-specific* score asks what your images need; the *task-agnostic* score asks what pretraining made large. "
    "With the same budget, how many weights would both choose?"
)
runs = [run for run in shared.runs_with("support.safetensors") if run.config.selection.score == "hybrid"]
run = shared.pick_run(
    runs,
    "There is no run yet that was scored both ways.",
    "It was not scored both ways, or not yet. Choose another run.",
)
found = overlap_in(run)

st.markdown(
    f"Of the **{found.a:,}** weights that each score would choose, **{found.intersection:,}** are the same "
    f"({found.containment:.2%}). Random choices would share {number(found.chance)} on average and, in 97.5 % of draws, "
    f"no more than {found.chance_high:,}. {JUDGED[found.against_chance]}"
)

columns = st.columns(4)
columns[0].metric("Shared weights", f"{found.intersection:,}", border=True)
columns[1].metric(
    "By chance",
    f"{number(found.chance)}",
    border=True,
    help=f"The average for random choices of the same size among the {found.eligible:,} weights that may be chosen.",
)
columns[2].metric(
    "Jaccard index",
    f"{found.jaccard:.4f}",
    border=True,
    help=f"Shared weights over weights in either choice: 0 is none, 1 is all. Chance gives {found.chance_jaccard:.2g}.",
)
columns[3].metric(
    "Probability by chance",
    "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
    border=True,
    help="How probable it is that random choices share at least this many weights (hypergeometric).",
)

left, right = st.columns([2, 3], gap="large")
left.plotly_chart(
    figures.overlap_sets(found),
    key="sets",
    alt="Bars: weights that one score chooses, and both",
    config={"displayModeBar": False},
)
with left:
    same_numbers(
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
    config={"displayModeBar": False},
)

st.header("The same numbers for each matrix", anchor=False)
rows = [
    {
        "block": layer.block,
        "matrix": layer.matrix,
        "weights": layer.eligible,
        "task-specific": layer.a,
        "task-agnostic": layer.b,
        "shared": layer.intersection,
        "by chance": layer.chance,
    }
    for layer in found.layers
]
st.dataframe(
    rows,
    hide_index=True,
    column_config={
        "weights": st.column_config.NumberColumn(format="localized"),
        "by chance": st.column_config.NumberColumn(format="%.2g"),
    },
)
st.caption(
    "By chance: how many would be shared if each score spread its choices within the matrix at random.",
)
st.download_button(
    "Download as CSV",
    tables.csv_text(rows),
    f"{run.name}_overlap.csv",
    "text/csv",
    on_click="ignore",
    icon=":material/download:",
)
