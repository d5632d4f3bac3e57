"""Importance: which weights matter, by block and matrix."""

from itertools import pairwise

import shared
import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.runs.formats import summaries_csv

WHICH = {
    "hybrid": ("Hybrid", "Both halves together: the score that decided which weights were trained."),
    "task-specific": ("Task-specific", "How strongly the error on the training images reacts to a weight."),
    "task-agnostic": ("Task-agnostic", "How large a weight is after pretraining, whatever the task."),
}
QUANTITIES = {
    "selected": ("Chosen weights", "How many weights of each matrix are chosen within the budget."),
    "density": ("Chosen share", "Which share of each matrix's weights is chosen."),
    "mean": (
        "Mean score",
        "The average score of each matrix's weights. Scores have no unit; compare within one score.",
    ),
    "maximum": ("Highest score", "The largest score of each matrix's weights."),
}

st.title("Importance", anchor=False)
st.write("Every weight of the backbone gets a score before training, and the highest ones are trained. Where are they?")
run = shared.pick_run(
    shared.runs_with("importance.npz"),
    "There is no run with scores yet.",
    "It has no scores to show. Choose another run.",
)
score = run.config.selection.score

left, right = st.columns(2)
choices = list(WHICH) if score == "hybrid" else ["hybrid"]
which = left.segmented_control(
    "Score",
    choices,
    default="hybrid",
    required=True,
    format_func=lambda name: WHICH[name][0] if score == "hybrid" else score.capitalize(),
)
quantity = right.segmented_control(
    "Quantity", list(QUANTITIES), default="selected", required=True, format_func=lambda name: QUANTITIES[name][0]
)
st.caption(f"{WHICH[which][1] if score == 'hybrid' else 'This run used one score alone.'} {QUANTITIES[quantity][1]}")

layers = run.summaries(which)
by_name = {layer.name: layer for layer in layers}
event = st.plotly_chart(
    figures.importance_heatmap(layers, quantity),
    key=f"heatmap-{run.name}-{which}-{quantity}",
    on_select="rerun",
    selection_mode="points",
    alt=f"Heatmap: {QUANTITIES[quantity][0].lower()}, by block and matrix",
    config={"displayModeBar": False},
)
clicked = [point["customdata"][0] for point in event.selection.points if point.get("customdata")]
if clicked and clicked[0] != st.session_state.get("clicked"):
    st.session_state["clicked"] = st.session_state["layer"] = clicked[0]
if st.session_state.get("layer") not in by_name:  # chosen in a run of another backbone
    st.session_state["layer"] = None

st.header("One matrix", anchor=False)
name = st.selectbox(
    "Matrix",
    list(by_name),
    index=None,
    key="layer",
    placeholder="Click a cell above, or choose a matrix here",
    label_visibility="collapsed",
)
if name:
    layer = by_name[name]
    chart, numbers = st.columns([3, 2], gap="large")
    chart.plotly_chart(
        figures.layer_histogram(layer),
        key="histogram",
        alt=f"Histogram of the scores in {name}",
        config={"displayModeBar": False},
    )
    with numbers:
        st.metric("Chosen weights", f"{layer.selected:,} of {layer.numel:,}")
        low, quarter, median, three_quarters, high = layer.quantiles
        st.dataframe(
            [
                {"score": "mean", "value": layer.mean},
                {"score": "largest", "value": layer.maximum},
                {"score": "99 % are below", "value": high},
                {"score": "75 % are below", "value": three_quarters},
                {"score": "half are below", "value": median},
                {"score": "25 % are below", "value": quarter},
                {"score": "1 % are below", "value": low},
            ],
            hide_index=True,
            column_config={"value": st.column_config.NumberColumn(format="scientific")},
        )
    with chart:
        bins = zip(pairwise(layer.edges), layer.counts, strict=True)
        rows = [{"from": 10**low, "to": 10**high, "weights": count} for (low, high), count in bins]
        same_numbers(rows, f"{run.name}_{which}_{name}", dict.fromkeys(("from", "to"), "scientific"))

st.header("The same numbers in a table", anchor=False)
st.dataframe(
    [
        {
            "block": layer.block,
            "matrix": layer.matrix,
            "weights": layer.numel,
            "chosen": layer.selected,
            "chosen share": 100 * layer.density,
            "mean score": layer.mean,
            "median score": layer.quantiles[2],
            "highest score": layer.maximum,
        }
        for layer in layers
    ],
    hide_index=True,
    column_config={
        "weights": st.column_config.NumberColumn(format="localized"),
        "chosen share": st.column_config.NumberColumn(format="%.4f %%"),
        "mean score": st.column_config.NumberColumn(format="scientific"),
        "median score": st.column_config.NumberColumn(format="scientific"),
        "highest score": st.column_config.NumberColumn(format="scientific"),
    },
)
st.download_button(
    "Download as CSV",
    summaries_csv(layers),
    f"{run.name}_{which}.csv",
    "text/csv",
    on_click="ignore",
    icon=":material/download:",
)
