"""What the page Importance shows of one matrix: how its scores are spread, its heads, rows and columns."""

import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.matrices import attention_parts, grid, split_by_head
from shpeft.runs import RunFolder
from shpeft.summaries import LayerSummary, Meaning

STILL = {"displayModeBar": False}


def show(
    run: RunFolder, which: str, layer: LayerSummary, said: Meaning, bounds: tuple[float, float] | None, ranked: bool
) -> None:
    """The details of a matrix.

    Args:
        bounds: between which numbers the lowest chosen score lies; None where it is not known.
        ranked: whether the run kept rankings and scores by head.
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
        if not ranked:
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
    st.caption(
        "Of the weights that this score chooses with the budget of the run, whatever the slider says: the places of "
        "others are not kept."
    )
    if ranked:
        _heads(run, which, layer.name, said)
    else:
        st.caption("This run was made before scores were kept by attention head.")
    _places(run, which, layer.name)


def _heads(run: RunFolder, which: str, name: str, said: Meaning) -> None:
    shapes = {info.name: info.shape for info in run.weight_infos()}
    if name not in (means := run.heads(which)):
        st.caption(
            "How attention heads share this matrix could not be confirmed on this backbone, so it is not split by head."
            if attention_parts(name, shapes)
            else "No attention heads share this matrix: there is nothing to split by head."
        )
        return
    split = split_by_head(name, means[name], run.support(which).indices.get(name), shapes[name])
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


def _places(run: RunFolder, which: str, name: str) -> None:
    info = next(info for info in run.weight_infos() if info.name == name)
    found = grid(run.support(which).indices.get(name), info)
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
