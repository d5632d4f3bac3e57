"""Selection: scores and a budget become a support, the sorted flat indices of the weights that may move."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.equations import quota
from shpeft.errors import EmptySupport, SelectionError
from shpeft.importance import Scores

CHUNK = 1 << 17
"""Scores looked at together: what bounds the memory that selection needs."""

SAMPLE = 1 << 18
"""Scores from which the k-th largest is guessed."""

Part = tuple[Tensor, Tensor]
"""Ascending positions, and the scores there."""


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


def select_like(support: Support, infos: tuple[WeightInfo, ...], seed: int = 0) -> Support:
    """Random weights, as many in each parameter as another support has there: the control for *which* weights.

    Args:
        infos: the weights that were eligible for the other support.
    """
    generator = torch.Generator().manual_seed(seed)
    indices, sizes = {}, {info.name: info.numel for info in infos}
    for name, count in support.counts().items():
        indices[name] = torch.randperm(sizes[name], generator=generator)[:count].sort().values
    return Support(indices, support.shapes, support.total)


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
    """``equations.top_k`` over the concatenation, in one pass that never holds much more than k scores and a chunk.

    A sample gives a score that the k-th largest very likely reaches, so that few scores are kept on the way; where it
    does not reach it, a second pass goes without.
    """
    found = _reaching(flats, k, _likely_below(flats, k))
    if len(found) < k:
        found = _reaching(flats, k, -math.inf)
    chosen, start = {}, 0
    for name, flat in flats.items():
        low, high = torch.searchsorted(found, torch.tensor([start, start + flat.numel()]))
        chosen[name] = found[low:high] - start
        start += flat.numel()
    return chosen


def _likely_below(flats: dict[str, Tensor], k: int) -> float:
    """A score below the k-th largest, but not by far, as a seeded random sample has it. It may be wrong."""
    total = sum(flat.numel() for flat in flats.values())
    generator = torch.Generator().manual_seed(0)
    sample = []
    for flat in flats.values():
        size = round(SAMPLE * flat.numel() / total)
        sample.append(flat[torch.randint(flat.numel(), (size,), generator=generator)])
    drawn = torch.cat(sample)
    expected = len(drawn) * k / total
    rank = math.ceil(expected + 4 * math.sqrt(expected) + 8)
    return float(drawn.topk(rank).values[-1]) if rank <= len(drawn) else -math.inf


def _reaching(flats: dict[str, Tensor], k: int, bound: float) -> Tensor:
    """Ascending positions, in the concatenation, of the k largest scores that reach ``bound``; fewer where fewer do.

    What is kept is cut back to the k best whenever it has doubled; from then on only larger scores can be among them,
    since of equal ones the first counts.
    """
    kept: list[Part] = []
    held, start, cut = 0, 0, False
    for flat in flats.values():
        for piece in flat.split(CHUNK):
            largest = float(piece.max())  # a fast pass that also finds NaN
            if math.isnan(largest):
                raise SelectionError("Some scores are not numbers (NaN): the gradients overflowed. Score in float32.")
            if largest > bound or (largest == bound and not cut):
                here = (piece > bound if cut else piece >= bound).nonzero().squeeze(1)
                kept.append((here + start, piece[here]))
                held += len(here)
                if held > 2 * max(k, CHUNK):
                    kept = _largest(kept, k)
                    held, bound, cut = k, min(float(values.min()) for _, values in kept), True
            start += piece.numel()
    return torch.cat([at for at, _ in _largest(kept, k)]) if kept else torch.empty(0, dtype=torch.int64)


def _largest(parts: list[Part], k: int) -> list[Part]:
    """The k largest of the parts, in their order; of equal ones the first."""
    scores = torch.cat([values for _, values in parts])
    surplus = len(scores) - k
    if surplus <= 0:
        return parts
    smallest = float(np.partition(scores.numpy(), surplus)[surplus])
    ties, largest = k - int((scores > smallest).sum()), []
    for at, values in parts:
        keep = values > smallest
        equal = (values == smallest).nonzero().squeeze(1)[:ties]
        keep[equal] = True
        ties -= len(equal)
        if keep.any():
            largest.append((at[keep], values[keep]))
    return largest
