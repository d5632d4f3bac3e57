"""Overlap of several runs: do different tasks, seeds or settings select the same weights?"""

from typing import Literal

import streamlit as st

from app.widgets import layout, session
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft import figures
from shpeft.figures.theme import format_count
from shpeft.pipeline import overlaps_across
from shpeft.runs import RunFolder, find_run
from shpeft.selection.set_overlap import Overlaps

SELECTIONS = {
    "hybrid": "Trained weights",
    "task-specific": "By task-specific score",
    "task-agnostic": "By task-agnostic score",
}
MEASURES: dict[Literal["jaccard", "containment"], tuple[str, str]] = {
    "jaccard": ("Jaccard index", "Shared weights over weights in either selection; 0 is none, 1 is all."),
    "containment": ("Containment", "The share of the row's weights that the column's run also selected."),
}
CHANCE = {"by chance": "%.2g"}
MAX_DEFAULT = 6
"""Runs compared by default."""

MAX_ROWS = 1000
"""Weights listed on the page; the download has all of them."""


def run_overlap() -> None:
    """Draw the choice of runs and the overlap of their selections."""
    st.write("Do runs from the same backbone select the same weights, and more than by chance?")
    runs = {run.name: run for run in session.runs_with("support.safetensors")}
    if len(runs) < 2:
        st.info("Start a second run first; this page compares the weights of two or more runs.")
        st.page_link("views/train/page.py", label="Train a model", icon=":material/arrow_forward:")
        st.stop()
    names = st.multiselect(
        "Runs",
        list(runs),
        default=_default_runs(runs),
        format_func=lambda name: layout.run_title(runs[name]),
        placeholder="Choose two or more runs of one backbone",
    )
    if len(names) < 2:
        st.info("Choose two or more runs.")
        st.stop()
    selected = [runs[name] for name in names]
    score = "hybrid"
    if all(run.config.selection.score == "hybrid" for run in selected):
        score = st.segmented_control(
            "Selection", list(SELECTIONS), default="hybrid", required=True, format_func=SELECTIONS.__getitem__
        )
    overlaps = _compare(tuple(names), score, tuple(run.state.read().updated for run in selected))
    _summary(overlaps)
    _blocks(overlaps)
    _pairs(overlaps)
    _sets(overlaps)
    _layers(overlaps)
    _weights(overlaps)


@st.cache_data(max_entries=8, show_spinner="Comparing the runs")
def _compare(names: tuple[str, ...], score: str, updated: tuple[float, ...]) -> Overlaps:
    """Compare the runs; cached until one of them changes."""
    return overlaps_across([find_run(name) for name in names], score)


def _default_runs(runs: dict[str, RunFolder]) -> list[str]:
    """Return the selected or newest run, and others with its backbone and scope."""
    current = runs.get(session.selected_run() or "") or next(iter(runs.values()))
    key = (current.config.backbone, current.config.selection.scope)
    alike = [run.name for run in runs.values() if (run.config.backbone, run.config.selection.scope) == key]
    return [current.name, *(name for name in alike if name != current.name)][:MAX_DEFAULT]


def _summary(overlaps: Overlaps) -> None:
    st.markdown(
        f"All {len(overlaps.names)} runs selected the same **{len(overlaps.common):,}** weights; random selections of "
        f"the same sizes among {overlaps.eligible:,} weights share {format_count(overlaps.chance)} on average."
    )


def _blocks(overlaps: Overlaps) -> None:
    st.header("Where the runs differ", anchor=False)
    st.caption("The share of each run's weights in each block, from the input to the output.")
    chart(
        figures.selected_by_block(overlaps),
        key="blocks",
        alt="Heatmap: the share of each run's weights in each block",
    )
    shares = overlaps.block_shares()
    rows = [{"block": block, **dict(zip(overlaps.names, row, strict=True))} for block, row in shares.items()]
    numbers_table(rows, "overlap_blocks", dict.fromkeys(overlaps.names, "percent"), label="Show blocks as a table")


