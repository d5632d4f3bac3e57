"""Lay a coarse grid over a weight matrix and count the selected weights in each cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.importance.attention_parts import OUTPUT, parts_of

BINS = 32
"""Rows and columns of a grid, at most, unless there are more attention heads."""


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """The number of selected weights in each cell of a grid over one parameter.

    Attributes:
        counts: (R, C) selected weights.
        rows, columns: (R + 1,) and (C + 1,) edges of the cells.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def __repr__(self) -> str:
        down, across = self.counts.shape
        return f"WeightGrid({down} × {across} cells over {self.rows[-1]:,} × {self.columns[-1]:,} weights)"


def count_in_grid(indices: Tensor | None, info: WeightInfo, heads: int = 0) -> WeightGrid:
    """Lay a grid over a parameter and count the selected weights in its cells.

    Rows are output features, columns everything that one of them is computed from. A parameter with one dimension has
    one column.

    Args:
        indices: (k,) flat indices into the parameter; None if no weight is selected.
        heads: the number of attention heads that share the matrix (see ``attention_heads``); 0 if there are none.
    """
    size = grid_size(info, heads)
    flat = np.empty(0, np.int64) if indices is None else indices.numpy()
    counts = np.bincount(cells_of(flat, info, size), minlength=size[0] * size[1]).reshape(size)
    return WeightGrid(counts, *_edges(info, size))


def grid_size(info: WeightInfo, heads: int = 0) -> tuple[int, int]:
    """Return the number of cells of a parameter's grid, down and across.

    It is ``BINS``, or the number of rows or columns if that is smaller. If heads share them, it is a multiple of the
    number of heads (times their parts), so that each cell lies inside one head.
    """
    parts = parts_of(info.name) if heads else ()
    groups = heads * len(parts)

    def bins(n: int, shared: bool) -> int:
        return groups * max(1, min(BINS, n) // groups) if shared else min(BINS, n)

    rows, columns = _shape(info)
    by_columns = OUTPUT in parts
    return bins(rows, bool(groups) and not by_columns), bins(columns, by_columns)


def cells_of(flat: NDArray[np.int64], info: WeightInfo, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the cell of each flat index (k,) of a parameter, numbered row by row from 0."""
    columns = _shape(info)[1]
    down, across = _edges(info, size)
    row, column = np.searchsorted(down, flat // columns, "right"), np.searchsorted(across, flat % columns, "right")
    cells: NDArray[np.int64] = (row - 1) * size[1] + column - 1
    return cells


def _shape(info: WeightInfo) -> tuple[int, int]:
    return info.shape[0], info.numel // info.shape[0]


def _edges(info: WeightInfo, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    down, across = (np.arange(bins + 1) * n // bins for n, bins in zip(_shape(info), size, strict=True))
    return down, across


@dataclass(frozen=True, eq=False)
class BudgetGrids:
    """The grids of all parameters for one score, at each step of a growing budget.

    Attributes:
        steps: (S,) the budgets, ascending.
        sizes: (P, 2) cells down and across of each parameter's grid, in the model's order.
        added: (S, F) weights that each step adds to each cell, row by row, parameter after parameter.
    """

    steps: NDArray[np.int64]
    sizes: NDArray[np.int64]
    added: NDArray[np.unsignedinteger[Any]]

    def __repr__(self) -> str:
        return f"BudgetGrids({len(self.sizes)} parameters, {len(self.steps)} budgets up to {self.steps[-1]:,})"

    def sparse(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where each step begins (S + 1,), the cells (n,) that it adds weights to, and how many it adds (n,)."""
        step, cells = np.nonzero(self.added)
        starts = np.searchsorted(step, np.arange(len(self.steps) + 1))
        return starts, cells, self.added[step, cells].astype(np.int64)

    def grid(self, infos: Sequence[WeightInfo], name: str, k: int) -> WeightGrid:
        """Return a parameter's grid at a budget of k, which must be one of the steps.

        Args:
            infos: the eligible parameters.
        """
        at = [info.name for info in infos].index(name)
        first, size = int(self.sizes[:at].prod(1).sum()), (int(self.sizes[at, 0]), int(self.sizes[at, 1]))
        until = int(np.flatnonzero(self.steps == k)[0]) + 1
        counts = self.added[:until, first : first + size[0] * size[1]].sum(0, dtype=np.int64)
        return WeightGrid(counts.reshape(size), *_edges(infos[at], size))
