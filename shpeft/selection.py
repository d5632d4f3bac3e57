"""Selection: scores and a budget become a support, the sorted flat indices of the weights that may move."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.equations import quota
from shpeft.errors import EmptySupport, SelectionError, did_you_mean
from shpeft.importance import Scores

CHUNK = 1 << 17
"""Scores looked at together: what bounds the memory that selection needs."""

SAMPLE = 1 << 18
"""Scores from which the k-th largest is guessed."""

Part = tuple[Tensor, Tensor]
"""Ascending positions, and the scores there."""

Spread = Literal["row", "none"]
"""Whether as few weights of a row (an output feature) are chosen as the budget allows."""


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


def select(scores: Scores, budget: int | float, spread: Spread = "none") -> Support:
    """The weights with the largest scores, exactly as many as the budget allows.

    Args:
        budget: a share of all backbone weights (below 1), or a count.
        spread: ``none`` is the exact global top-k (``equations.top_k``): the k weights with the largest scores, of
            equal ones the first in the model's order. ``row`` lets each row of a matrix give its best weight before
            any gives a second (``equations.top_k_spread``): so spread, larger steps are borne. In the comparison of
            ``results/`` the two came out level.

    Raises:
        EmptySupport: a budget that selects nothing.
        SelectionError: more weights than are eligible, scores that are not numbers, or an unknown spread.
    """
    if spread not in get_args(Spread):
        raise SelectionError(f"There is no spread {spread!r}. {did_you_mean(spread, get_args(Spread))}")
    k = budget_to_count(budget, scores.total)
    if k > scores.eligible:
        raise SelectionError(
            f"A budget of {k:,} weights is more than the {scores.eligible:,} eligible ones. "
            "Widen the scope or lower the budget."
        )
    return support_at(scores, _first(scores, k, spread) if scores.values else _quota(scores, k, spread))


def support_at(scores: Scores, places: Tensor) -> Support:
    """The weights at ascending places in the concatenation of all parameters."""
    parts = zip(scores.infos, _by_parameter(scores, places), strict=True)
    found = {info: at for info, at in parts if len(at)}
    indices, shapes = {info.name: at for info, at in found.items()}, {info.name: info.shape for info in found}
    return Support(indices, shapes, scores.total)


def best_first(scores: Scores, k: int, spread: Spread) -> tuple[Tensor, Tensor]:
    """The k weights that ``select`` chooses, in the order in which a growing budget takes them.

    Returns:
        (k,) their places in the concatenation of all parameters, and (k,) their scores.
    """
    places = _first(scores, k, spread)
    values = torch.cat([flat[at] for flat, at in zip(_flats(scores), _by_parameter(scores, places), strict=True)])
    order = values.argsort(descending=True, stable=True)  # stable: of equal scores the first
    if spread == "row":
        rows = _rows(scores, places)[order]
        together = rows.argsort(stable=True)  # row by row, the best of each first
        starts = torch.cat([torch.ones(1, dtype=torch.bool), rows[together].diff() != 0]).nonzero().squeeze(1)
        counts = torch.cat([starts, torch.tensor([k])]).diff()
        ranks = torch.empty_like(together)
        ranks[together] = torch.arange(k) - starts.repeat_interleave(counts)
        order = order[ranks.argsort(stable=True)]
    return places[order], values[order]


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


def _flats(scores: Scores) -> list[Tensor]:
    return [scores.values[info.name].reshape(-1) for info in scores.infos]


def _by_parameter(scores: Scores, places: Tensor) -> list[Tensor]:
    """Ascending places in the concatenation as flat indices of each parameter."""
    starts = np.cumsum([0, *(info.numel for info in scores.infos)])
    cuts = torch.searchsorted(places, torch.from_numpy(starts))
    return [places[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], starts[:-1].tolist(), strict=True)]


def _quota(scores: Scores, k: int, spread: Spread) -> Tensor:
    """``equations.hybrid_quota`` over all parameters together: places in their concatenation, ascending."""
    if scores.halves is None:
        raise SelectionError(f"The scores {scores.name!r} hold no numbers to select by.")
    specific, agnostic = scores.halves
    k_agnostic = quota(k, scores.lam)
    chosen = torch.empty(0, dtype=torch.int64)
    if k > k_agnostic:
        chosen = _first(specific, k - k_agnostic, spread)
    if not k_agnostic:
        return chosen
    best, _ = best_first(agnostic, k, spread)  # no more than k − k_agnostic of them are chosen already
    return torch.cat([chosen, best[~torch.isin(best, chosen)][:k_agnostic]]).sort().values


def _first(scores: Scores, k: int, spread: Spread) -> Tensor:
    """The k places in the concatenation of all parameters that are chosen, ascending."""
    return _spread(scores, k) if spread == "row" else _top_k(_flats(scores), k)


def _columns(info: WeightInfo) -> int:
    """How many weights a row has. A vector has no rows, nor has what has one only, such as position embeddings."""
    rows = info.shape[0]
    return info.numel // rows if len(info.shape) > 1 and rows > 1 else 1


def _rows(scores: Scores, places: Tensor) -> Tensor:
    """The row of each of the ascending places, counted over all parameters."""
    rows, start = [], 0
    for info, at in zip(scores.infos, _by_parameter(scores, places), strict=True):
        rows.append(at // _columns(info) + start)
        start += info.numel // _columns(info)
    return torch.cat(rows)


def _spread(scores: Scores, k: int) -> Tensor:
    """``equations.top_k_spread`` over the concatenation, holding no more than the few best of each row."""
    shapes = [(info.numel // _columns(info), _columns(info)) for info in scores.infos]
    m = 1
    while sum(rows * min(m, columns) for rows, columns in shapes) < k:
        m += 1
    kept: list[Part] = []
    start = 0
    for flat, shape in zip(_flats(scores), shapes, strict=True):
        _check_numbers(float(flat.max()))
        at = _best_of_rows(flat.reshape(shape), m).reshape(-1).nonzero().squeeze(1)
        values = flat[at].clone()
        if m > 1:  # those come before any m-th
            values[_best_of_rows(flat.reshape(shape), m - 1).reshape(-1)[at]] = torch.inf
        kept.append((at + start, values))
        start += flat.numel()
    return torch.cat([at for at, _ in _largest(kept, k)])


def _best_of_rows(s: Tensor, m: int) -> Tensor:
    """Where ``equations.row_rank`` is at most m: (rows, columns) bool."""
    if m >= s.shape[1]:
        return torch.ones_like(s, dtype=torch.bool)
    if m == 1:  # of equal scores ``max`` finds the first
        return torch.zeros_like(s, dtype=torch.bool).scatter_(1, s.max(1, keepdim=True).indices, True)
    bar = s.topk(m, dim=1).values[:, -1:]
    above, equal = s > bar, s == bar
    return above | (equal & (equal.cumsum(1) <= m - above.sum(1, keepdim=True)))


def _top_k(flats: list[Tensor], k: int) -> Tensor:
    """``equations.top_k`` over the concatenation, in one pass that never holds much more than k scores and a chunk.

    A sample gives a score that the k-th largest very likely reaches, so that few scores are kept on the way; where it
    does not reach it, a second pass goes without.
    """
    found = _reaching(flats, k, _likely_below(flats, k))
    return found if len(found) == k else _reaching(flats, k, -math.inf)


def _likely_below(flats: list[Tensor], k: int) -> float:
    """A score below the k-th largest, but not by far, as a seeded random sample has it. It may be wrong."""
    total = sum(flat.numel() for flat in flats)
    if total <= SAMPLE:  # to look at them all is quicker
        return -math.inf
    generator = torch.Generator().manual_seed(0)
    sample = []
    for flat in flats:
        size = round(SAMPLE * flat.numel() / total)
        sample.append(flat[torch.randint(flat.numel(), (size,), generator=generator)])
    drawn = torch.cat(sample)
    expected = len(drawn) * k / total
    rank = math.ceil(expected + 4 * math.sqrt(expected) + 8)
    return float(drawn.topk(rank).values[-1]) if rank <= len(drawn) else -math.inf


def _reaching(flats: list[Tensor], k: int, bound: float) -> Tensor:
    """Ascending positions, in the concatenation, of the k largest scores that reach ``bound``; fewer where fewer do.

    What is kept is cut back to the k best whenever it has doubled; from then on only larger scores can be among them,
    since of equal ones the first counts.
    """
    kept: list[Part] = []
    held, start, cut = 0, 0, False
    for flat in flats:
        for piece in flat.split(CHUNK):
            largest = float(piece.max())  # a fast pass that also finds NaN
            _check_numbers(largest)
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


def _check_numbers(largest: float) -> None:
    """Raise if the largest of some scores, which NaN always is, is no number."""
    if math.isnan(largest):
        raise SelectionError("Some scores are not numbers (NaN): the gradients overflowed. Score in float32.")
