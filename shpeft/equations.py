r"""The equations of SH-PEFT, in our reading of the paper (arXiv 2405.17877): pure functions of tensors.

Letters, the same everywhere::

    w    a weight of the backbone, θ0 all of them        g    ∂L/∂w, the gradient of the mean loss of a batch
    Ē    the mean over batches (or single images)        s    a score (importance), one number a weight
    k    how many weights may move (the budget)          λ    the share of the task-agnostic half
    P    the k × n matrix that picks the support         v    the k trained values, θ − θ0 on the support

With all images as one batch, Ē|g| is |g| itself, the slope of the empirical risk; that is the default, and the mean
over batches our reading of the paper.

The paper publishes no code; what it fixes is that a task-specific and a task-agnostic importance, each in an L1 or an
L2 form, are joined into a hybrid whose k largest entries are trained. The three ways to join them offered here are
written so that the reader can choose.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["l1", "l2"]
Normaliser = Literal["mean", "max", "rank"]


def task_specific(g: Tensor, norm: Norm = "l1") -> Tensor:
    """A batch's (or image's) term of the task-specific score, s = Ē|g| (L1, ``gradient``) or s = Ē g² (L2, ``fisher``).

    To first order, |g| is how fast the empirical risk changes when w changes; g² is the empirical Fisher information.
    """
    return g.abs() if norm == "l1" else g.square()


def task_agnostic(w: Tensor, norm: Norm = "l1") -> Tensor:
    """The task-agnostic score, from the pretrained weights alone: s = |w| (L1) or s = w² (L2)."""
    return w.abs() if norm == "l1" else w.square()


def wanda(w: Tensor, x_norm: Tensor) -> Tensor:
    """s = |w_ij| · ‖x_j‖ (Sun et al., 2024): magnitude times the norm of the input that the weight sees.

    Args:
        w: (out, in, ...) a linear or convolutional weight.
        x_norm: (in,) the L2 norm of each input feature over the data.
    """
    return w.abs() * x_norm.reshape(1, -1, *[1] * (w.ndim - 2))


def scale(s: Tensor, normaliser: Normaliser = "mean") -> Tensor:
    """What n(s) = s / scale divides by: the mean or the maximum of s over all eligible weights (0-d tensor)."""
    if normaliser == "rank":
        raise ValueError("ranks have no scale: use rank(s)")
    return s.mean() if normaliser == "mean" else s.max()


def rank(s: Tensor) -> Tensor:
    """n(s) as ranks in (0, 1], the largest score being 1; of equal scores the lower index ranks higher.

    Args:
        s: (n,) scores.
    """
    order = torch.argsort(s, descending=True, stable=True)
    ranks = torch.empty_like(s)
    n = s.numel()
    ranks[order] = torch.arange(n, 0, -1, dtype=s.dtype, device=s.device) / n
    return ranks


def hybrid_sum(n_specific: Tensor, n_agnostic: Tensor, lam: float = 0.5) -> Tensor:
    """s = (1 − λ) · n(specific) + λ · n(agnostic), each half already normalised by n (see ``scale`` and ``rank``)."""
    return (1 - lam) * n_specific + lam * n_agnostic


def consensus(n_specific: Sequence[Tensor]) -> Tensor:
    """s = mean over the *other* tasks of n(specific): what matters for them all, a task-agnostic score from data.

    Ours, not the paper's: its task-agnostic half comes from the pretrained weights alone.
    """
    return torch.stack(list(n_specific)).mean(0)


def hybrid_product(w: Tensor, g: Tensor, norm: Norm = "l1") -> Tensor:
    """One batch's term of s = Ē|w·g| (L1) or s = Ē(w·g)² (L2): the first-order Taylor change when w is removed.

    Since w is fixed while scoring, this is ``task_agnostic(w) · Ē task_specific(g)``.
    """
    return task_specific(w * g, norm)


def top_k(s: Tensor, k: int) -> Tensor:
    """The indices of the k largest entries, ascending; of equal scores the lower index is chosen.

    Args:
        s: (n,) scores without NaN.

    Returns:
        (k,) int64.
    """
    return torch.argsort(s, descending=True, stable=True)[:k].sort().values


def row_rank(s: Tensor) -> Tensor:
    """r_ij: the rank of s_ij among the scores of its row, 1 for the largest; of equal scores the lower index first.

    A row of a matrix is one output feature, a neuron; by the neuron select Zhang et al. (GPS, 2024), too.

    Args:
        s: (rows, columns) scores without NaN.

    Returns:
        (rows, columns) int64.
    """
    order = torch.argsort(s, dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(1, s.shape[1] + 1).expand_as(order))


def top_k_spread(s: Tensor, r: Tensor, k: int) -> Tensor:
    """The indices of the first k entries in the order of (r, −s), ascending: as few of a row as k allows.

    Ours, not the paper's. With k below the number of rows it is the best of each row, and of those the k best.

    Args:
        s: (n,) scores without NaN.
        r: (n,) the rank of each in its row.

    Returns:
        (k,) int64.
    """
    best_first = torch.argsort(s, descending=True, stable=True)
    return best_first[torch.argsort(r[best_first], stable=True)][:k].sort().values


def hybrid_quota(specific: Tensor, agnostic: Tensor, k: int, lam: float = 0.5) -> Tensor:
    """The best (1 − λ)k of one half united with the best of the other, exactly k indices, ascending.

    The agnostic half takes its λk (rounded) among the weights that the specific half left, so that the union has k.
    """
    first = top_k(specific, k - quota(k, lam))
    rest = agnostic.clone()
    rest[first] = -torch.inf
    return torch.cat([first, top_k(rest, quota(k, lam))]).sort().values


def quota(k: int, lam: float) -> int:
    """How many of k the agnostic half may choose: λk, rounded half up."""
    return int(lam * k + 0.5)


def sparse_gradient(gy: Tensor, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """P ∇L of a linear layer y = x Wᵀ + b: ∂L/∂v_j = Σ_n gy[n, row_j] · x[n, col_j], nothing dense.

    Args:
        gy: (N, out) gradient of the loss with respect to the layer's output.
        x: (N, in) the layer's input.
        rows: (k,) the output feature of each selected weight.
        cols: (k,) the input feature of each selected weight.

    Returns:
        (k,) the exact gradient.
    """
    tokens = gy.shape[0]  # ``gather`` is the one of PyTorch's ways to pick columns that uses every core
    return (gy.gather(1, rows.expand(tokens, -1)) * x.gather(1, cols.expand(tokens, -1))).sum(0)


def moved(base: Tensor, v: Tensor) -> Tensor:
    """θ = θ0 + Pᵀv, on the support: what the selected entries become.

    Args:
        base: (k,) the pretrained entries θ0.
        v: (k,) the trained values.
    """
    return base + v.to(base.dtype)
