"""What the page Importance shows of one matrix: how its scores are spread, its heads, rows and columns."""

import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.matrices import Grid, HeadSplit, attention_parts, grid, split_by_head
from shpeft.ranking import nearest
from shpeft.runs import RunFolder
from shpeft.summaries import LayerSummary, Meaning

STILL = {"displayModeBar": False}


def show(
    run: RunFolder,
    which: str,
    layer: LayerSummary,
    said: Meaning,
    bounds: tuple[float, float] | None,
    budget: int | None,
) -> None:
    """The details of a matrix.

    Args:
        bounds: between which numbers the lowest chosen score lies; None where it is not known.
        budget: the one that is looked at; None where the run kept no rankings and no scores by head.
    """
    chart, numbers = st.columns([3, 2], gap="large")
    chart.plotly_chart(
        figures.layer_histogram(layer, threshold=bounds[0] if bounds else None, unit=said.unit),
        key="histogram",
        alt=f"Histogram of the scores in {layer.name}",
        config=STILL,
    )
    with numbers:
        st.metric("Chosen weights", f"{layer.selected:,} of {layer.numel:,}")
        if budget is None:
            st.caption("Where the choice begins is not known of this run: it was made before rankings were kept.")
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
    same_numbers(
        [{"scores from": low, "to": high, "weights": count} for low, high, count in layer.bins() if count],
        f"{run.name}_{which}_{layer.name}_histogram",
        dict.fromkeys(("scores from", "to"), "scientific"),
        label="The histogram as a table",
    )
    st.subheader("Inside this matrix", anchor=False)
    means = run.heads(which).get(layer.name)
    found = _counted(run, which, layer.name, 0 if means is None else means.shape[1], budget)
    if budget is None:
        st.caption("This run was made before scores were kept by attention head.")
    elif means is None:
        st.caption(
            "How attention heads share this matrix could not be confirmed on this backbone, so it is not split by head."
            if attention_parts(layer.name, [info.name for info in run.weight_infos()])
            else "No attention heads share this matrix: there is nothing to split by head."
        )
    else:
        _heads(run, which, layer.name, said, split_by_head(layer.name, means, found))
    _places(run, which, layer.name, found)


def _counted(run: RunFolder, which: str, name: str, heads: int, budget: int | None) -> Grid:
    """The grid of the chosen weights at the budget or, where it is not kept, the nearest one, which a caption names."""
    infos, fields = run.weight_infos(), run.fields(which)
    if fields is None or budget is None:
        st.caption(
            f"Of the {run.support(which).k:,} weights that this score chooses with the budget of the run, whatever the "
            "slider says: this run was made before the places of others were kept."
        )
        return grid(run.support(which).indices.get(name), next(info for info in infos if info.name == name), heads)
    step = nearest(fields.steps.tolist(), budget)
    near = "" if step == budget else f" Places are kept at the slider's steps, the nearest to {budget:,} weights here."
    st.caption(f"Of the {step:,} weights that this score chooses.{near}")
    return fields.grid(infos, name, step)


def _heads(run: RunFolder, which: str, name: str, said: Meaning, split: HeadSplit) -> None:
    left, right = st.columns(2, gap="large")
    left.plotly_chart(
        figures.selected_by_head(split),
        key="heads-chosen",
        alt="Bars: chosen weights of each attention head",
        config=STILL,
    )
    right.plotly_chart(
        figures.score_by_head(split, said.unit),
        key="heads-score",
        alt="Bars: the mean score of each attention head",
        config=STILL,
    )
    same_numbers(
        [
            {"part": part, "head": head, "weights": split.size, "chosen": int(chosen), "mean score": float(mean)}
            for part, counts, scores in zip(split.parts, split.chosen, split.means, strict=True)
            for head, (chosen, mean) in enumerate(zip(counts, scores, strict=True), start=1)
        ],
        f"{run.name}_{which}_{name}_heads",
        {"mean score": "scientific"},
        label="Heads as a table",
    )


def _places(run: RunFolder, which: str, name: str, found: Grid) -> None:
    st.plotly_chart(
        figures.selected_in_grid(found), key="grid", alt="Heatmap: chosen weights by row and column", config=STILL
    )
    rows, columns = found.rows.tolist(), found.columns.tolist()
    fields = [
        {"rows from": rows[i], "to before": rows[i + 1], "columns from": columns[j], "up to before": columns[j + 1]}
        | {"chosen": count}
        for i, line in enumerate(found.counts.tolist())
        for j, count in enumerate(line)
    ]
    if found.counts.sum():
        same_numbers(fields, f"{run.name}_{which}_{name}_places", label="Rows and columns as a table")
