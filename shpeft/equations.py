"""The equations of SH-PEFT, in our reading of the paper (arXiv 2405.17877): pure functions of tensors.

Notation::

    w    a weight of the backbone; θ0: all of them       g    ∂L/∂w, the gradient of the mean loss of a batch
    Ē    the mean over batches (or single images)        s    a score (importance), one number per weight
    k    the budget: how many weights are trained        λ    the share of the task-agnostic half
    P    the k × n matrix that selects the support       v    the k trained values, θ − θ0 on the support

By default all images form one batch, so that Ē|g| is |g|, the slope of the empirical risk. The mean over several
batches is our reading of the paper.

The paper publishes no code. It specifies a task-specific and a task-agnostic importance, each in an L1 or an L2 form,
joined into a hybrid whose k largest entries are trained. It leaves open how they are joined; three ways are offered
here: the sum, the product and the quota.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["l1", "l2"]
Normalizer = Literal["mean", "max", "rank"]


def task_specific(g: Tensor, norm: Norm = "l1") -> Tensor:
    """Return one batch's term of the task-specific score, s = Ē|g| (L1) or s = Ē g² (L2).

    To first order, |g| (``gradient``) is how fast the empirical risk changes with w. g² (``fisher``) is the empirical
    Fisher information.

    Args:
        g: the gradient of a batch's mean loss, or of one image's loss, of any shape.
        norm: ``l1`` or ``l2``.
    """
    return g.abs() if norm == "l1" else g.square()


def task_agnostic(w: Tensor, norm: Norm = "l1") -> Tensor:
    """Return the task-agnostic score of the pretrained weights: s = |w| (L1) or s = w² (L2)."""
    return w.abs() if norm == "l1" else w.square()


def wanda(w: Tensor, x_norm: Tensor) -> Tensor:
    """Return s = |w_ij| · ‖x_j‖ (Wanda; Sun et al., 2024): magnitude times the norm of the weight's input.

    Args:
        w: (out, in, ...) a linear or convolutional weight.
        x_norm: (in,) the L2 norm of each input feature over the data.
    """
    return w.abs() * x_norm.reshape(1, -1, *[1] * (w.ndim - 2))


def scale(s: Tensor, normalizer: Normalizer = "mean") -> Tensor:
    """Return the divisor of n(s) = s / scale: the mean or the maximum of s over all eligible weights.

    Returns:
        A 0-d tensor.

    Raises:
        ValueError: the normalizer is ``rank``, which has no divisor.
    """
    if normalizer == "rank":
        raise ValueError("Ranks have no scale. Use rank(s).")
    return s.mean() if normalizer == "mean" else s.max()


def rank(s: Tensor) -> Tensor:
    """Return n(s) as ranks in (0, 1], 1 for the largest score; ties rank the lower index higher.

    Args:
        s: (n,) scores.
    """
    order = torch.argsort(s, descending=True, stable=True)
    ranks = torch.empty_like(s)
    n = s.numel()
    ranks[order] = torch.arange(n, 0, -1, dtype=s.dtype, device=s.device) / n
    return ranks


def hybrid_sum(n_specific: Tensor, n_agnostic: Tensor, lam: float = 0.5) -> Tensor:
    """Return s = (1 − λ) · n(specific) + λ · n(agnostic), given both halves normalized by ``scale`` or ``rank``."""
    return (1 - lam) * n_specific + lam * n_agnostic


def consensus(n_specific: Sequence[Tensor]) -> Tensor:
    """Return the mean of n(specific) over the *other* tasks: a task-agnostic score from data.

    An extension: in the paper the task-agnostic half comes from the pretrained weights alone.
    """
    return torch.stack(list(n_specific)).mean(0)


def hybrid_product(w: Tensor, g: Tensor, norm: Norm = "l1", a: float = 1.0) -> Tensor:
    """Return one batch's term of s = Ē |g|·|w|^a (L1) or s = Ē g²·|w|^2a (L2).

    To first order (Taylor), |w·g| is the change of the loss when w is set to zero. The exponent a is an extension: 1 is
    the product of both halves, 0 the task-specific half alone.

    Since w is fixed while scoring, this is ``task_agnostic(w)^a · Ē task_specific(g)``.
    """
    return task_specific(w.abs() ** a * g, norm)


def step_decrease(g: Tensor, f: Tensor, alpha: float) -> Tensor:
    """Return s = α·|Ēg| − ½·α²·Ēg², by how much a step of size α in one weight lowers the mean loss L.

    AdamW moves every weight by about the same distance, whatever its gradient. A step of α against the sign of the
    slope Ēg gives, by Taylor, L(w − α·sign Ēg) = L(w) − α·|Ēg| + ½·α²·h + …, with the curvature h = ∂²L/∂w². Where the
    loss is −log p, and the labels are drawn from p, the mean of h is that of g² (the Fisher information). Here they are
    the labels of the data, so that Ēg² is the empirical Fisher information: a stand-in for h that is too large where
    the model is wrong (Kunstner et al., 2019). The steps of other weights are neglected. As α → 0 the order is that of
    |Ēg|; a step beyond 2·|Ēg| / Ēg² is expected to raise the loss. An extension of the paper.

    Args:
        g: Ēg or |Ēg|, the gradient of the mean loss of all images, in nats per unit of weight.
        f: Ēg² over single images, of the same shape, in nats per squared unit of weight. It is at least (Ēg)².
        alpha: α > 0, in units of weight.

    Examples:
        >>> g = torch.tensor([[0.3, 0.3], [-0.3, 0.5]])  # of two images, which disagree on the first of two weights
        >>> s = step_decrease(g.mean(0), g.square().mean(0), alpha=1.0)
        >>> [round(x, 3) for x in s.tolist()]
        [-0.045, 0.315]
    """
    return alpha * g.abs() - alpha**2 / 2 * f


def count_shares(sums: Tensor, b: float) -> Tensor:
    """Return n_m / k ∝ S_m^b, the share of the k selected weights that each of M parameters gets; S_m = Σ s over it.

    b = 0 gives every parameter the same share, b = 1 one in proportion to its importance. An extension of the paper.

    Args:
        sums: (M,) S ≥ 0. If all are 0, the shares are equal.

    Returns:
        (M,) float64 with the sum 1.

    Examples:
        >>> [count_shares(torch.tensor([1.0, 4.0]), b).tolist() for b in (0.0, 1.0)]
        [[0.5, 0.5], [0.2, 0.8]]
    """
    relative = sums.double() / sums.max() if bool(sums.any()) else torch.ones_like(sums, dtype=torch.float64)
    share = relative**b
    return share / share.sum()


def top_k(s: Tensor, k: int) -> Tensor:
    """Return the indices of the k largest scores, in ascending order; ties go to the lower index.

    Args:
        s: (n,) scores without NaN.

    Returns:
        (k,) int64.
    """
    return torch.argsort(s, descending=True, stable=True)[:k].sort().values


def row_rank(s: Tensor) -> Tensor:
    """Return r_ij, the rank of s_ij within its row, 1 for the largest; ties rank the lower index first.

    A row of a matrix is one output feature (a neuron). GPS (Zhang et al., 2024) also selects per neuron.

    Args:
        s: (rows, columns) scores without NaN.

    Returns:
        (rows, columns) int64.
    """
    order = torch.argsort(s, dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(1, s.shape[1] + 1).expand_as(order))


def top_k_spread(s: Tensor, r: Tensor, k: int) -> Tensor:
    """Return the first k indices in the order of (r, −s), in ascending order: as few per row as k allows.

    An extension of the paper. If k is smaller than the number of rows, these are the k largest of the row maxima.

    Args:
        s: (n,) scores without NaN.
        r: (n,) the rank of each score within its row, see :func:`row_rank`.

    Returns:
        (k,) int64.
    """
    best_first = torch.argsort(s, descending=True, stable=True)
    return best_first[torch.argsort(r[best_first], stable=True)][:k].sort().values


def hybrid_quota(specific: Tensor, agnostic: Tensor, k: int, lam: float = 0.5) -> Tensor:
    """Return k indices, in ascending order: the best (1 − λ)k of one half and the best λk of the other.

    The agnostic half selects among the weights that the specific half did not, so that the union has exactly k.
    """
    first = top_k(specific, k - quota(k, lam))
    rest = agnostic.clone()
    rest[first] = -torch.inf
    return torch.cat([first, top_k(rest, quota(k, lam))]).sort().values


def quota(k: int, lam: float) -> int:
    """Return how many of the k weights the agnostic half selects: λk, rounded half up."""
    return int(lam * k + 0.5)


def sparse_gradient(gy: Tensor, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Return P ∇L of a linear layer y = x Wᵀ + b, without the dense gradient: Σ_n gy[n, row_j] · x[n, col_j].

    Args:
        gy: (N, out) the gradient of the loss with respect to the layer's output.
        x: (N, in) the layer's input.
        rows: (k,) the output feature of each selected weight.
        cols: (k,) the input feature of each selected weight.

    Returns:
        (k,) the exact gradient ∂L/∂v.
    """
    tokens = gy.shape[0]  # of PyTorch's ways to pick columns, only ``gather`` uses every core
    return (gy.gather(1, rows.expand(tokens, -1)) * x.gather(1, cols.expand(tokens, -1))).sum(0)


