"""The overlap of several runs: did different tasks, seeds or settings choose the same weights?"""

import shared
import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.figures.theme import number
from shpeft.overlaps import Overlaps
from shpeft.pipeline import overlaps_across
from shpeft.runs import RunFolder, find_run

STILL = {"displayModeBar": False}
CHOICES = {
    "hybrid": "What each run trained",
    "task-specific": "Task-specific half",
    "task-agnostic": "Task-agnostic half",
}
MEASURES = {
    "jaccard": ("Jaccard index", "Shared weights over weights in either choice; 0 is none, 1 is all."),
    "containment": ("Containment", "Which share of the row's weights the column's run chose as well."),
}
CHANCE = {"by chance": "%.2g"}
FIRST = 6
"""Runs that are compared before anybody chooses."""

ROWS = 1000
"""Weights that are listed on the page; the download has them all."""


def show() -> None:
    """Choose runs and compare what they chose."""
    st.write(
        "Runs on different images start from the same backbone. Do they choose the same weights, and more of them than "
        "random choices would share?"
    )
    runs = {run.name: run for run in shared.runs_with("support.safetensors")}
    if len(runs) < 2:
        st.info("There are not two runs yet whose weights could be compared.")
        st.page_link("views/train.py", label="Train a model", icon=":material/arrow_forward:")
        st.stop()
    names = st.multiselect(
        "Runs",
        list(runs),
        default=_to_begin_with(runs),
        format_func=lambda name: shared.title(runs[name]),
        placeholder="Choose two or more runs of one backbone",
    )
    if len(names) < 2:
        st.info("Choose two or more runs.")
        st.stop()
    chosen = [runs[name] for name in names]
    which = "hybrid"
    if all(run.config.selection.score == "hybrid" for run in chosen):
        which = st.segmented_control(
            "Which choice", list(CHOICES), default="hybrid", required=True, format_func=CHOICES.__getitem__
        )
    found = _compared(tuple(names), which, tuple(run.state.updated for run in chosen))
    _in_all(found)
    _pairs(found)
    _sets(found)
    _layers(found)
    _weights(found)


@st.cache_data(max_entries=8, show_spinner="Comparing the runs")
def _compared(names: tuple[str, ...], which: str, updated: tuple[float, ...]) -> Overlaps:
    """The comparison, kept while the runs stay what they are."""
    return overlaps_across([find_run(name) for name in names], which)


def _to_begin_with(runs: dict[str, RunFolder]) -> list[str]:
    """The run that is looked at, or the newest, and others of its backbone and scope."""
    current = runs.get(shared.current_run() or "") or next(iter(runs.values()))
    wanted = (current.config.backbone, current.config.selection.scope)
    alike = [run.name for run in runs.values() if (run.config.backbone, run.config.selection.scope) == wanted]
    return [current.name, *(name for name in alike if name != current.name)][:FIRST]


def _in_all(found: Overlaps) -> None:
    st.markdown(
        f"**{len(found.common):,}** weights were chosen by all {len(found.names)} runs; random choices of the same "
        f"sizes among {found.eligible:,} weights would share {number(found.chance)} on average."
    )


def _pairs(found: Overlaps) -> None:
    st.header("Each two", anchor=False)
    for column, (measure, (title, words)) in zip(st.columns(2, gap="medium"), MEASURES.items(), strict=True):
        with column:
            st.subheader(title, anchor=False)
            st.caption(words)
            st.plotly_chart(
                figures.overlap_matrix(found, measure),
                key=f"pairs-{measure}",
                alt=f"Heatmap: {title.lower()} of each two runs",
                config=STILL,
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
        for (a, b), pair in found.pairs.items()
    ]
    formats = {"by chance": "%.2g", "Jaccard": "%.4f", "Jaccard by chance": "%.2g", "containment": "%.4f", "p": "%.2g"}
    same_numbers(rows, "overlap_pairs", formats, label="Pairs in a table")
    st.caption(
        "Containment: shared weights over the smaller choice. p: how probable it is that random choices share at least "
        "this many weights (hypergeometric, one-sided), each pair alone."
    )


def _sets(found: Overlaps) -> None:
    st.header("Sets", anchor=False)
    st.caption(
        "Each bar counts the weights that exactly the runs with a dot below it chose. Orange: all runs. The tick is "
        "what random choices would give."
    )
    st.plotly_chart(
        figures.upset(found),
        key="upset",
        alt="Bars: weights that exactly these runs chose, and what chance gives",
        config=STILL,
    )
    rows = [
        {"chosen by": " & ".join(i.members), "runs": len(i.members), "weights": i.size, "by chance": i.chance}
        for i in found.intersections
    ]
    same_numbers(rows, "overlap_sets", CHANCE, label="Sets in a table")


def _layers(found: Overlaps) -> None:
    st.header("Each matrix", anchor=False)
    pairs = {f"{a} and {b}": (a, b) for a, b in found.pairs}
    a, b = pairs[st.selectbox("Which two", list(pairs))]
    st.plotly_chart(
        figures.overlap_bars(found.pairs[a, b], (a, b)),
        key="pair",
        alt=f"Bars: weights of each matrix that {a} and {b} share, and what chance gives",
        config=STILL,
    )
    rows = [
        {"block": layer.block, "matrix": layer.matrix, "weights": layer.eligible}
        | dict(zip(found.names, layer.sizes, strict=True))
        | {"all runs": layer.common, "all by chance": layer.chance}
        for layer in found.layers
    ]
    formats = {"weights": "localized", "all by chance": "%.2g"}
    same_numbers(rows, "overlap_matrices", formats, label="Matrices in a table, all runs")
    st.caption("All by chance: expected of choices that are spread at random within the matrix.")
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
        for layer in found.pairs[a, b].layers
        if layer.a or layer.b
    ]
    same_numbers(shared_rows, "overlap_matrices_of_two", CHANCE, label="These two in a table")


def _weights(found: Overlaps) -> None:
    st.header("Weights that every run chose", anchor=False)
    if not found.common:
        st.info(f"There is none. By chance there would be {number(found.chance)}.")
        return
    expected = {layer.name: layer.chance for layer in found.layers}
    rows = [
        {"parameter": w.name, "row": w.row, "column": w.column, "expected in this matrix": expected[w.name]}
        for w in found.common
    ]
    more = f" The first {ROWS:,} are listed, the download has them all." if len(rows) > ROWS else ""
    st.caption(
        f"{len(rows):,} weights; rows and columns count from 0. Expected: how many weights of the matrix all runs "
        f"would share if each had spread its choices there at random.{more}"
    )
    formats = {"expected in this matrix": "scientific"}
    same_numbers(rows, "overlap_weights", formats, label="The weights", open=True, first=ROWS)
