"""One matrix on the Importance page: its histogram, attention heads, rows and columns."""

import streamlit as st

from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft import figures
from shpeft.importance.attention_heads import HeadSummary, summarize_heads
from shpeft.importance.attention_parts import attention_parts
from shpeft.importance.layer_summaries import LayerSummary
from shpeft.importance.score_units import ScoreUnit
from shpeft.importance.weight_grid import WeightGrid, count_in_grid
from shpeft.runs import RunFolder
from shpeft.selection.ranking import nearest


def matrix_detail(
    run: RunFolder,
    score: str,
    layer: LayerSummary,
    unit: ScoreUnit,
    threshold: tuple[float, float] | None,
    budget: int | None,
) -> None:
    """Draw the details of a matrix.

    Args:
        threshold: bounds on the lowest selected score; None if unknown.
        budget: the selected budget; None if the run has no rankings and no scores by head.
    """
    drawn, numbers = st.columns([3, 2], gap="large")
    with drawn:
        chart(
            figures.layer_histogram(layer, threshold=threshold[0] if threshold else None, unit=unit.unit),
            key="histogram",
            alt=f"Histogram of the scores in {layer.name}",
        )
    with numbers:
        st.metric("Selected weights", f"{layer.selected:,} of {layer.numel:,}")
        if budget is None:
            st.caption("The lowest selected score is unknown: this run was made by an older version.")
        low, quarter, median, three_quarters, high = layer.quantiles
        st.dataframe(
            [
                {"score": "mean", "value": layer.mean},
                {"score": "largest", "value": layer.maximum},
                {"score": "99th percentile", "value": high},
                {"score": "75th percentile", "value": three_quarters},
                {"score": "median", "value": median},
                {"score": "25th percentile", "value": quarter},
                {"score": "1st percentile", "value": low},
            ],
            hide_index=True,
            column_config={"value": st.column_config.NumberColumn(format="scientific")},
        )
    numbers_table(
        [{"scores from": low, "to": high, "weights": count} for low, high, count in layer.bins() if count],
        f"{run.name}_{score}_{layer.name}_histogram",
        dict.fromkeys(("scores from", "to"), "scientific"),
        label="Show the histogram as a table",
    )
    st.subheader("Inside this matrix", anchor=False)
    means = run.scores.heads(score).get(layer.name)
    selected = _selected_grid(run, score, layer.name, 0 if means is None else means.shape[1], budget)
    if budget is None:
        st.caption("This run was made by an older version, without scores by attention head.")
    elif means is None:
        st.caption(
            "This backbone's layout of attention heads is not confirmed, so the matrix is not split by head."
            if attention_parts(layer.name, [info.name for info in run.scores.weight_infos()])
            else "This matrix has no attention heads."
        )
    else:
        _heads(run, score, layer.name, unit, summarize_heads(layer.name, means, selected))
    _rows_and_columns(run, score, layer.name, selected)


def _selected_grid(run: RunFolder, score: str, name: str, heads: int, budget: int | None) -> WeightGrid:
    """Return the grid of selected weights at the nearest saved budget, which a caption names."""
    infos, fields = run.scores.weight_infos(), run.scores.grids(score)
    if fields is None or budget is None:
        st.caption(
            f"The {run.scores.support(score).k:,} weights that this score selects with the run's own budget, "
            "independent of the slider: this run was made by an older version."
        )
        return count_in_grid(
            run.scores.support(score).indices.get(name), next(info for info in infos if info.name == name), heads
        )
    step = nearest(fields.steps.tolist(), budget)
    near = "" if step == budget else f" Positions are saved at some budgets; this is the nearest to {budget:,} weights."
    st.caption(f"The {step:,} weights that this score selects.{near}")
    return fields.grid(infos, name, step)


def _heads(run: RunFolder, score: str, name: str, unit: ScoreUnit, split: HeadSummary) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            figures.selected_by_head(split),
            key="heads-chosen",
            alt="Bars: selected weights of each attention head",
        )
    with right:
        chart(
            figures.score_by_head(split, unit.unit),
            key="heads-score",
            alt="Bars: the mean score of each attention head",
        )
    numbers_table(
        [
            {"part": part, "head": head, "weights": split.size, "selected": int(selected), "mean score": float(mean)}
            for part, counts, scores in zip(split.parts, split.selected, split.means, strict=True)
            for head, (selected, mean) in enumerate(zip(counts, scores, strict=True), start=1)
        ],
        f"{run.name}_{score}_{name}_heads",
        {"mean score": "scientific"},
        label="Show heads as a table",
    )


def _rows_and_columns(run: RunFolder, score: str, name: str, selected: WeightGrid) -> None:
    chart(
        figures.selected_in_grid(selected),
        key="grid",
        alt="Heatmap: selected weights by row and column",
    )
    rows, columns = selected.rows.tolist(), selected.columns.tolist()
    fields = [
        {
            "rows from": rows[i],
            "to before": rows[i + 1],
            "columns from": columns[j],
            "columns to before": columns[j + 1],
        }
        | {"selected": count}
        for i, line in enumerate(selected.counts.tolist())
        for j, count in enumerate(line)
    ]
    if selected.counts.sum():
        numbers_table(fields, f"{run.name}_{score}_{name}_positions", label="Show rows and columns as a table")
