"""Select the k weights with the largest scores: the support of a delta."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args, overload

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.config.schema import SelectionConfig, Spread
from shpeft.equations import quota
from shpeft.errors import EmptySupport, SelectionError, did_you_mean
from shpeft.importance.scores import Scores
from shpeft.support.formatting import short_count

DEFAULTS = SelectionConfig()
"""The settings of a run, which are the defaults here."""

CHUNK = 1 << 17
"""Scores compared at a time: bounds the memory that selection needs."""

SAMPLE = 1 << 18
"""Random scores from which the k-th largest is estimated."""

Part = tuple[Tensor, Tensor]
"""Ascending positions and the scores at them."""


@dataclass(frozen=True, eq=False)
class Support:
    """The weights that may move.

    Attributes:
        indices: for each parameter that has any, their flat indices, int64, ascending.
        shapes: those parameters' shapes.
        total: the number of weights of the whole backbone.
        infos: the eligible weights that these were selected from; None if unknown, as in a delta file.

    Raises:
        SelectionError: indices that are empty, out of range, or not ascending and unique.

    Examples:
        >>> import torch
        >>> from shpeft import Support
        >>> Support({"fc.weight": torch.tensor([0, 5])}, {"fc.weight": (2, 3)}, total=1_000)
        Support(2 of 1.0K weights in 1 parameter)
    """

    indices: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]
    total: int
    infos: tuple[WeightInfo, ...] | None = None

    def __repr__(self) -> str:
        parameters = "1 parameter" if len(self.indices) == 1 else f"{len(self.indices)} parameters"
        return f"Support({self.k:,} of {short_count(self.total)} weights in {parameters})"

    def __post_init__(self) -> None:
        for name, index in self.indices.items():
            size = int(np.prod(self.shapes[name]))
            if index.numel() == 0 or index[0] < 0 or index[-1] >= size or bool((index.diff() <= 0).any()):
                raise SelectionError(
                    f"The indices of {name} must be ascending, without duplicates, from 0 to {size - 1}."
                )

    @property
    def k(self) -> int:
        """The number of selected weights."""
        return sum(index.numel() for index in self.indices.values())

    @property
    def share(self) -> float:
        """The fraction of the backbone's weights that is selected."""
        return self.k / self.total

    def counts(self) -> dict[str, int]:
        """Return the number of selected weights of each parameter that has any."""
        return {name: index.numel() for name, index in self.indices.items()}


def budget_to_count(budget: int | float, total: int) -> int:
    """Return the number of weights that a budget allows: a share of ``total`` if it is a float, a count otherwise.

    Raises:
        EmptySupport: the share is too small for one weight.
        SelectionError: more weights than there are.

    Examples:
        >>> budget_to_count(1e-4, 20_000), budget_to_count(1, 20_000), budget_to_count(1.0, 20_000)
        (2, 1, 20000)
    """
    if isinstance(budget, float) and budget > 1:
        raise SelectionError(
            f"The budget {budget:g} is a share of more than all weights. Give a share up to 1.0, or a whole number."
        )
    k = round(budget * total) if isinstance(budget, float) else int(budget)
    if k < 1:
        raise EmptySupport(
            f"A budget of {budget:g} selects none of {total:,} weights. "
            f"Give a share of at least {1 / total:.2g}, or a count."
        )
    if k > total:
        raise SelectionError(f"A budget of {k:,} weights is more than the backbone's {total:,}.")
    return k


def check_budget(budget: int | float, eligible: int, total: int) -> int:
    """Return the number of weights that a budget selects among the eligible ones.

    Args:
        budget: a share of ``total`` (a float), or a count.
        eligible: the number of weights that may be selected.
        total: the number of weights of the whole backbone.

    Raises:
        EmptySupport: the share is too small for one weight.
        SelectionError: more weights than are eligible.
    """
    k = budget_to_count(budget, total)
    if k > eligible:
        raise SelectionError(
            f"A budget of {k:,} weights is more than the {eligible:,} eligible ones (of {total:,}). "
            "Widen the scope or lower the budget."
        )
    return k


