"""Delta files: a SparseDelta as ``shpeft.delta/2``, a safetensors file of kilobytes that is checked before it is used.

The metadata lists the parameters that have selected weights, as [name, shape] in the support's order. Laid end to end
they form one line, in which every selected weight has a position. Tensors:

* ``values`` float32 (k,): θ − θ0;
* ``low`` uint16 (k,): the low 16 bits of the positions, which ascend;
* ``pages`` int32 (⌈length of the line / 65,536⌉,): the number of positions in each page of 65,536;
* ``head/weight`` float32 (C, D) and ``head/bias`` float32 (C,).

The metadata is one JSON text under the key ``shpeft``: safetensors does not keep the order of several keys, and the
same seed must give the same file.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import BaseMismatch, DeltaError, DeltaFormat
from shpeft.images import InputTransform
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import parse_json
from shpeft.support.image_size import read_image_size
from shpeft.tasks import SINGLE_LABEL, Task, read_task

FORMAT = "shpeft.delta/2"

PAGE = 1 << 16
"""Positions that share their high bits, which the page's number gives: two bytes are enough for each position."""

REQUIRED: dict[str, Any] = {
    "format": str,
    "backbone": str,
    "weights": str,
    "image_size": int | str,
    "classes": list,
    "base": str,
    "total": int,
    "k": int,
    "transform": dict,
    "parameters": list,
}
"""The keys that a delta file's metadata must have, and their types."""


def save_delta(delta: SparseDelta, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write a delta file, atomically; the same delta and metadata give the same bytes.

    Args:
        metadata: further metadata (run configuration, dataset fingerprint, versions), which JSON can represent.

    Returns:
        the path.

    Raises:
        DeltaError: values or a head that are not finite in float32.
        ShpeftError: the file cannot be written.

    Examples:
        >>> import shpeft, tempfile
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=100)
        >>> delta = shpeft.SparseDelta.zeros(model, support)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = shpeft.save_delta(delta, f"{folder}/delta.safetensors")
        ...     shpeft.load_delta(path, base=model)
        SparseDelta(100 of 300.1K weights of test_vit at 32 px, 3 classes)
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
        raise DeltaError("The delta has values that are not finite numbers, so it is not saved. Train it again.")
    tensors["low"], tensors["pages"] = _pack(delta.support)
    header = {
        **(metadata or {}),
        "format": FORMAT,
        "backbone": delta.backbone,
        "weights": delta.weights,
        "image_size": delta.image_size,
        "model_args": list(delta.model_args),
        "classes": list(delta.classes),
        "base": delta.base,
        "total": delta.support.total,
        "k": delta.k,
        "transform": delta.transform.to_dict(),
        "parameters": [[name, list(delta.support.shapes[name])] for name in delta.support.indices],
        **({} if delta.task == SINGLE_LABEL else {"task": delta.task.to_dict()}),
    }
    data = safetensors.torch.save(tensors, {"shpeft": json.dumps(header, sort_keys=True, ensure_ascii=False)})
    return write_atomic(path, data)


def read_header(path: str | Path) -> dict[str, Any]:
    """Return a delta file's metadata; no backbone is needed.

    Raises:
        DeltaFormat: not a delta file.
    """
    return _open(Path(path))[0]


def load_delta(path: str | Path, base: Backbone) -> SparseDelta:
    """Read a delta file for a backbone; everything is checked before anything is used.

    The delta keeps its own classes. If the backbone has others, ``SparseDelta.applied`` refuses it, while a
    ``Switchboard`` changes the backbone's head and classes to the delta's.

    Args:
        base: the pretrained backbone that the delta was trained on; it is not changed.

    Raises:
        DeltaFormat: not a delta file, or a damaged one.
        BaseMismatch: a delta for other base weights or another input.

    Examples:
        See ``save_delta``.
    """
    path = Path(path)
    header, tensors = _open(path)
    if header["base"] != base.fingerprint or _transform(path, header) != base.transform:
        raise BaseMismatch(
            f"{path.name} is a delta for {header['backbone']} at {header['image_size']} px "
            f"({header['weights']}; base {header['base'][:12]}); the backbone is {base.name} at "
            f"{base.image_size} px ({base.weights}; base {base.fingerprint[:12]}). "
            "Create the backbone with that name, those weights and that image size."
        )
    if header["total"] != base.weight_count:
        raise _damaged(path, f"it counts {header['total']} weights in {base.name}, which has {base.weight_count}")
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
        model_args=tuple(header.get("model_args", ())),
        task=task_of(header),
    )


