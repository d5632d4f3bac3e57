"""Selection: scores and a budget become a support, the sorted flat indices of the weights that may move."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.equations import quota
from shpeft.errors import EmptySupport, SelectionError
from shpeft.importance import Scores

CHUNK = 1 << 20
"""Scores looked at together: what bounds the memory that selection needs."""


@dataclass(frozen=True)
class Support:
    """Which weights may move.

    Attributes:
        indices: for each parameter that has any, their flat indices, int64, ascending.
        shapes: those parameters' shapes.
        total: how many weights the whole backbone has.
    """

    indices: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]
    total: int

    def __post_init__(self) -> None:
        for name, index in self.indices.items():
            size = int(np.prod(self.shapes[name]))
            if index.numel() == 0 or index[0] < 0 or index[-1] >= size or bool((index.diff() <= 0).any()):
                raise SelectionError(
                    f"The indices of {name} must be ascending, without duplicates, from 0 to {size - 1}."
                )

    @property
    def k(self) -> int:
        """How many weights are selected."""
        return sum(index.numel() for index in self.indices.values())

    @property
    def share(self) -> float:
        """The selected fraction of all backbone weights."""
        return self.k / self.total

    def counts(self) -> dict[str, int]:
        """How many weights each parameter has in the support."""
        return {name: index.numel() for name, index in self.indices.items()}


def budget_to_count(budget: int | float, total: int) -> int:
    """How many of ``total`` backbone weights a budget allows: a share below 1, or a count.

    Raises:
        EmptySupport: the share is too small for one weight.
        SelectionError: more weights than there are.
    """
    k = round(budget * total) if isinstance(budget, float) and budget < 1 else int(budget)
    if k < 1:
        raise EmptySupport(
            f"A budget of {budget:g} selects none of {total:,} weights. Allow at least {1 / total:.2g}, or a count."
        )
    if k > total:
        raise SelectionError(f"A budget of {k:,} weights is more than the backbone's {total:,}.")
    return k


def select(scores: Scores, budget: int | float) -> Support:
    """The exact global top-k: the k weights with the largest scores, of equal ones the first in the model's order.

    Args:
        budget: a share of all backbone weights (below 1), or a count.

    Raises:
        EmptySupport: a budget that selects nothing.
        SelectionError: more weights than are eligible, or scores that are not numbers.
    """
    k = budget_to_count(budget, scores.total)
    if k > scores.eligible:
        raise SelectionError(
            f"A budget of {k:,} weights is more than the {scores.eligible:,} eligible ones. "
            "Widen the scope or lower the budget."
        )
    flats = {info.name: scores.values[info.name].reshape(-1) for info in scores.infos if info.name in scores.values}
    chosen = _top_k(flats, k) if flats else _quota(scores, k)
    shapes = {info.name: info.shape for info in scores.infos}
    indices = {name: index for name, index in chosen.items() if index.numel()}
    return Support(indices, {name: shapes[name] for name in indices}, scores.total)


def _quota(scores: Scores, k: int) -> dict[str, Tensor]:
    """``equations.hybrid_quota`` over all parameters together."""
    if scores.halves is None:
        raise SelectionError(f"The scores {scores.name!r} hold no numbers to select by.")
    specific, agnostic = ({n: v.reshape(-1) for n, v in half.values.items()} for half in scores.halves)
    k_agnostic = quota(k, scores.lam)
    empty = torch.empty(0, dtype=torch.int64)
    first = _top_k(specific, k - k_agnostic) if k > k_agnostic else dict.fromkeys(specific, empty)
    if not k_agnostic:
        return first
    rest = {name: v.index_fill(0, first[name], -torch.inf) for name, v in agnostic.items()}
    second = _top_k(rest, k_agnostic)
    return {name: torch.cat([first[name], second[name]]).sort().values for name in first}


def _top_k(flats: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """``equations.top_k`` over the concatenation, by two radix passes that never copy more than a chunk.

    The high 16 bits of the order-preserving integer form of each score are counted first, then the low 16 bits of
    those in the bucket that holds the k-th largest: that gives the k-th largest score exactly, and how many of the
    scores equal to it are still needed.
    """
    high = _histogram(keys >> 16 for keys in _keys(flats))
    bucket, above = _bucket(high, k)
    low = _histogram(keys[(keys >> 16) == bucket] & 0xFFFF for keys in _keys(flats))
    threshold_low, above_low = _bucket(low, k - above)
    threshold = (bucket << 16) | threshold_low
    ties = k - above - above_low

    chosen = {}
    for name, flat in flats.items():
        parts = []
        for start, keys in _chunks(flat):
            hits = (keys >= threshold).nonzero().squeeze(1)
            equal = keys[hits] == threshold
            surplus = int(equal.sum()) - ties
            if surplus > 0:
                keep = ~equal
                keep[equal.nonzero().squeeze(1)[:ties]] = True
                hits = hits[keep]
            ties = max(-surplus, 0)
            parts.append(hits + start)
        chosen[name] = torch.cat(parts)
    return chosen


def _keys(flats: dict[str, Tensor]) -> Iterator[Tensor]:
    for flat in flats.values():
        for _, keys in _chunks(flat):
            yield keys


def _chunks(flat: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(offset, keys) for each chunk; keys are int64 from 0 to 2³²−1 in the order of the float32 scores."""
    for start in range(0, flat.numel(), CHUNK):
        piece = flat[start : start + CHUNK].float() + 0.0  # −0 and +0 are one score
        if bool(piece.isnan().any()):
            raise SelectionError("Some scores are not numbers (NaN): the gradients overflowed. Score in float32.")
        bits = piece.view(torch.int32).long()
        yield start, torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (1 << 31)