def sensitivity_scale(f: Tensor) -> Tensor:
    """Return factors of the learning rates of single weights, s_i ∝ (F_i + 0.1 · mean F)^(−1/2), with mean 1.

    AdamW moves every weight by about the learning rate, whatever its gradient. With these factors a weight that the
    loss depends on more moves less. An extension of the paper.

    Args:
        f: (k,) the squared gradients F of the selected weights.

    Examples:
        >>> s = sensitivity_scale(torch.tensor([0.0, 0.0, 3.0]))  # the mean of F is 1
        >>> round(float(s.mean()), 6), round(float(s[0] / s[2]) ** 2)  # 3.1 / 0.1
        (1.0, 31)
    """
    if not bool(f.any()):
        return torch.ones_like(f)
    s = (f + 0.1 * f.mean()).rsqrt()
    return s / s.mean()


def pruning_score(v: Tensor, f: Tensor) -> Tensor:
    """Return s = v² F: to second order, twice the rise of the loss when a trained change v goes back to 0.

    Optimal brain damage (LeCun et al., 1990), with the squared gradient F as the curvature.
    """
    return v.square() * f


def pruned_count(k0: int, k: int, t: float) -> int:
    """Return how many weights remain when the part t of gradual pruning is over, k + (k0 − k)(1 − t)³.

    The cubic schedule of Zhu & Gupta (2017, arXiv 1710.01878): many are pruned early, when the choice is easy.

    Args:
        k0: the number of weights at first.
        k: the number in the end.
        t: from 0 to 1.

    Examples:
        >>> [pruned_count(1000, 10, t) for t in (0, 0.25, 0.5, 1)]
        [1000, 428, 134, 10]
    """
    return k + round((k0 - k) * (1 - t) ** 3)


def interpolate(base: Tensor, trained: Tensor, alpha: float) -> Tensor:
    """Return θ0 + α·(θ − θ0), exactly θ0 at α = 0 and θ at α = 1: WiSE-FT (Wortsman et al., 2022, arXiv 2109.01903).

    Args:
        base: θ0, of any shape.
        trained: θ, of the same shape and type.
        alpha: α, from 0 to 1.
    """
    return torch.lerp(base, trained, alpha)


def add_delta(base: Tensor, v: Tensor) -> Tensor:
    """Return θ = θ0 + Pᵀv on the support: the selected weights after training.

    Args:
        base: (k,) the pretrained entries θ0.
        v: (k,) the trained values.
    """
    return base + v.to(base.dtype)
