"""Delta files: a SparseDelta as ``shpeft.delta/1``, a safetensors file of kilobytes that is checked before it is used.

Tensors: ``<parameter>/indices`` (int32, ascending), ``<parameter>/values`` (float32, θ − θ0), ``head/weight`` and
``head/bias``. Metadata: one JSON text under ``shpeft`` (one key, since safetensors does not keep the order of several,
and the same seed must give the same file).
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.delta import SparseDelta
from shpeft.errors import BaseMismatch, DeltaError, DeltaFormat
from shpeft.files import write_atomic
from shpeft.images import InputTransform
from shpeft.probe import Head
from shpeft.selection import Support

FORMAT = "shpeft.delta/1"
REQUIRED = ("format", "backbone", "weights", "image_size", "classes", "base", "total", "transform")


def save_delta(delta: SparseDelta, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write a delta; the file appears whole or not at all.

    Args:
        metadata: what else to record (run configuration, dataset fingerprint, versions); must be JSON-able.

    Raises:
        DeltaError: values that are not finite, or a parameter too large for 32-bit indices.
    """
    if not bool(delta.values.isfinite().all()):
        raise DeltaError("The delta holds values that are not finite numbers; it is not saved. Train it again.")
    header = {
        **(metadata or {}),
        "format": FORMAT,
        "backbone": delta.backbone,
        "weights": delta.weights,
        "image_size": delta.image_size,
        "classes": list(delta.classes),
        "base": delta.base,
        "total": delta.support.total,
        "k": delta.k,
        "transform": delta.transform.to_dict(),
    }
    tensors: dict[str, Tensor] = {"head/weight": delta.head.weight.float(), "head/bias": delta.head.bias.float()}
    for name, values in delta.pieces().items():
        index = delta.support.indices[name]
        if int(index[-1]) > torch.iinfo(torch.int32).max:
            raise DeltaError(f"{name} is too large for 32-bit indices.")
        tensors[f"{name}/indices"] = index.to(torch.int32)
        tensors[f"{name}/values"] = values.float().clone()
    data = safetensors.torch.save(tensors, {"shpeft": json.dumps(header, sort_keys=True, ensure_ascii=False)})
    return write_atomic(path, data)


def read_header(path: str | Path) -> dict[str, Any]:
    """A delta file's metadata, without a backbone.

    Raises:
        DeltaFormat: not a delta file.
    """
    return _open(Path(path))[0]


def load_delta(path: str | Path, base: Backbone) -> SparseDelta:
    """Read a delta for a backbone; everything is checked before anything is used.

    Raises:
        DeltaFormat: not a delta file, or a damaged one.
        BaseMismatch: a delta for other base weights.
        ClassMismatch: a delta for other classes.
    """
    path = Path(path)
    header, tensors = _open(path)
    if header["base"] != base.fingerprint or InputTransform.from_dict(header["transform"]) != base.transform:
        raise BaseMismatch(
            f"{path.name} is a delta for {header['backbone']} at {header['image_size']} px "
            f"({header['weights']}; base {header['base'][:12]}); the backbone at hand is {base.name} at "
            f"{base.image_size} px ({base.weights}; base {base.fingerprint[:12]}). "
            "Create the backbone with that name, those weights and that image size."
        )
    indices, values = {}, []
    for name in base.parameters:  # in the model's order, which a file does not keep
        if f"{name}/indices" in tensors:
            index = tensors.pop(f"{name}/indices")
            value = tensors.pop(f"{name}/values", None)
            indices[name] = _checked_index(path, name, index, base.parameters[name].numel())
            values.append(_checked_values(path, f"{name}/values", value, (index.numel(),)))
    head = Head(
        _checked_values(path, "head/weight", tensors.pop("head/weight", None), tuple(base.head.weight.shape)),
        _checked_values(path, "head/bias", tensors.pop("head/bias", None), (base.head.out_features,)),
    )
    if tensors:
        raise _damaged(path, f"{sorted(tensors)[0]} belongs to no parameter of {base.name}")
    if not indices:
        raise _damaged(path, "it selects no weight")
    shapes = {name: tuple(base.parameters[name].shape) for name in indices}
    delta = SparseDelta(
        support=Support(indices, shapes, int(header["total"])),
        values=torch.cat(values),
        head=head,
        classes=tuple(header["classes"]),
        backbone=header["backbone"],
        weights=header["weights"],
        transform=base.transform,
        base=header["base"],
    )
    delta.check(base)
    return delta


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a file that says it is a delta."""
    if not path.is_file():
        raise DeltaFormat(f"There is no file {path}. Give the path of a delta file, usually delta.safetensors.")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if "shpeft" not in metadata:
                raise DeltaFormat(
                    f"{path.name} is a safetensors file, but not a shpeft delta: it lacks shpeft's metadata. "
                    "A backbone's weights are given as weights, not as a delta."
                )
            header = json.loads(metadata["shpeft"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
        raise DeltaFormat(
            f"{path.name} is not a delta file or is damaged ({error}). Delta files are safetensors; "
            "pickled files can run code and are never loaded."
        ) from None
    missing = [key for key in REQUIRED if key not in header] if isinstance(header, dict) else list(REQUIRED)
    if missing:
        raise _damaged(path, f"its metadata lacks {', '.join(missing)}")
    if header["format"] != FORMAT:
        raise DeltaFormat(f"{path.name} has format {header['format']!r}; this version of shpeft reads {FORMAT!r}.")
    return header, tensors


def _checked_index(path: Path, name: str, index: Tensor, size: int) -> Tensor:
    if index.dtype != torch.int32 or index.ndim != 1 or index.numel() == 0:
        raise _damaged(path, f"the indices of {name} are not a list of 32-bit integers")
    index = index.long()
    if int(index[0]) < 0 or int(index[-1]) >= size or bool((index.diff() <= 0).any()):
        raise _damaged(path, f"the indices of {name} are not ascending, unique and below {size}")
    return index


def _checked_values(path: Path, name: str, values: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if values is None or values.dtype != torch.float32 or tuple(values.shape) != shape:
        found = "nothing" if values is None else f"{values.dtype} {tuple(values.shape)}"
        raise _damaged(path, f"{name} should be float32 of shape {shape}, found {found}")
    if not bool(values.isfinite().all()):
        raise _damaged(path, f"{name} holds values that are not finite numbers")
    return values


def _damaged(path: Path, reason: str) -> DeltaFormat:
    return DeltaFormat(f"{path.name} is not a valid {FORMAT} file: {reason}. Save it again, or get it anew.")