def _histogram(pieces: Iterator[Tensor]) -> Tensor:
    """How often each 16-bit number occurs."""
    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for piece in pieces:
        counts += torch.bincount(piece, minlength=1 << 16)
    return counts


def _bucket(histogram: Tensor, k: int) -> tuple[int, int]:
    """The bucket that holds the k-th largest, and how many lie in the buckets above it."""
    from_top = histogram.flip(0).cumsum(0)
    position = int(torch.searchsorted(from_top, k))
    above = int(from_top[position - 1]) if position else 0
    return len(histogram) - 1 - position, above


@dataclass(frozen=True)
class LayerOverlap:
    """The overlap within one parameter; ``chance`` is the intersection expected of random choices in it."""

    name: str
    block: str
    matrix: str
    intersection: int
    a: int
    b: int
    eligible: int
    chance: float


@dataclass(frozen=True)
class Overlap:
    """How far two supports agree, and what chance gives (hypergeometric: random choices of a and b among eligible).

    Attributes:
        containment: the intersection over the smaller of the two.
        chance: the expected intersection of random supports; ``chance_high`` its 97.5 % quantile.
        p_value: the probability of at least this intersection by chance; ``p_low`` that of at most this one.
    """

    intersection: int
    a: int
    b: int
    eligible: int
    jaccard: float
    containment: float
    chance: float
    chance_jaccard: float
    chance_high: int
    p_value: float
    p_low: float
    layers: tuple[LayerOverlap, ...]

    @property
    def against_chance(self) -> Literal["more", "less", "as much"]:
        """Whether the supports share more or less than random ones do, at 2.5 % on either side."""
        if self.p_value < 0.025:
            return "more"
        return "less" if self.p_low < 0.025 else "as much"


def overlap(a: Support, b: Support, infos: tuple[WeightInfo, ...]) -> Overlap:
    """Compare two supports of one backbone.

    Args:
        infos: the weights that were eligible for both.

    Raises:
        SelectionError: a support holds parameters that are not eligible, or of other shapes.
    """
    shapes = {info.name: info.shape for info in infos}
    for support in (a, b):
        for name, shape in support.shapes.items():
            if shapes.get(name) != shape:
                raise SelectionError(
                    f"The supports cannot be compared: {name} of shape {shape} is not among the eligible weights. "
                    "Compare supports of the same backbone and scope."
                )
    layers = []
    for info in infos:
        x, y = a.indices.get(info.name), b.indices.get(info.name)
        size_x, size_y = (0 if t is None else t.numel() for t in (x, y))
        both = 0 if x is None or y is None else int(torch.isin(x, y, assume_unique=True).sum())
        layers.append(
            LayerOverlap(
                info.name, info.block, info.matrix, both, size_x, size_y, info.numel, size_x * size_y / info.numel
            )
        )
    both, eligible = sum(layer.intersection for layer in layers), sum(info.numel for info in infos)
    chance = a.k * b.k / eligible
    law = hypergeom(eligible, a.k, b.k)
    return Overlap(
        intersection=both,
        a=a.k,
        b=b.k,
        eligible=eligible,
        jaccard=both / (a.k + b.k - both),
        containment=both / min(a.k, b.k),
        chance=chance,
        chance_jaccard=chance / (a.k + b.k - chance),
        chance_high=int(law.ppf(0.975)),
        p_value=float(law.sf(both - 1)),
        p_low=float(law.cdf(both)),
        layers=tuple(layers),
    )
