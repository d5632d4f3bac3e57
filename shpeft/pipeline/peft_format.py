"""A run as an adapter of Hugging Face's peft: SHiRA, its sparse high-rank adapter, where the support allows it."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shpeft.errors import MissingExtra, ShpeftError
from shpeft.pipeline.loaded_run import LoadedRun

OPENING = """# {name}

{classes}: an adapter for {backbone} at {size} px, made by shpeft. Research use only, not a medical device.

```python
import peft

base = ...  # {backbone} with {count} classes and the base weights {base}
model = peft.PeftModel.from_pretrained(base, "FOLDER").eval()
```

The base weights have the SHA-256 fingerprint `{fingerprint}`. Images are resized to {height} x {width} px (height x
width) by {interpolation}, scaled to 0..1, and normalized with mean {mean} and deviation {std}.
"""


def save_peft(loaded: LoadedRun, path: Path) -> Any:
    """Write a folder that ``peft.PeftModel.from_pretrained`` opens; return the model as peft opens it.

    SHiRA stores r (m + n) entries of each adapted matrix (m, n), with one r for all: further entries than those of the
    run have the value 0 and change nothing.

    Raises:
        MissingExtra: peft is not installed.
        ShpeftError: the run changes weights that SHiRA cannot.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtra(
            "This export needs the package peft, which is not installed. Install it: pip install 'shpeft[peft]'"
        ) from None
    delta, head = loaded.delta, loaded.backbone.head_name
    with loaded.pretrained() as backbone:
        base = copy.deepcopy(backbone.module).requires_grad_(False)
    rank = _rank(base, delta.support.indices)
    layers = [name.removesuffix(".weight") for name in delta.support.indices]
    config = peft.ShiraConfig(
        r=rank, target_modules="|".join(map(re.escape, layers)), modules_to_save=[head], random_seed=0
    )
    adapted = peft.get_peft_model(copy.deepcopy(base), config).eval()
    inner = adapted.get_base_model()
    with torch.no_grad():
        for (name, index), values in zip(delta.support.indices.items(), delta.pieces().values(), strict=True):
            _write(inner.get_submodule(name.removesuffix(".weight")), index, values)
        wrapped: Any = inner.get_submodule(head)
        own = wrapped.modules_to_save["default"]
        own.weight.copy_(delta.head.weight)
        own.bias.copy_(delta.head.bias)
    adapted.save_pretrained(str(path))
    (path / "README.md").write_text(_card(loaded), encoding="utf-8")
    return peft.PeftModel.from_pretrained(base, str(path)).eval()


def run_peft(model: Any, inputs: Tensor) -> Tensor:
    """Return the logits of a model that peft opened, without PyTorch's remark on sparse tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse invariant checks")
        logits: Tensor = model(inputs)
    return logits


def _rank(base: nn.Module, indices: dict[str, Tensor]) -> int:
    """Return the smallest r with which every matrix has room for its entries.

    Raises:
        ShpeftError: a parameter is no matrix of a linear layer, or has too many entries.
    """
    rank = 1
    for name, index in indices.items():
        layer = base.get_submodule(name.rpartition(".")[0])
        if type(layer) is not nn.Linear or not name.endswith(".weight"):
            raise ShpeftError(
                f"peft's SHiRA changes matrices of linear layers alone, and this run changes {index.numel():,} weights "
                f"of {name}. Export to timm, or train with the scope 'matrices' on a transformer."
            )
        m, n = layer.weight.shape
        rank = max(rank, -(-index.numel() // (m + n)))
    for name in indices:
        m, n = base.get_parameter(name).shape
        if rank * (m + n) > m * n:
            raise ShpeftError(
                f"This run changes so many weights of one matrix that SHiRA, which stores as many of all, would need "
                f"{rank * (m + n):,} of the {m * n:,} of {name}. Export to timm."
            )
    return rank


def _write(layer: Any, index: Tensor, values: Tensor) -> None:
    """Set the entries of an adapted layer: those of the run, and others with the value 0."""
    rows, columns = layer.get_base_layer().weight.shape
    count = layer.shira_weight["default"].numel()
    free = torch.ones(rows * columns, dtype=torch.bool)
    free[index] = False
    positions = torch.cat([index, free.nonzero()[: count - index.numel(), 0]])
    order = positions.argsort()
    entries = torch.cat([values, values.new_zeros(count - index.numel())])[order]
    at = positions[order]
    layer.shira_indices["default"] = torch.stack([at // columns, at % columns]).to(torch.int)
    layer.shira_weight["default"].copy_(entries)


def _card(loaded: LoadedRun) -> str:
    delta, transform = loaded.delta, loaded.backbone.transform
    return OPENING.format(
        name=loaded.name,
        classes=", ".join(delta.classes),
        backbone=delta.backbone,
        size=transform.size,
        height=transform.shape[0],
        width=transform.shape[1],
        count=len(delta.classes),
        base=delta.weights if delta.weights in ("pretrained", "random", "embedded") else "that it was trained with",
        fingerprint=delta.base,
        interpolation=transform.interpolation,
        mean=transform.mean,
        std=transform.std,
    )
