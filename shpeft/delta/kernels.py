"""The gradient of a few weights of a linear layer as a product: Σ_n gy[n, row_j] · x[n, col_j], by exact kernels."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from shpeft.equations import sparse_gradient

Kernel = Literal["gather", "sampled", "dense"]
KERNELS: tuple[Kernel, ...] = ("gather", "sampled", "dense")

GATHER, SAMPLED, TRANSPOSE = 140.0, 7.0, 120.0
"""What a weight costs the gathering and the sampled product, and a row or a column the latter's transposes, in
multiply-adds of the dense product. From ``benchmarks/calibrate.py`` on two cores of two makes of processor: there the
chosen kernel takes 1.05 times the quickest one's time on average. A choice never changes a result beyond rounding."""

CHUNK_ELEMENTS = 1 << 20
"""Elements of the gathered columns that are alive at a time: they should stay in the processor's cache."""

MOST_FEATURES = 3 / 4
"""Share of a layer's rows or columns from which all are taken: picking most of them costs more than it saves."""

TRANSPOSED_ROWS = 64
"""Rows of a matrix that are transposed at a time on a processor: their columns' parts fill whole cache lines."""


def cheapest_kernel(k: int, rows: int, columns: int, device: str = "cpu") -> Kernel:
    """The kernel with the lowest expected time for k weights that lie in so many rows and columns.

    ``gather`` multiplies gathered columns; ``sampled`` computes the product at the wanted places only (SDDMM);
    ``dense`` multiplies the needed rows and columns and picks. All take time in proportion to the tokens.
    """
    cost: dict[Kernel, float] = {"gather": GATHER * k, "dense": float(rows * columns)}
    if device in ("cpu", "cuda"):
        cost["sampled"] = TRANSPOSE * (rows + columns) + SAMPLED * k
    return min(cost, key=cost.__getitem__)


class Product:
    """Σ_n gy[n, row_j] · x[n, col_j] for the selected weights of one linear layer, by one of three exact kernels.

    Attributes:
        k: how many weights.
        rows, columns: the output and input features that any weight needs, ascending; all where most are needed.
        kernel: how the products are computed.
    """

    def __init__(self, index: Tensor, shape: tuple[int, int], kernel: Kernel | None = None):
        """``index`` (k,): flat indices into the weight, ascending; ``shape``: the weight's, (out, in)."""
        self.k = index.numel()
        self.rows, self._row = _needed(index // shape[1], shape[0])
        self.columns, self._col = _needed(index % shape[1], shape[1])
        self._rows_of_weights = self.rows[self._row]
        self.kernel = kernel or cheapest_kernel(self.k, len(self.rows), len(self.columns), index.device.type)

    def __call__(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(k,) of ``dtype`` from gy (N, out) and the needed columns of x (N, columns)."""
        kernel = self.kernel
        if kernel == "sampled" and torch.compiler.is_compiling():  # sparse tensors cannot be traced
            kernel = "dense"
        if kernel == "gather":
            return self._gather(gy, x, dtype)
        gy = columns_of(gy, self.rows)
        if kernel == "sampled":
            return self._sampled(gy, x, dtype)
        return (gy.to(dtype).t() @ x.to(dtype))[self._row, self._col]

    def _gather(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        """``equations.sparse_gradient``, some weights at a time, summed in the values' precision."""
        gy, x = gy.to(dtype), x.to(dtype)
        step = max(1, CHUNK_ELEMENTS // max(1, gy.shape[0]))
        if self.k <= step:
            return sparse_gradient(gy, x, self._rows_of_weights, self._col)
        rows, cols = self._rows_of_weights.split(step), self._col.split(step)
        return torch.cat([sparse_gradient(gy, x, row, col) for row, col in zip(rows, cols, strict=True)])

    def _sampled(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        starts = torch.searchsorted(self._row, torch.arange(len(self.rows) + 1, device=self._row.device))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            wanted = torch.sparse_csr_tensor(
                starts,
                self._col,
                gy.new_zeros(len(self._row), dtype=dtype),
                size=(len(self.rows), len(self.columns)),
                check_invariants=False,  # ascending and unique: a support says so
            )
            # It wants both with a feature's tokens side by side, and its own way there is slower.
            gy, x = _transposed(gy, dtype), _transposed(x, dtype)
            return torch.sparse.sampled_addmm(wanted, gy, x.t(), beta=0.0).values()


def _needed(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of (k,) features among ``count``, or all when most are needed; and where in it each one is."""
    distinct, place = torch.unique(features, return_inverse=True)
    if len(distinct) >= MOST_FEATURES * count:
        return torch.arange(count, device=features.device), features
    return distinct, place


def _transposed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The contiguous transpose of (N, features), of ``dtype``: the copy costs by the byte, so it comes before widening.

    On a processor some rows at a time, where PyTorch's own copy is not made for it; for two bytes an element it is.
    """
    if x.device.type != "cpu" or x.element_size() < 4:
        return x.t().contiguous().to(dtype)
    return torch.cat([part.t() for part in x.split(TRANSPOSED_ROWS)], 1).to(dtype)


def columns_of(x: Tensor, columns: Tensor) -> Tensor:
    """Columns of (N, features): x itself where all are needed."""
    return x if len(columns) == x.shape[1] else x.gather(1, columns.expand(x.shape[0], -1))
