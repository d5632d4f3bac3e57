"""Delta files: a SparseDelta as ``shpeft.delta/2``, a safetensors file of kilobytes that is checked before it is used.

The metadata lists the parameters that have selected weights, as [name, shape] in the support's order. Laid end to end
they are one line, on which every selected weight has a position. Tensors:

* ``values`` float32 (k,): θ − θ0;
* ``low`` uint16 (k,): the positions' low 16 bits, the positions ascending;
* ``pages`` int32 (⌈length of the line / 65,536⌉,): how many positions lie in each page of 65,536;
* ``head/weight`` float32 (C, D) and ``head/bias`` float32 (C,).

Metadata is one JSON text under ``shpeft`` (one key, since safetensors does not keep the order of several, and the same
seed must give the same file).
"""

import json
import math
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

FORMAT = "shpeft.delta/2"

PAGE = 1 << 16
"""Positions that share their high bits: a page's count says how many have them, so that 2 bytes are enough for each."""

REQUIRED = {
    "format": str,
    "backbone": str,
    "weights": str,
    "image_size": int,
    "classes": list,
    "base": str,
    "total": int,
    "k": int,
    "transform": dict,
    "parameters": list,
}


def save_delta(delta: SparseDelta, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write a delta; the file appears whole or not at all.

    Args:
        metadata: what else to record (run configuration, dataset fingerprint, versions); must be JSON-able.

    Raises:
        DeltaError: values or a head that are not finite in float32.
    """
    tensors = {
        name: tensor.detach().cpu().float().contiguous()
        for name, tensor in {
            "values": delta.values,
            "head/weight": delta.head.weight,
            "head/bias": delta.head.bias,
        }.items()
    }
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise DeltaError("The delta holds values that are not finite numbers; it is not saved. Train it again.")
    tensors["low"], tensors["pages"] = _pack(delta.support)
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
        "parameters": [[name, list(delta.support.shapes[name])] for name in delta.support.indices],
    }
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

    The delta keeps its own classes: where the backbone has others, applying it is refused, and a ``Switchboard`` lets
    the backbone follow.

    Raises:
        DeltaFormat: not a delta file, or a damaged one.
        BaseMismatch: a delta for other base weights or another input.
    """
    path = Path(path)
    header, tensors = _open(path)
    if header["base"] != base.fingerprint or _transform(path, header) != base.transform:
        raise BaseMismatch(
            f"{path.name} is a delta for {header['backbone']} at {header['image_size']} px "
            f"({header['weights']}; base {header['base'][:12]}); the backbone at hand is {base.name} at "
            f"{base.image_size} px ({base.weights}; base {base.fingerprint[:12]}). "
            "Create the backbone with that name, those weights and that image size."
        )
    if header["total"] != base.count:
        raise _damaged(path, f"it counts {header['total']} weights in {base.name}, which has {base.count}")
    shapes = _shapes(path, header["parameters"], base)
    k, classes = header["k"], header["classes"]
    pages = math.ceil(sum(map(math.prod, shapes.values())) / PAGE)
    expected = {
        "values": (torch.float32, (k,)),
        "low": (torch.uint16, (k,)),
        "pages": (torch.int32, (pages,)),
        "head/weight": (torch.float32, (len(classes), base.head.in_features)),
        "head/bias": (torch.float32, (len(classes),)),
    }
    _check_tensors(path, tensors, expected)
    return SparseDelta(
        support=Support(_unpack(path, tensors["low"], tensors["pages"], shapes), shapes, header["total"]),
        values=tensors["values"],
        head=Head(tensors["head/weight"], tensors["head/bias"]),
        classes=tuple(classes),
        backbone=header["backbone"],
        weights=header["weights"],
        transform=base.transform,
        base=header["base"],
    )


def _pack(support: Support) -> tuple[Tensor, Tensor]:
    """``low`` and ``pages`` of a support."""
    line, parts = 0, []
    for name, index in support.indices.items():
        parts.append(index.cpu() + line)
        line += math.prod(support.shapes[name])
    positions = torch.cat(parts)
    pages = torch.bincount(positions // PAGE, minlength=math.ceil(line / PAGE))
    return (positions % PAGE).to(torch.uint16), pages.to(torch.int32)


def _unpack(path: Path, low: Tensor, pages: Tensor, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The inverse of ``_pack``: flat indices by parameter; ascending, unique, in range and at least one in each."""
    pages = pages.long()
    if bool((pages < 0).any()) or int(pages.sum()) != low.numel():
        raise _damaged(path, f"its pages do not count its {low.numel()} weights")
    positions = torch.repeat_interleave(pages) * PAGE + low.long()
    sizes = torch.tensor([math.prod(shape) for shape in shapes.values()])
    ends = sizes.cumsum(0)
    if bool((positions.diff() <= 0).any()) or bool((positions >= ends[-1]).any()):
        raise _damaged(path, f"its indices are not ascending, unique and below {int(ends[-1])}")
    counts = torch.searchsorted(positions, ends).diff(prepend=torch.zeros(1, dtype=torch.int64))
    if bool((counts == 0).any()):
        raise _damaged(path, f"it selects no weight of {list(shapes)[int(counts.argmin())]}")
    parts = positions.split(counts.tolist())
    return {name: part - start for name, part, start in zip(shapes, parts, ends - sizes, strict=True)}


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
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DeltaFormat(
            f"{path.name} is not a delta file or is damaged ({error}). Delta files are safetensors; "
            "pickled files can run code and are never loaded."
        ) from None
    if not isinstance(header, dict):
        raise _damaged(path, "its metadata is no JSON object")
    if header.get("format", FORMAT) != FORMAT:
        raise DeltaFormat(
            f"{path.name} has format {header['format']!r}; this version of shpeft reads {FORMAT!r}. "
            "Use the version that wrote it, or train the delta again."
        )
    missing = [key for key, kind in REQUIRED.items() if not isinstance(header.get(key), kind)]
    if missing:
        raise _damaged(path, f"its metadata lacks a valid {', '.join(missing)}")
    if not all(isinstance(name, str) for name in header["classes"]):
        raise _damaged(path, "its classes are no names")
    return header, tensors


def _transform(path: Path, header: dict[str, Any]) -> InputTransform:
    try:
        return InputTransform.from_dict(header["transform"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, "its input transform lacks a size, mean, std or interpolation") from None


def _shapes(path: Path, listed: list[Any], base: Backbone) -> dict[str, tuple[int, ...]]:
    """The listed parameters' shapes, each known to the backbone and listed once."""
    known = {info.name: info.shape for info in base.weight_infos()}
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in listed:
        match entry:
            case [str(name), [*shape]] if name not in shapes and known.get(name) == tuple(shape):
                shapes[name] = known[name]
            case _:
                raise _damaged(path, f"its parameter {entry!r:.100} is listed twice or is none of {base.name}'s")
    if not shapes:
        raise _damaged(path, "it selects no weight")
    return shapes


def _check_tensors(
    path: Path, tensors: dict[str, Tensor], expected: dict[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    """Exactly the expected tensors, of the expected types and shapes, finite."""
    if tensors.keys() != expected.keys():
        raise _damaged(path, f"it holds {', '.join(sorted(tensors))} instead of {', '.join(sorted(expected))}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.shape != shape:
            raise _damaged(
                path, f"{name} should be {dtype} of shape {shape}, found {tensor.dtype} {tuple(tensor.shape)}"
            )
        if dtype.is_floating_point and not bool(tensor.isfinite().all()):
            raise _damaged(path, f"{name} holds values that are not finite numbers")


def _damaged(path: Path, reason: str) -> DeltaFormat:
    return DeltaFormat(f"{path.name} is not a valid {FORMAT} file: {reason}. Save it again, or get it anew.")
