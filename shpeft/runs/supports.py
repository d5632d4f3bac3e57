"""``support.safetensors``: the selected weights of a run, by score, and the weights that were eligible."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shpeft.runs.run_file import entry, safetensors_metadata
from shpeft.support.jsonable import to_jsonable

if TYPE_CHECKING:
    from shpeft.backbones import WeightInfo
    from shpeft.selection.top_k import Support


def support_bytes(supports: "Mapping[str, Support]", infos: "Sequence[WeightInfo]") -> bytes:
    """Return supports as safetensors: ``<which>/<weight>`` holds ascending flat indices (int32)."""
    import numpy as np
    from safetensors.numpy import save

    tensors = {
        f"{which}/{name}": indices.cpu().numpy().astype(np.int32)
        for which, support in supports.items()
        for name, indices in support.indices.items()
    }
    metadata = {
        "format": "shpeft.support/1",
        "totals": {which: support.total for which, support in supports.items()},
        "eligible": [to_jsonable(info) for info in infos],
    }
    return save(tensors, metadata={"shpeft": json.dumps(metadata, sort_keys=True)})


def parse_support(data: bytes, which: str) -> "Support":
    """Return one of the supports that ``support_bytes`` wrote."""
    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from shpeft.selection.top_k import Support

    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    total = entry(safetensors_metadata(data)["totals"], which)
    shapes, indices, infos = {}, {}, parse_infos(data)
    for info in infos:
        if f"{which}/{info.name}" in tensors:
            shapes[info.name] = info.shape
            indices[info.name] = torch.from_numpy(tensors[f"{which}/{info.name}"].astype(np.int64))
    return Support(indices=indices, shapes=shapes, total=total, infos=infos)


def parse_infos(data: bytes) -> "tuple[WeightInfo, ...]":
    """Return the eligible weights that ``support_bytes`` wrote, in the model's order."""
    from shpeft.backbones import WeightInfo

    rows = safetensors_metadata(data)["eligible"]
    return tuple(WeightInfo(**{**row, "shape": tuple(row["shape"])}) for row in rows)