def _pairs(overlaps: Overlaps) -> None:
    st.header("Pairs of runs", anchor=False)
    for column, (measure, (title, explanation)) in zip(st.columns(2, gap="medium"), MEASURES.items(), strict=True):
        with column:
            st.subheader(title, anchor=False)
            st.caption(explanation)
            chart(
                figures.overlap_matrix(overlaps, measure),
                key=f"pairs-{measure}",
                alt=f"Heatmap: {title.lower()} of each pair of runs",
            )
    rows = [
        {
            "run": a,
            "other run": b,
            "weights": pair.a,
            "other's weights": pair.b,
            "shared": pair.intersection,
            "by chance": pair.chance,
            "chance, 2.5 %": pair.chance_low,
            "chance, 97.5 %": pair.chance_high,
            "Jaccard": pair.jaccard,
            "Jaccard by chance": pair.chance_jaccard,
            "containment": pair.containment,
            "p": pair.p_value,
        }
        for (a, b), pair in overlaps.pairs.items()
    ]
    formats = {"by chance": "%.2g", "Jaccard": "%.4f", "Jaccard by chance": "%.2g", "containment": "%.4f", "p": "%.2g"}
    numbers_table(rows, "overlap_pairs", formats, label="Show pairs as a table")
    st.caption(
        "Containment: shared weights over the smaller selection. p: the probability that random selections share at "
        "least this many weights (hypergeometric, one-sided), not corrected for the number of pairs."
    )


def _sets(overlaps: Overlaps) -> None:
    st.header("Combinations of runs", anchor=False)
    st.caption(
        "Each bar counts the weights that exactly the runs with a dot selected. Orange: all runs. Tick: random "
        "selections."
    )
    chart(
        figures.upset_plot(overlaps),
        key="upset",
        alt="Bars: weights that exactly these runs selected, observed and by chance",
    )
    rows = [
        {"selected by": " & ".join(i.members), "runs": len(i.members), "weights": i.size, "by chance": i.chance}
        for i in overlaps.intersections
    ]
    numbers_table(rows, "overlap_sets", CHANCE, label="Show combinations as a table")


def _layers(overlaps: Overlaps) -> None:
    st.header("Matrices", anchor=False)
    pairs = {f"{a} and {b}": (a, b) for a, b in overlaps.pairs}
    a, b = pairs[st.selectbox("Pair", list(pairs))]
    chart(
        figures.overlap_bars(overlaps.pairs[a, b], (a, b)),
        key="pair",
        alt=f"Bars: weights of each matrix that {a} and {b} share, observed and by chance",
    )
    rows = [
        {"block": layer.block, "matrix": layer.matrix, "weights": layer.eligible}
        | dict(zip(overlaps.names, layer.sizes, strict=True))
        | {"all runs": layer.common, "all by chance": layer.chance}
        for layer in overlaps.layers
    ]
    formats = {"weights": "localized", "all by chance": "%.2g"}
    numbers_table(rows, "overlap_matrices", formats, label="Show all runs as a table")
    st.caption("All by chance: expected for random selections within the matrix.")
    shared_rows = [
        {
            "matrix": layer.name,
            a: layer.a,
            b: layer.b,
            "shared": layer.intersection,
            "by chance": layer.chance,
            "chance, 2.5 %": layer.chance_low,
            "chance, 97.5 %": layer.chance_high,
        }
        for layer in overlaps.pairs[a, b].layers
        if layer.a or layer.b
    ]
    numbers_table(shared_rows, "overlap_matrices_of_two", CHANCE, label="Show this pair as a table")


def _weights(overlaps: Overlaps) -> None:
    st.header("Weights selected by every run", anchor=False)
    if not overlaps.common:
        st.info(f"None. By chance: {format_count(overlaps.chance)}.")
        return
    expected = {layer.name: layer.chance for layer in overlaps.layers}
    rows = [
        {"parameter": w.name, "row": w.row, "column": w.column, "expected in this matrix": expected[w.name]}
        for w in overlaps.common
    ]
    more = f" The first {MAX_ROWS:,} are listed; the download has all of them." if len(rows) > MAX_ROWS else ""
    st.caption(
        f"{len(rows):,} weights; rows and columns count from 0. Expected: shared weights of the matrix if each run "
        f"selected at random there.{more}"
    )
    formats = {"expected in this matrix": "scientific"}
    numbers_table(rows, "overlap_weights", formats, label="Weights", open=True, first=MAX_ROWS)
