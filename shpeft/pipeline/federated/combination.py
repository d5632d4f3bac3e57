"""Combine what the sites trained: the mean of values and heads by images, without replies that cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from shpeft.linear_probe import Head

FARTHEST = 10.0
"""How many times as far as the median a site may move: one that moves farther is left out."""


@dataclass(frozen=True, eq=False)
class Update:
    """What a site sends after its part of a round.

    Attributes:
        values: (k,) θ − θ0 of the selected weights.
        head: the classifier; None where each site has its own.
        images: the number of images that the site trained on.
        present: (C,) bool, the classes that it has images of.
    """

    values: Tensor
    head: Head | None
    images: int
    present: Tensor


@dataclass(frozen=True, eq=False)
class Combined:
    """The result of a round.

    Attributes:
        values: (k,) the mean.
        head: the mean; None where each site has its own.
        used: the names of the sites that it is made of.
        left_out: the other sites that replied, each with the reason.
    """

    values: Tensor
    head: Head | None
    used: tuple[str, ...]
    left_out: dict[str, str]


def combine(updates: Mapping[str, Update], values: Tensor, head: Head | None) -> Combined:
    """Return the mean of the sites' values and heads, weighted by their images.

    A head's row counts only where the site has images of its class: a site cannot learn what it never sees.

    Args:
        updates: by site.
        values: (k,) what the sites began the round with.
        head: likewise; None where each site has its own.

    Returns:
        the means, and which sites are left out: those whose numbers are of another shape, not finite, or more than
        ``FARTHEST`` times as far from the beginning as the median of the sites. Without any usable reply, the means are
        what the round began with.

    Examples:
        >>> both = torch.tensor([True, True])
        >>> updates = {
        ...     "a": Update(torch.tensor([1.0, 0.0]), None, 30, both),
        ...     "b": Update(torch.tensor([0.0, 4.0]), None, 10, both),
        ...     "c": Update(torch.tensor([float("nan"), 0.0]), None, 10, both),
        ... }
        >>> combined = combine(updates, torch.zeros(2), None)
        >>> combined.values.tolist(), combined.used, combined.left_out
        ([0.75, 1.0], ('a', 'b'), {'c': 'its numbers are not finite'})
    """
    left_out = {name: reason for name, update in updates.items() if (reason := _defect(update, values, head))}
    usable = {name: update for name, update in updates.items() if name not in left_out}
    moved = {name: _distance(update, values, head) for name, update in usable.items()}
    if moved and (usual := median_low(moved.values())) > 0:
        for name, distance in moved.items():
            if distance > FARTHEST * usual:
                left_out[name] = f"it moved {distance / usual:,.0f} times as far as the median of the sites"
                del usable[name]
    if not usable:
        return Combined(values, head, (), left_out)
    images = torch.tensor([float(update.images) for update in usable.values()], dtype=torch.float64)
    mean = _mean([update.values for update in usable.values()], images)
    if head is not None:
        seen = torch.stack([update.present for update in usable.values()]).double() * images[:, None]
        heads = [update.head for update in usable.values() if update.head is not None]
        weight = _mean([each.weight for each in heads], seen[:, :, None])
        bias = _mean([each.bias for each in heads], seen)
        unseen = seen.sum(0) == 0
        weight[unseen], bias[unseen] = head.weight[unseen], head.bias[unseen]
        head = Head(weight, bias)
    return Combined(mean, head, tuple(usable), left_out)


def _mean(parts: list[Tensor], weights: Tensor) -> Tensor:
    """Return the mean of tensors by weights (S, ...), in the precision of the tensors."""
    stacked = torch.stack(parts).double()
    weights = weights.reshape(*weights.shape, *[1] * (stacked.ndim - weights.ndim))
    return ((stacked * weights).sum(0) / weights.sum(0)).to(parts[0].dtype)


def _defect(update: Update, values: Tensor, head: Head | None) -> str:
    """Return why an update cannot be used; empty if it can."""
    tensors = [(update.values, values)]
    if (update.head is None) != (head is None):
        return "it has a head where none is shared, or none where one is"
    if update.head is not None and head is not None:
        tensors += [(update.head.weight, head.weight), (update.head.bias, head.bias)]
    if any(own.shape != other.shape for own, other in tensors):
        return "its numbers have another shape"
    if not all(bool(own.isfinite().all()) for own, _ in tensors):
        return "its numbers are not finite"
    return "" if update.images >= 1 else "it trained on no images"


def _distance(update: Update, values: Tensor, head: Head | None) -> float:
    """Return how far an update is from where the round began."""
    squares = (update.values.double() - values.double()).square().sum()
    if update.head is not None and head is not None:
        squares = squares + (update.head.weight.double() - head.weight.double()).square().sum()
    return float(squares.sqrt())