def select(scores: Scores, budget: int | float, spread: Spread = DEFAULTS.spread) -> Support:
    """Select the weights with the largest scores, exactly as many as the budget allows.


    Args:
        budget: a share of all backbone weights (a float up to 1.0), or a count (an integer).
        spread: ``none`` is the exact global top k (``equations.top_k``); ties go to the earlier weight in the model's
            order. ``row`` takes the best weight of every row of a matrix before any row gives a second
            (``equations.top_k_spread``), which tolerates larger learning rates. In the comparison of ``results/`` both
            reach the same accuracy.

    Returns:
        the support. A quota hybrid (``equations.hybrid_quota``) is carried out here.

    Raises:
        EmptySupport: a budget that selects no weight.
        SelectionError: more weights than are eligible, scores that are not numbers, or an unknown spread.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> shpeft.select(scores, budget=100).k
        100
        >>> shpeft.select(scores, budget=1e-4).k
        30
    """
    if spread not in get_args(Spread):
        raise SelectionError(f"There is no spread {spread!r}. {did_you_mean(spread, get_args(Spread))}")
    k = check_budget(budget, scores.eligible, scores.total)
    return support_at(scores, _best(scores, k, spread) if scores.values else _quota(scores, k, spread))


def support_at(scores: Scores, positions: Tensor) -> Support:
    """Return the support at ascending positions (k,) in the concatenation of all parameters."""
    parts = zip(scores.infos, _by_parameter(scores, positions), strict=True)
    selected = {info: index for info, index in parts if len(index)}
    indices, shapes = {i.name: index for i, index in selected.items()}, {i.name: i.shape for i in selected}
    return Support(indices, shapes, scores.total, scores.infos)


def best_first(scores: Scores, k: int, spread: Spread = "none") -> tuple[Tensor, Tensor]:
    """Return the k best weights in the order in which a growing budget takes them.

    Returns:
        (k,) positions in the concatenation of all parameters, and (k,) their scores.
    """
    positions = _best(scores, k, spread)
    values = torch.cat([flat[at] for flat, at in zip(_flats(scores), _by_parameter(scores, positions), strict=True)])
    order = values.argsort(descending=True, stable=True)  # stable: ties go to the earlier weight
    if spread == "row":
        rows = _rows(scores, positions)[order]
        by_row = rows.argsort(stable=True)  # row by row, the best of each first
        first = torch.cat([torch.ones(1, dtype=torch.bool), rows[by_row].diff() != 0]).nonzero().squeeze(1)
        counts = torch.cat([first, torch.tensor([k])]).diff()
        ranks = torch.empty_like(by_row)
        ranks[by_row] = torch.arange(k) - first.repeat_interleave(counts)
        order = order[ranks.argsort(stable=True)]
    return positions[order], values[order]


def select_like(support: Support, infos: tuple[WeightInfo, ...], seed: int = 0) -> Support:
    """Select random weights, as many in each parameter as another support has: the control for *which* weights.

    Args:
        infos: the weights that were eligible for the other support.
    """
    generator = torch.Generator().manual_seed(seed)
    indices, sizes = {}, {info.name: info.numel for info in infos}
    for name, count in support.counts().items():
        indices[name] = torch.randperm(sizes[name], generator=generator)[:count].sort().values
    return Support(indices, support.shapes, support.total, infos)