def task_of(header: Mapping[str, Any]) -> Task:
    """Return the task of a delta file's metadata, which files of single labels do not name."""
    return read_task(header.get("task"))


def _pack(support: Support) -> tuple[Tensor, Tensor]:
    """Return ``low`` and ``pages`` of a support."""
    line, parts = 0, []
    for name, index in support.indices.items():
        parts.append(index.cpu() + line)
        line += math.prod(support.shapes[name])
    positions = torch.cat(parts)
    pages = torch.bincount(positions // PAGE, minlength=math.ceil(line / PAGE))
    return (positions % PAGE).to(torch.uint16), pages.to(torch.int32)


def _unpack(path: Path, low: Tensor, pages: Tensor, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Invert ``_pack``: return flat indices by parameter, which must ascend, be in range, and not be empty."""
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
    return {name: part - offset for name, part, offset in zip(shapes, parts, ends - sizes, strict=True)}


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the metadata and tensors of a delta file; the tensors are not checked."""
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
            header = parse_json(metadata["shpeft"])
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DeltaFormat(
            f"{path.name} is not a delta file or is damaged ({error}). Delta files are safetensors; "
            "pickled files can run code and are never loaded."
        ) from None
    if not isinstance(header, dict):
        raise _damaged(path, "its metadata is not a JSON object")
    if header.get("format", FORMAT) != FORMAT:
        raise DeltaFormat(
            f"{path.name} has format {header['format']!r}; this version of shpeft reads {FORMAT!r}. "
            "Use the version that wrote it, or train the delta again."
        )
    missing = [key for key, kind in REQUIRED.items() if not isinstance(header.get(key), kind)]
    if missing:
        raise _damaged(path, f"its metadata lacks a valid {', '.join(missing)}")
    if not all(isinstance(name, str) for name in header["classes"]):
        raise _damaged(path, "its classes are not names")
    try:
        if read_image_size(header["image_size"]) != header["image_size"]:
            raise ValueError("its image size is not written as this program writes it")
        task_of(header)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return header, tensors


def _transform(path: Path, header: dict[str, Any]) -> InputTransform:
    try:
        return InputTransform.from_dict(header["transform"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, "its input transform lacks a size, mean, std or interpolation") from None


def _shapes(path: Path, listed: list[Any], base: Backbone) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the listed parameters, each of which must be the backbone's and listed once."""
    known = {info.name: info.shape for info in base.weight_infos()}
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in listed:
        match entry:
            case [str(name), [*shape]] if name not in shapes and known.get(name) == tuple(shape):
                shapes[name] = known[name]
            case _:
                raise _damaged(path, f"its parameter {entry!r:.100} is listed twice or does not belong to {base.name}")
    if not shapes:
        raise _damaged(path, "it selects no weight")
    return shapes


def _check_tensors(
    path: Path, tensors: dict[str, Tensor], expected: dict[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    """Check that these are exactly the expected tensors, of the expected types and shapes, and finite."""
    if tensors.keys() != expected.keys():
        raise _damaged(
            path, f"it has the tensors {', '.join(sorted(tensors))} instead of {', '.join(sorted(expected))}"
        )
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.shape != shape:
            raise _damaged(
                path, f"{name} should be {dtype} of shape {shape}, found {tensor.dtype} {tuple(tensor.shape)}"
            )
        if dtype.is_floating_point and not bool(tensor.isfinite().all()):
            raise _damaged(path, f"{name} has values that are not finite numbers")


def _damaged(path: Path, reason: str) -> DeltaFormat:
    return DeltaFormat(f"{path.name} is not a valid {FORMAT} file: {reason}. Save it again, or get another copy.")
