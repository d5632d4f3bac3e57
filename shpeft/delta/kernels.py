"""Exact kernels for the gradient of a few weights of a linear layer: Σ_n gy[n, row_j] · x[n, col_j]."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from shpeft.equations import sparse_gradient

Kernel = Literal["gather", "sampled", "dense"]
KERNELS: tuple[Kernel, ...] = ("gather", "sampled", "dense")

GATHER, SAMPLED, TRANSPOSE = 140.0, 7.0, 120.0
"""The cost of a weight in the gathered and in the sampled product, and of a row or column in the latter's transposes,
in multiply-adds of the dense product. Measured by ``benchmarks/calibrate.py`` on two cores of two processors, where the
chosen kernel takes 1.05 times as long as the fastest on average. The choice changes results by rounding only."""

CHUNK_ELEMENTS = 1 << 20
"""Elements of the gathered columns in memory at a time, so that they stay in the processor's cache."""

MOST_FEATURES = 3 / 4
"""Fraction of a layer's rows or columns above which all are used: to pick most of them costs more than it saves."""

TRANSPOSED_ROWS = 64
"""Rows of a matrix that are transposed at a time on a processor, so that they fill whole cache lines."""


def cheapest_kernel(k: int, rows: int, columns: int, device: str = "cpu") -> Kernel:
    """Return the kernel with the lowest expected time for k weights in that many rows and columns.

    ``gather`` multiplies gathered columns. ``sampled`` computes the selected entries of the product only (SDDMM).
    ``dense`` multiplies the needed rows and columns and picks the entries. The time of each is proportional to the
    number of tokens.
    """
    cost: dict[Kernel, float] = {"gather": GATHER * k, "dense": float(rows * columns)}
    if device in ("cpu", "cuda"):
        cost["sampled"] = TRANSPOSE * (rows + columns) + SAMPLED * k
    return min(cost, key=cost.__getitem__)


class SampledProduct:
    """Computes Σ_n gy[n, row_j] · x[n, col_j] (``equations.sparse_gradient``) for the selected weights of one layer.

    Attributes:
        k: the number of selected weights.
        rows, columns: the output and input features that any of them needs, ascending; all if most are needed.
        kernel: which of the three exact kernels computes the products.
    """

    def __init__(self, index: Tensor, shape: tuple[int, int], kernel: Kernel | None = None):
        """Prepare the product.

        Args:
            index: (k,) flat indices into the weight, ascending.
            shape: the weight's shape, (out, in).
            kernel: None: the fastest.
        """
        self.k = index.numel()
        self.rows, self._row = _needed(index // shape[1], shape[0])
        self.columns, self._col = _needed(index % shape[1], shape[1])
        self._rows_of_weights = self.rows[self._row]
        self.kernel = kernel or cheapest_kernel(self.k, len(self.rows), len(self.columns), index.device.type)

    def __repr__(self) -> str:
        return f"SampledProduct({self.k:,} weights in {len(self.rows)} × {len(self.columns)}, {self.kernel})"

    def __call__(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the gradient (k,) of type ``dtype`` from gy (N, out) and the needed columns of x (N, columns)."""
        kernel = self.kernel
        if kernel == "sampled" and torch.compiler.is_compiling():  # sparse tensors cannot be traced
            kernel = "dense"
        if kernel == "gather":
            return self._gather(gy, x, dtype)
        gy = columns_of(gy, self.rows)
        if kernel == "sampled":
            return self._sampled(gy, x, dtype)
        return (gy.to(dtype).t() @ x.to(dtype))[self._row, self._col]

    def by_image(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the gradient of each image by itself, (B, k): the sum over its tokens alone.

        Args:
            gy: (B, T, out).
            x: (B, T, columns), the needed columns.
            dtype: of the result.
        """
        gy, x = gy.to(dtype), x.to(dtype)
        step = max(1, CHUNK_ELEMENTS // max(1, gy.shape[0] * gy.shape[1]))
        rows, cols = self._rows_of_weights.split(step), self._col.split(step)
        return torch.cat([(gy[..., row] * x[..., col]).sum(1) for row, col in zip(rows, cols, strict=True)], 1)

    def _gather(self, gy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Apply ``equations.sparse_gradient`` to some weights at a time, summed in the precision of the values."""
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
            selected = torch.sparse_csr_tensor(
                starts,
                self._col,
                gy.new_zeros(len(self._row), dtype=dtype),
                size=(len(self.rows), len(self.columns)),
                check_invariants=False,  # a support's indices are ascending and unique
            )
            # The kernel needs the tokens of a feature side by side; its own transpose is slower.
            gy, x = _transposed(gy, dtype), _transposed(x, dtype)
            product: Tensor = torch.sparse.sampled_addmm(selected, gy, x.t(), beta=0.0)
            return product.values()


def _needed(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the distinct features, or all of ``count`` if most are needed; and the position of each (k,) in them."""
    distinct, position = torch.unique(features, return_inverse=True)
    if len(distinct) >= MOST_FEATURES * count:
        return torch.arange(count, device=features.device), features
    return distinct, position


def _transposed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the contiguous transpose of (N, features), of type ``dtype``; it is copied before it is widened.

    On a processor some rows are transposed at a time, which is faster than PyTorch's own copy unless an element has two
    bytes.
    """
    if x.device.type != "cpu" or x.element_size() < 4:
        return x.t().contiguous().to(dtype)
    return torch.cat([part.t() for part in x.split(TRANSPOSED_ROWS)], 1).to(dtype)


def columns_of(x: Tensor, columns: Tensor) -> Tensor:
    """Return columns of (N, features): x itself if all are needed."""
    return x if len(columns) == x.shape[1] else x.gather(1, columns.expand(x.shape[0], -1))
