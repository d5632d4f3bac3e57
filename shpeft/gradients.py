"""Exact gradients of a few weights, with nothing dense: taps for linear layers, gather-and-free for the rest.

A tap leaves the layer as it is and passes its *output* through an identity whose backward hands the gradient on
unchanged and, besides, computes ∂L/∂v_j = Σ_n gy[n, row_j] · x[n, col_j]. Only the needed columns of x are kept.
Every other selected parameter (convolution, norm, bias, embedding) lets autograd form its gradient, takes the
selected entries and drops the rest at once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from shpeft.equations import sparse_gradient

DENSE_DENSITY = 3e-3
"""Share of a layer's weights above which the dense product, then a pick, is cheaper than gathering columns."""

CHUNK_ELEMENTS = 1 << 24
"""Elements of the gathered columns that are alive at a time."""


class SparseTap(torch.autograd.Function):
    """Identity on a linear layer's output; in backward the exact gradient of the selected weights."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x_columns: Tensor, v: Tensor, rows: Tensor, places: Tensor, dense: bool) -> Tensor:
        """``x_columns`` (N, u) are the needed columns of x; ``places`` (k,) tells which of them each weight uses."""
        ctx.save_for_backward(x_columns, rows, places)
        ctx.dense, ctx.dtype = dense, v.dtype
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        """Hand gy on, and give v its gradient."""
        x, rows, places = ctx.saved_tensors
        flat = gy.reshape(-1, gy.shape[-1])
        picked = _pick_from_dense(flat, x, rows, places) if ctx.dense else _gather(flat, x, rows, places, ctx.dtype)
        return gy, None, picked.to(ctx.dtype), None, None, None


def _gather(gy: Tensor, x: Tensor, rows: Tensor, cols: Tensor, dtype: torch.dtype) -> Tensor:
    """``equations.sparse_gradient``, some weights at a time, summed in the values' precision."""
    step = max(1, CHUNK_ELEMENTS // max(1, gy.shape[0]))
    gy, x = gy.to(dtype), x.to(dtype)
    parts = [sparse_gradient(gy, x, rows[i : i + step], cols[i : i + step]) for i in range(0, rows.numel(), step)]
    return torch.cat(parts)


def _pick_from_dense(gy: Tensor, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    return (gy.t() @ x.to(gy.dtype))[rows, cols]


Remove = Callable[[], None]


def tap_linear(layer: nn.Linear, index: Tensor, leaf: Tensor, seen: list[bool]) -> Remove:
    """Give ``leaf.grad`` the gradient of the selected entries of ``layer.weight``, whenever the layer runs.

    Args:
        index: (k,) flat indices into the weight, ascending.
        leaf: (k,) what the gradient is accumulated on.
        seen: gets an entry each time the layer's forward runs; a model may use the weight without it.

    Returns:
        A function that removes the tap.
    """
    rows, cols = index // layer.in_features, index % layer.in_features
    needed, places = torch.unique(cols, return_inverse=True)
    dense = index.numel() > DENSE_DENSITY * layer.weight.numel()

    def hook(_: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        seen.append(True)
        if not torch.is_grad_enabled():
            return y
        x = args[0].detach()
        columns = x.reshape(-1, x.shape[-1]).index_select(1, needed)
        return SparseTap.apply(y, columns, leaf, rows, places, dense)

    return layer.register_forward_hook(hook).remove


def gather_and_free(p: nn.Parameter, coordinates: tuple[Tensor, ...], leaf: Tensor) -> Remove:
    """Let autograd form the whole gradient of ``p``, add the selected entries to ``leaf.grad``, and drop the rest."""
    p.requires_grad_(True)

    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        assert leaf.grad is not None
        leaf.grad += parameter.grad[coordinates].to(leaf.dtype)
        parameter.grad = None

    return p.register_post_accumulate_grad_hook(hook).remove


def tappable(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by their weight's name: only plain ones, whose weight no other module shares."""
    owners: dict[int, int] = {}
    for child in module.modules():
        for p in child._parameters.values():
            if p is not None:
                owners[id(p)] = owners.get(id(p), 0) + 1
    return {
        f"{key}.weight": child
        for key, child in module.named_modules()
        if type(child) is nn.Linear and owners.get(id(child.weight)) == 1
    }
