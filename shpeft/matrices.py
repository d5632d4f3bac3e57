"""Inside a matrix: which attention heads, rows and columns hold the scores and the chosen weights."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from shpeft.backbones import Backbone, WeightInfo

QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "output"
PARTS = {
    "qkv": (QUERY, KEY, VALUE),
    "kv": (KEY, VALUE),
    **{name + end: (part,) for name, part in (("q", QUERY), ("k", KEY), ("v", VALUE)) for end in ("", "_proj")},
    "proj": (OUTPUT,),
    "out_proj": (OUTPUT,),
}
"""What the linear layers of attention are called, and whose rows they have; of the output the columns are shared."""

BINS = 32
"""Rows and columns of a grid, at most, where there are no more attention heads."""

SLACK = 1e-4
"""How far numbers that ought to be equal may differ, relative to the largest among them."""


def attention_parts(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """The parts of attention that the weight ``name`` has by its name and its neighbours', () of any other weight.

    Args:
        names: the other weights; a layer is attention's when another one beside it makes the queries.
    """
    layer, _, kind = name.rpartition(".")
    place, _, called = layer.rpartition(".")
    beside = {other.removeprefix(place + ".").removesuffix(".weight") for other in names}
    asked = any(QUERY in PARTS.get(other, ()) for other in beside)
    return PARTS.get(called, ()) if kind == "weight" and asked else ()


def attention_heads(backbone: Backbone) -> dict[str, int]:
    """How many heads share the rows of each query, key or value weight and the columns of each attention output.

    Only what a trial confirms is listed. Where the rows of one head, ordered by part, head and feature, get other
    numbers, the output's input must change in the columns of this head and nowhere else; and its change must be affine
    in the numbers of the values, which those of queries and keys are not. Of modules of one class with the same layers
    the first is tried. The model is left as it was.
    """
    found = {name: at for name, module in backbone.module.named_modules() if (at := _attention(module)) is not None}
    calls: dict[str, tuple[Any, Any]] = {}
    first = next(backbone.module.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, backbone.image_size, backbone.image_size, generator=generator)
    with backbone.frozen(), torch.no_grad():
        with ExitStack() as stack:
            for name, attention in found.items():
                hook = partial(_note_call, calls, name)
                stack.callback(attention.module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            backbone(image.to(first))
        tried: dict[tuple[type, str], bool] = {}
        layouts: dict[str, int] = {}
        for name, call in calls.items():
            attention = found[name]
            kind = (type(attention.module), repr(attention.module))
            if kind not in tried:
                tried[kind] = _confirmed(attention, *call)
            if tried[kind]:
                layers = (*attention.sharing, attention.output)
                layouts |= {f"{name}.{layer}.weight": attention.heads for layer in layers}
    return layouts


@dataclass(frozen=True, eq=False)
class _Attention:
    """A module with the parts of attention: its heads, what one of them gives, and the names of its layers."""

    module: nn.Module
    heads: int
    width: int
    sharing: tuple[str, ...]
    output: str

    def weight(self, layer: str) -> Tensor:
        weight = self.module.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        return weight

    def last(self) -> nn.Module:
        """Whose input holds the heads side by side, as they are: a norm over all of them, where there is one."""
        norm = dict(self.module.named_children()).get("norm")
        shape = getattr(getattr(norm, "weight", None), "shape", None)
        over_all = shape == (self.heads * self.width,)
        return norm if norm is not None and over_all else self.module.get_submodule(self.output)


def _attention(module: nn.Module) -> _Attention | None:
    """What the module is as attention, None of another one."""
    heads = getattr(module, "num_heads", None)
    linear = {name: layer for name, layer in module.named_children() if isinstance(layer, nn.Linear)}
    output = next((name for name in linear if PARTS.get(name) == (OUTPUT,)), None)
    if not isinstance(heads, int) or output is None or linear[output].in_features % heads:
        return None
    inside = linear[output].in_features
    sharing = [name for name in linear if OUTPUT not in PARTS.get(name, (OUTPUT,))]
    sharing = [name for name in sharing if linear[name].out_features == len(PARTS[name]) * inside]
    return _Attention(module, heads, inside // heads, tuple(sharing), output) if sharing else None


def _note_call(calls: dict[str, Any], name: str, module: nn.Module, args: Any, options: Any) -> None:
    calls[name] = (args, options)


def _confirmed(attention: _Attention, args: Any, options: Any) -> bool:
    """Whether the first and the last head behave as ``attention_heads`` expects of them."""
    heads, width = attention.heads, attention.width
    seen: list[Tensor] = []

    def mixed(kinds: Sequence[str], head: int, numbers: float) -> Tensor:
        """What the heads give, (tokens, heads · width), where one has ``numbers`` × random ones in these parts."""
        changed = {f"{layer}.weight": attention.weight(layer).clone() for layer in attention.sharing}
        for layer, weight in zip(attention.sharing, changed.values(), strict=True):
            for at, part in enumerate(PARTS[layer]):
                if part in kinds:
                    rows = weight[at * heads * width :][head * width : (head + 1) * width]
                    rows.copy_(numbers * torch.randn(rows.shape, generator=torch.Generator().manual_seed(at)))
        functional_call(attention.module, changed, args, options)
        return seen.pop().reshape(-1, heads * width)

    handle = attention.last().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        attention.module(*args, **options)
        if len(seen) != 1 or seen.pop().shape[-1] != heads * width:  # its output is computed past the layer
            return False
        for head in {0, heads - 1}:
            none, once, twice = (mixed((VALUE,), head, numbers) for numbers in (0, 1, 2))
            asked = mixed((QUERY, KEY), head, 1) - mixed((QUERY, KEY), head, 0)
            columns = slice(head * width, (head + 1) * width)
            affine = _small(twice - 2 * once + none, twice)
            if not (affine and _only_in(columns, once - none) and _only_in(columns, asked)):
                return False
    finally:
        handle.remove()
    return True


def _only_in(columns: slice, change: Tensor) -> bool:
    """Whether something changes in these columns and nothing in the others."""
    rest = change.clone()
    rest[:, columns] = 0
    return bool(change.any()) and _small(rest, change)


def _small(difference: Tensor, beside: Tensor) -> bool:
    return bool(difference.abs().max() <= SLACK * beside.abs().max())


@dataclass(frozen=True, eq=False)
class HeadSplit:
    """A matrix by attention head.

    Attributes:
        parts: ``query key value`` of a joint weight, one or two of them of another, ``output`` of an attention output.
        means: (parts, heads) mean scores.
        chosen: (parts, heads) how many weights the support holds.
        size: how many weights each part of a head has.
    """

    parts: tuple[str, ...]
    means: NDArray[np.float64]
    chosen: NDArray[np.int64]
    size: int


def mean_by_head(scores: Tensor, name: str, heads: int) -> NDArray[np.float64]:
    """Mean scores, (parts, heads), of the (rows, columns) matrix that ``attention_heads`` lists as ``name``."""
    parts = _parts(name)
    grouped = (scores.t() if OUTPUT in parts else scores).reshape(len(parts), heads, -1)
    return grouped.mean(2, dtype=torch.float64).numpy()


def split_by_head(name: str, means: NDArray[np.float64], grid: "Grid") -> HeadSplit:
    """Join the stored mean scores of a matrix' heads with the weights chosen there.

    Args:
        means: (parts, heads), as ``mean_by_head`` has them.
        grid: the matrix', laid for as many heads.
    """
    called = _parts(name)
    lines = grid.counts.sum(0 if OUTPUT in called else 1)
    size = int(grid.rows[-1] * grid.columns[-1]) // means.size
    return HeadSplit(called, means, lines.reshape(*means.shape, -1).sum(2), size)


def _parts(name: str) -> tuple[str, ...]:
    return PARTS[name.removesuffix(".weight").rpartition(".")[2]]


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


def grid(indices: Tensor | None, info: WeightInfo, heads: int = 0) -> Grid:
    """Lay a grid over a parameter and count the chosen weights in its fields.

    Rows are output features, columns all that one of them is computed from; a parameter with one dimension has one
    column.

    Args:
        indices: flat indices into the parameter; None where none is chosen.
        heads: how many share the matrix, as ``attention_heads`` says; 0 where none do.
    """
    size = grid_size(info, heads)
    flat = np.empty(0, np.int64) if indices is None else indices.numpy()
    counts = np.bincount(fields_of(flat, info, size), minlength=size[0] * size[1]).reshape(size)
    return Grid(counts, *_edges(info, size))


def grid_size(info: WeightInfo, heads: int = 0) -> tuple[int, int]:
    """How many fields a grid has down and across.

    That is ``BINS``, or as many as there are rows or columns; where heads share them, a multiple of the heads' number
    (times that of their parts), so that each field lies inside one.
    """
    parts = _parts(info.name) if heads else ()
    groups = heads * len(parts)

    def bins(n: int, shared: bool) -> int:
        return groups * max(1, min(BINS, n) // groups) if shared else min(BINS, n)

    rows, columns = _shape(info)
    by_columns = OUTPUT in parts
    return bins(rows, bool(groups) and not by_columns), bins(columns, by_columns)


def fields_of(flat: NDArray[np.int64], info: WeightInfo, size: tuple[int, int]) -> NDArray[np.int64]:
    """The field, row by row from 0, in which each flat index of a parameter lies."""
    columns = _shape(info)[1]
    down, across = _edges(info, size)
    row, column = np.searchsorted(down, flat // columns, "right"), np.searchsorted(across, flat % columns, "right")
    found: NDArray[np.int64] = (row - 1) * size[1] + column - 1
    return found


def _shape(info: WeightInfo) -> tuple[int, int]:
    return info.shape[0], info.numel // info.shape[0]


def _edges(info: WeightInfo, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    down, across = (np.arange(bins + 1) * n // bins for n, bins in zip(_shape(info), size, strict=True))
    return down, across


@dataclass(frozen=True, eq=False)
class Fields:
    """The grids of every parameter, for one score and a budget that grows in steps.

    Attributes:
        steps: (S,) the budgets, ascending.
        sizes: (P, 2) fields down and across of each parameter's grid, in the model's order.
        added: (S, F) how many weights each step adds in each field, row by row, parameter after parameter.
    """

    steps: NDArray[np.int64]
    sizes: NDArray[np.int64]
    added: NDArray[np.unsignedinteger[Any]]

    def grid(self, infos: Sequence[WeightInfo], name: str, k: int) -> Grid:
        """The grid of a parameter at a budget of k, which is one of the steps: exactly.

        Args:
            infos: the eligible parameters.
        """
        at = [info.name for info in infos].index(name)
        start, size = int(self.sizes[:at].prod(1).sum()), (int(self.sizes[at, 0]), int(self.sizes[at, 1]))
        until = int(np.flatnonzero(self.steps == k)[0]) + 1
        counts = self.added[:until, start : start + size[0] * size[1]].sum(0, dtype=np.int64)
        return Grid(counts.reshape(size), *_edges(infos[at], size))
