"""``importance.npz``: the scores of each parameter, summarized."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shpeft.runs.run_file import entry

if TYPE_CHECKING:
    from shpeft.importance.layer_summaries import LayerSummary


def summaries_bytes(summaries: "Mapping[str, Sequence[LayerSummary]]") -> bytes:
    """Return layer summaries as npz: ``<which>/<field>`` is an array with a row a parameter."""
    import numpy as np

    arrays = {}
    for which, layers in summaries.items():
        for field in dataclasses.fields(layers[0]):
            arrays[f"{which}/{field.name}"] = np.array([np.asarray(getattr(layer, field.name)) for layer in layers])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def summaries_csv(layers: "Sequence[LayerSummary]") -> str:
    """Return a CSV with a row a parameter: its position, its size, how many weights are selected, and its scores."""
    lines = ["name,block,matrix,weights,selected,density,mean,maximum,q01,q25,q50,q75,q99"]
    for layer in layers:
        numbers = (layer.numel, layer.selected, layer.density, layer.mean, layer.maximum)
        lines.append(",".join(map(str, (layer.name, layer.block, layer.matrix, *numbers, *layer.quantiles))))
    return "\n".join(lines) + "\n"


def parse_summaries(data: bytes, which: str) -> "list[LayerSummary]":
    """Return the layer summaries of one score that ``summaries_bytes`` wrote."""
    import numpy as np

    from shpeft.importance.layer_summaries import LayerSummary

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        entry({name.split("/", 1)[0]: None for name in archive.files}, which)
        columns = {field.name: archive[f"{which}/{field.name}"] for field in dataclasses.fields(LayerSummary)}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [LayerSummary(**{name: _scalar_or_tuple(value) for name, value in row.items()}) for row in rows]


def _scalar_or_tuple(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, and an array as a tuple."""
    return tuple(value.tolist()) if getattr(value, "ndim", 0) else value.item()