class _Flats(Sequence[Tensor]):
    """The scores of every parameter as a vector, read one at a time: those of a hybrid are computed when they are."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    @overload
    def __getitem__(self, at: int) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, at: int | slice) -> Tensor | Sequence[Tensor]:
        infos = self._scores.infos[at]
        if isinstance(infos, tuple):
            return [self._scores.values[info.name].reshape(-1) for info in infos]
        return self._scores.values[infos.name].reshape(-1)

    def __len__(self) -> int:
        return len(self._scores.infos)


def _flats(scores: Scores) -> Sequence[Tensor]:
    return _Flats(scores)


def _by_parameter(scores: Scores, positions: Tensor) -> list[Tensor]:
    """Turn ascending positions in the concatenation into flat indices of each parameter."""
    offsets = np.cumsum([0, *(info.numel for info in scores.infos)])
    cuts = torch.searchsorted(positions, torch.from_numpy(offsets))
    ends = zip(cuts[:-1], cuts[1:], offsets[:-1].tolist(), strict=True)
    return [positions[low:high] - offset for low, high, offset in ends]


def _quota(scores: Scores, k: int, spread: Spread) -> Tensor:
    """Carry out ``equations.hybrid_quota`` over all parameters: ascending positions in their concatenation."""
    if scores.halves is None:
        raise SelectionError(f"The scores {scores.name!r} have no numbers to select by.")
    specific, agnostic = scores.halves
    k_agnostic = quota(k, scores.lam)
    selected = torch.empty(0, dtype=torch.int64)
    if k > k_agnostic:
        selected = _best(specific, k - k_agnostic, spread)
    if not k_agnostic:
        return selected
    best, _ = best_first(agnostic, k, spread)  # at most k − k_agnostic of them are selected already
    return torch.cat([selected, best[~torch.isin(best, selected)][:k_agnostic]]).sort().values


def _best(scores: Scores, k: int, spread: Spread) -> Tensor:
    """Return the k selected positions in the concatenation of all parameters, ascending."""
    return _spread(scores, k) if spread == "row" else _top_k(_flats(scores), k)


def _columns(info: WeightInfo) -> int:
    """Return the length of a row; 1 for a vector, and for a parameter of one row such as position embeddings."""
    rows = info.shape[0]
    return info.numel // rows if len(info.shape) > 1 and rows > 1 else 1


def _rows(scores: Scores, positions: Tensor) -> Tensor:
    """Return the row of each of the ascending positions, counted over all parameters."""
    rows, offset = [], 0
    for info, at in zip(scores.infos, _by_parameter(scores, positions), strict=True):
        rows.append(at // _columns(info) + offset)
        offset += info.numel // _columns(info)
    return torch.cat(rows)


def _spread(scores: Scores, k: int) -> Tensor:
    """Apply ``equations.top_k_spread`` to the concatenation, holding only the m best weights of each row."""
    shapes = [(info.numel // _columns(info), _columns(info)) for info in scores.infos]
    m = 1
    while sum(rows * min(m, columns) for rows, columns in shapes) < k:
        m += 1
    parts: list[Part] = []
    offset = 0
    for flat, shape in zip(_flats(scores), shapes, strict=True):
        _check_numbers(float(flat.max()))
        at = _best_of_rows(flat.reshape(shape), m).reshape(-1).nonzero().squeeze(1)
        values = flat[at].clone()
        if m > 1:  # the m − 1 best of every row come before any m-th
            values[_best_of_rows(flat.reshape(shape), m - 1).reshape(-1)[at]] = torch.inf
        parts.append((at + offset, values))
        offset += flat.numel()
    return torch.cat([at for at, _ in _largest(parts, k)])


def _best_of_rows(s: Tensor, m: int) -> Tensor:
    """Return where ``equations.row_rank`` is at most m: (rows, columns) bool."""
    if m >= s.shape[1]:
        return torch.ones_like(s, dtype=torch.bool)
    if m == 1:  # ``max`` returns the first of equal scores
        return torch.zeros_like(s, dtype=torch.bool).scatter_(1, s.max(1, keepdim=True).indices, True)
    bar = s.topk(m, dim=1).values[:, -1:]
    above, equal = s > bar, s == bar
    return above | (equal & (equal.cumsum(1) <= m - above.sum(1, keepdim=True)))


def _top_k(flats: Sequence[Tensor], k: int) -> Tensor:
    """Apply ``equations.top_k`` to the concatenation in one pass that holds little more than k scores and a chunk.

    A sample gives a lower bound of the k-th largest score that very likely holds, so that few scores are held on the
    way. If it does not hold, a second pass runs without a bound.
    """
    positions = _reaching(flats, k, _likely_below(flats, k))
    return positions if len(positions) == k else _reaching(flats, k, -math.inf)


def _likely_below(flats: Sequence[Tensor], k: int) -> float:
    """Estimate a score just below the k-th largest from a seeded random sample; it may be wrong."""
    total = sum(flat.numel() for flat in flats)
    if total <= SAMPLE:  # a sample would not be faster
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


def _reaching(flats: Sequence[Tensor], k: int, bound: float) -> Tensor:
    """Return ascending positions of the k largest scores of at least ``bound``; fewer if there are fewer.

    The held scores are cut back to the k best whenever they have doubled. From then on only larger scores can be among
    the best, since ties go to the earlier one.
    """
    parts: list[Part] = []
    held, offset, cut = 0, 0, False
    for flat in flats:
        for piece in flat.split(CHUNK):
            largest = float(piece.max())  # a fast pass that also detects NaN
            _check_numbers(largest)
            if largest > bound or (largest == bound and not cut):
                at = (piece > bound if cut else piece >= bound).nonzero().squeeze(1)
                parts.append((at + offset, piece[at]))
                held += len(at)
                if held > 2 * max(k, CHUNK):
                    parts = _largest(parts, k)
                    held, bound, cut = k, min(float(values.min()) for _, values in parts), True
            offset += piece.numel()
    return torch.cat([at for at, _ in _largest(parts, k)]) if parts else torch.empty(0, dtype=torch.int64)


def _largest(parts: list[Part], k: int) -> list[Part]:
    """Return the k largest scores, original order kept; ties go to the earlier one."""
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
    """Raise if the largest of some scores is NaN, as it is if any of them is."""
    if math.isnan(largest):
        raise SelectionError("Some scores are not numbers (NaN): the gradients overflowed. Score in float32.")
