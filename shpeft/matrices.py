"""Inside a matrix: which attention heads, rows and columns hold the scores and the chosen weights."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shpeft.backbones import Backbone, WeightInfo

PARTS = ("query", "key", "value")
BINS = 32
"""Rows and columns of a grid, at most."""

Layout = tuple[int, int]
"""Parts and heads: three parts share a matrix' rows, one part its columns."""


def attention_heads(backbone: Backbone) -> dict[str, Layout]:
    """How heads share the rows of each joint query-key-value weight and the columns of each attention output.

    Only attention whose layout a dry run confirms is listed: with the values of one head at 1 and all others at 0, the
    output's input must be 1 in this head's columns and 0 elsewhere. The model is left as it was.

    Returns:
        by parameter name (3, H) of a (3·H·d, D) weight, whose rows are ordered by part, head and feature, and (1, H)
        of a (D, H·d) one, whose columns are ordered by head and feature.
    """
    found = {name: module for name, module in backbone.module.named_modules() if _joint(module)}
    confirmed = dict.fromkeys(found, 0)
    first = next(backbone.module.parameters())
    image = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=first.device, dtype=first.dtype)
    for last in (False, True):
        with backbone.frozen(), torch.no_grad(), ExitStack() as stack:
            for name, module in found.items():
                width, head = module.proj.in_features // module.num_heads, last * (module.num_heads - 1)
                chosen = slice(head * width, (head + 1) * width)
                stack.callback(module.qkv.register_forward_hook(_values_of(chosen)).remove)
                stack.callback(module.proj.register_forward_pre_hook(_seen(confirmed, name, chosen)).remove)
            backbone(image)
    layouts: dict[str, Layout] = {}
    for name, times in confirmed.items():
        if times == 2:
            heads = found[name].num_heads
            layouts |= {f"{name}.qkv.weight": (3, heads), f"{name}.proj.weight": (1, heads)}
    return layouts


def _joint(module: Any) -> bool:
    """Whether a module has the parts of attention with one layer for queries, keys and values."""
    heads, qkv, proj = (getattr(module, name, None) for name in ("num_heads", "qkv", "proj"))
    if not isinstance(heads, int) or not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear):
        return False
    return qkv.out_features == 3 * proj.in_features and proj.in_features % heads == 0


def _values_of(chosen: slice) -> Any:
    def replace(module: nn.Linear, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        values = torch.zeros_like(y)
        values[..., 2 * y.shape[-1] // 3 :][..., chosen] = 1
        return values

    return replace


def _seen(confirmed: dict[str, int], name: str, chosen: slice) -> Any:
    def look(module: nn.Linear, args: tuple[Tensor, ...]) -> None:
        expected = torch.zeros_like(args[0])
        expected[..., chosen] = 1
        confirmed[name] += torch.allclose(args[0], expected, atol=1e-3)

    return look


@dataclass(frozen=True, eq=False)
class HeadSplit:
    """A matrix by attention head.

    Attributes:
        parts: ``query key value`` of a joint weight, ``output`` alone of an attention output.
        means: (parts, heads) mean scores.
        chosen: (parts, heads) how many weights the support holds.
        size: how many weights each part of a head has.
    """

    parts: tuple[str, ...]
    means: NDArray[np.float64]
    chosen: NDArray[np.int64]
    size: int


def mean_by_head(scores: Tensor, layout: Layout) -> NDArray[np.float64]:
    """Mean scores, (parts, heads), of a (rows, columns) matrix."""
    grouped = scores.reshape(*layout, -1) if layout[0] == 3 else scores.t().reshape(*layout, -1)
    return grouped.mean(2, dtype=torch.float64).numpy()


def split_by_head(means: NDArray[np.float64], indices: Tensor | None, shape: tuple[int, ...]) -> HeadSplit:
    """Join the stored mean scores of a matrix' heads with the weights chosen there.

    Args:
        means: (parts, heads), as ``mean_by_head`` has them.
        indices: flat indices into the matrix; None where none is chosen.
        shape: (rows, columns).
    """
    parts, heads = means.shape
    flat = np.empty(0, np.int64) if indices is None else indices.numpy()
    line, length = (flat // shape[1], shape[0]) if parts == 3 else (flat % shape[1], shape[1])
    chosen = np.bincount(line * (parts * heads) // length, minlength=parts * heads).reshape(parts, heads)
    return HeadSplit(PARTS if parts == 3 else ("output",), means, chosen, int(np.prod(shape)) // (parts * heads))


@dataclass(frozen=True, eq=False)
class Grid:
    """How many of a matrix' weights are chosen in each field of a grid laid over it.

    Attributes:
        counts: (R, C).
        rows, columns: the edges of the fields, one more than R and C.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


def grid(indices: Tensor | None, info: WeightInfo, bins: int = BINS) -> Grid:
    """Lay a grid of at most ``bins`` × ``bins`` fields over a parameter.

    Rows are output features, columns all that one of them is computed from; a parameter with one dimension has one
    column.
    """
    rows, columns = info.shape[0], info.numel // info.shape[0]
    down, across = (np.arange(min(bins, n) + 1) * n // min(bins, n) for n in (rows, columns))
    flat = np.empty(0, np.int64) if indices is None else indices.numpy()
    counts, _, _ = np.histogram2d(flat // columns, flat % columns, (down - 0.5, across - 0.5))
    return Grid(counts.astype(np.int64), down, across)
