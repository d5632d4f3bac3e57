"""Importance by block and matrix: a summary, heatmaps of one or two scores, and the numbers as a table."""

import streamlit as st

from app.views.importance.matrix_detail import matrix_detail
from app.views.importance.run_score import RunScore
from app.widgets import layout
from app.widgets.charts import chart
from shpeft import figures
from shpeft.importance.layer_summaries import LayerSummary, half_of_selected
from shpeft.runs.summaries import summaries_csv
from shpeft.support.markdown import plain

QUANTITIES = {
    "selected": ("Selected weights", "Selected weights in each matrix."),
    "density": ("Selected share", "Share of each matrix's weights that is selected."),
    "mean": ("Mean score", "Mean score of each matrix's weights."),
    "maximum": ("Highest score", "Highest score in each matrix."),
}
COUNTED = ("selected", "density")
"""Quantities whose heatmaps share a color scale."""


def choose_quantity() -> str:
    """Draw the choice of the quantity in the heatmaps; return its key."""
    return st.segmented_control(
        "Quantity", list(QUANTITIES), default="selected", required=True, format_func=lambda key: QUANTITIES[key][0]
    )


def summary(selected: RunScore, quantity: str, layers: list[LayerSummary], budget: int | None) -> None:
    """Draw where half of the selected weights are, and what the score means."""
    own = selected.run.scores.support().k
    if full := half_of_selected(layers):
        matrices = ", ".join(
            f"{layer.block} {layer.matrix.removesuffix('.weight')} ({layer.selected:,})" for layer in full[:5]
        )
        more = f" and {len(full) - 5} more" if len(full) > 5 else ""
        st.markdown(
            f"**{budget or own:,} weights**{'' if budget in (None, own) else f' (the run trained {own:,})'}: "
            f"half of them are in {len(full)} of {len(layers)} matrices: {plain(matrices)}{more}."
        )
    st.caption(f"{plain(selected.description)} {QUANTITIES[quantity][1]} **Score:** {plain(selected.unit.description)}")


def heatmaps(
    selected: RunScore,
    layers: list[LayerSummary],
    other: RunScore | None,
    other_layers: list[LayerSummary],
    quantity: str,
) -> None:
    """Draw the heatmap of the score, next to that of the other one if there is one."""
    if other is None:
        _heatmap(selected, layers, quantity, [])
        return
    title = other.title if other.run.name == selected.run.name else f"{other.run.name} · {other.title}"
    left, right = st.columns(2, gap="medium")
    with left:
        st.header(plain(selected.title), anchor=False)
        _heatmap(selected, layers, quantity, other_layers)
    with right:
        st.header(plain(title), anchor=False)
        _heatmap(other, other_layers, quantity, layers)
    st.caption(f"**{plain(title)}:** {plain(other.unit.description)}")


def _heatmap(selected: RunScore, layers: list[LayerSummary], quantity: str, beside: list[LayerSummary]) -> None:
    """Draw the heatmap of a score, on the color scale of the one beside it; a click selects a matrix."""
    key = f"heatmap-{selected.run.name}-{selected.score}-{quantity}"
    drawn = figures.importance_heatmap(
        layers, quantity, unit=selected.unit.unit, beside=beside if quantity in COUNTED else ()
    )
    event = chart(
        drawn,
        key=key,
        on_select="rerun",
        selection_mode="points",
        alt=f"Heatmap: {QUANTITIES[quantity][0].lower()}, by block and matrix",
        name=f"importance_{selected.run.name}_{selected.score}",
    )
    if clicked := layout.newly_clicked(event, key):
        st.session_state["layer"] = clicked[0]


@layout.section
def selected_matrix(selected: RunScore, layers: list[LayerSummary], budget: int | None) -> None:
    """Draw the choice of a matrix, by a click on the heatmap or from the list, and its details."""
    by_name = {layer.name: layer for layer in layers}
    if st.session_state.get("layer") not in by_name:  # left over from a run of another backbone
        st.session_state["layer"] = None
    st.header("One matrix", anchor=False)
    name = st.selectbox(
        "Matrix",
        list(by_name),
        index=None,
        key="layer",
        placeholder="Click a matrix of the map or choose one",
        label_visibility="collapsed",
    )
    if name:
        threshold = selected.threshold(budget)
        matrix_detail(selected.run, selected.score, by_name[name], selected.unit, threshold, budget)


def all_matrices(selected: RunScore, layers: list[LayerSummary], other_layers: list[LayerSummary]) -> None:
    """Draw the numbers of all matrices as a table, with a CSV download."""
    rows = [
        {
            "block": layer.block,
            "matrix": layer.matrix,
            "weights": layer.numel,
            "selected": layer.selected,
            "selected share": 100 * layer.density,
            "mean score": layer.mean,
            "median score": layer.quantiles[2],
            "highest score": layer.maximum,
        }
        for layer in layers
    ]
    if other_layers:
        others = ({"selected, other": other.selected, "mean, other": other.mean} for other in other_layers)
        rows = [row | other for row, other in zip(rows, others, strict=True)]
    scientific = st.column_config.NumberColumn(format="scientific")
    with st.expander("Show all matrices as a table"):
        st.dataframe(
            rows,
            hide_index=True,
            column_config={
                "weights": st.column_config.NumberColumn(format="localized"),
                "selected share": st.column_config.NumberColumn(format="%.4f %%"),
                **dict.fromkeys(("mean score", "median score", "highest score", "mean, other"), scientific),
            },
        )
    st.download_button(
        "Download CSV",
        summaries_csv(layers),
        f"{selected.run.name}_{selected.score}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
