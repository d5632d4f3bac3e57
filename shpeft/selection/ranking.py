"""Rank the best weights, small enough that a run can store it, so that the selection at any budget can be read off.

Selection takes weights in an order that no budget changes (``top_k.best_first``): the first k are the beginning of the
first K. The order of the first K therefore answers every budget up to K. For the counts of each parameter it is enough
to know to which parameter each rank belongs: one byte, which compresses to about half of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.config.schema import Spread
from shpeft.equations import quota
from shpeft.errors import SelectionError
from shpeft.importance.scores import Scores
from shpeft.importance.weight_grid import BudgetGrids, cells_of, grid_size
from shpeft.selection.top_k import best_first
from shpeft.support.formatting import short_count

RANKED_SHARE = 0.01
"""The share of a backbone's weights that is ranked."""

MAX_RANKED = 1_000_000
"""Upper limit on ranked weights, whatever the backbone: bounds the bytes of a stored ranking."""

STEP = 1.005
"""The ratio of neighboring ranks whose scores are stored, where ranks are large."""

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best weights in the order in which a growing budget takes them.

    Attributes:
        order: (K,) the parameter of each rank, as its position among the eligible parameters.
        marks: (m,) some of the ranks from 1 to K, ascending, with both ends.
        scores: (m,) the lowest score up to each of these ranks, float32, descending.
    """

    order: Ints
    marks: Ints
    scores: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"Ranking({len(self.order):,} weights, {len(self.marks):,} scores)"

    def threshold(self, k: int) -> tuple[float, float]:
        """Return bounds of the lowest of the first k scores; they are equal if that rank is a mark."""
        at = int(np.searchsorted(self.marks, k))
        exact = self.marks[at] == k
        return float(self.scores[at]), float(self.scores[at if exact else at - 1])


@dataclass(frozen=True, eq=False)
class Rankings:
    """The rankings of a run's score and of its halves, and the weights that the halves share.

    Attributes:
        names: the eligible parameters, in the model's order.
        total: the number of weights of the backbone, to which a share refers.
        eligible: the number of weights that may be selected.
        parts: the ranking of each score: ``hybrid`` for the score itself (whatever it is called), ``task-specific`` and
            ``task-agnostic`` for its halves. A quota hybrid has no scores of its own and therefore no ranking.
        shared: (2, m) the ranks, from 0, in the task-specific and in the task-agnostic ranking of the weights in both.
        lam: the share of the task-agnostic half in a quota hybrid; None for any other score.
    """

    names: tuple[str, ...]
    total: int
    eligible: int
    parts: Mapping[str, Ranking]
    shared: Ints = field(default_factory=lambda: np.empty((2, 0), np.int32))
    lam: float | None = None

    def __repr__(self) -> str:
        return f"Rankings({', '.join(self.parts)}: {self.reach:,} of {short_count(self.total)} weights)"

    @property
    def reach(self) -> int:
        """The largest budget that the rankings answer."""
        return min(len(part.order) for part in self.parts.values())

    def share(self, k: int) -> float:
        """Return k weights as a fraction of the backbone's."""
        return k / self.total

    def counts(self, which: str, k: int) -> dict[str, int]:
        """Return the exact number of weights of each parameter that ``select`` takes at a budget of k.

        Raises:
            SelectionError: a budget of less than 1 or more than ``reach``.
        """
        self._check(k)
        return self._count(self.selected(which, k, {name: part.order for name, part in self.parts.items()}))

    def selected(self, which: str, k: int, by_rank: Mapping[str, Ints]) -> Ints:
        """Return the entries (k,) of ``by_rank`` that belong to the weights selected at a budget of k.

        Args:
            by_rank: for each ranked score (K,) numbers, one for each rank.
        """
        if which in self.parts:
            return by_rank[which][:k]
        assert self.lam is not None
        specific, agnostic = by_rank["task-specific"], by_rank["task-agnostic"]
        k_agnostic = quota(k, self.lam)
        left = np.ones(len(agnostic), bool)
        left[self.shared[1][self.shared[0] < k - k_agnostic]] = False  # the specific half has taken them already
        return np.concatenate([specific[: k - k_agnostic], agnostic[left][:k_agnostic]])

    def threshold(self, which: str, k: int) -> tuple[float, float] | None:
        """Return bounds of the lowest selected score at a budget of k.

        For a quota hybrid it is that of its task-specific half; None if this half selects nothing.

        Raises:
            SelectionError: a budget of less than 1 or more than ``reach``.
        """
        self._check(k)
        if which in self.parts:
            return self.parts[which].threshold(k)
        assert self.lam is not None
        k -= quota(k, self.lam)
        return self.parts["task-specific"].threshold(k) if k else None

    def shared_counts(self, k: int) -> dict[str, int]:
        """Return the number of weights of each parameter that both halves select at a budget of k.

        Raises:
            SelectionError: a budget of less than 1 or more than ``reach``.
        """
        self._check(k)
        both = self.shared[0][self.shared.max(axis=0, initial=0) < k]
        return self._count(self.parts["task-specific"].order[both])

    def _count(self, order: Ints) -> dict[str, int]:
        counts = np.bincount(order, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def _check(self, k: int) -> None:
        if not 1 <= k <= self.reach:
            raise SelectionError(
                f"This run ranks its {self.reach:,} best weights, {100 * self.share(self.reach):.3g} % of the "
                f"backbone's; a budget of {k:,} is not among them. Choose one from 1 to {self.reach:,}, or start a "
                "run with it."
            )


def rank_weights(scores: Scores, k: int, ranked_share: float = RANKED_SHARE, spread: Spread = "none") -> Rankings:
    """Rank the best weights of a score and of its halves.

    Args:
        k: the budget in use: at least that many weights are ranked, and the threshold there is stored exactly.
        ranked_share: the share of the backbone's weights to rank, up to ``MAX_RANKED`` weights.
        spread: see ``select``.
    """
    return _ranked(scores, k, ranked_share, spread)[0]


def rank_with_grids(
    scores: Scores,
    k: int,
    heads: Mapping[str, int],
    ranked_share: float = RANKED_SHARE,
    spread: Spread = "none",
) -> tuple[Rankings, dict[str, BudgetGrids]]:
    """Rank the best weights, and count them in the grids of all parameters at each step of a slider.

    Args:
        heads: the number of attention heads of each parameter that they share; see ``attention_heads``.

    Returns:
        the rankings, and the grids by score.
    """
    rankings, positions = _ranked(scores, k, ranked_share, spread)
    sizes = np.array([grid_size(info, heads.get(info.name, 0)) for info in scores.infos])
    steps = np.array(budgets(rankings.reach, also=(k,)))
    cells = {which: _cells(scores, at, sizes) for which, at in positions.items()}
    which = [*rankings.parts, *(["hybrid"] if rankings.lam is not None else [])]
    return rankings, {name: BudgetGrids(steps, sizes, _added(rankings, name, steps, cells, sizes)) for name in which}


def _ranked(
    scores: Scores, k: int, ranked_share: float, spread: Spread
) -> tuple[Rankings, dict[str, NDArray[np.int64]]]:
    """Return the rankings and, by score, the position of each rank in the concatenation of all parameters."""
    length = min(scores.eligible, max(min(round(ranked_share * scores.total), MAX_RANKED), k))
    parts, positions = {}, {}
    for which, part in score_parts(scores).items():
        if part.values:
            parts[which], positions[which] = _rank(part, length, k, spread)
    names = tuple(info.name for info in scores.infos)
    if scores.halves is None:
        return Rankings(names, scores.total, scores.eligible, parts), positions
    _, *ranks = np.intersect1d(
        positions["task-specific"], positions["task-agnostic"], assume_unique=True, return_indices=True
    )
    lam = None if scores.values else scores.lam
    return Rankings(names, scores.total, scores.eligible, parts, np.array(ranks, np.int32), lam), positions


def _cells(scores: Scores, positions: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the grid cell of each position, counted over the grids of all parameters."""
    ends = np.cumsum([info.numel for info in scores.infos])
    owner, cells = np.searchsorted(ends, positions, side="right"), np.empty_like(positions)
    first = np.cumsum([0, *sizes.prod(1)])
    for at, info in enumerate(scores.infos):
        own = owner == at
        size = (int(sizes[at, 0]), int(sizes[at, 1]))
        cells[own] = first[at] + cells_of(positions[own] - (ends[at] - info.numel), info, size)
    return cells


def _added(
    rankings: Rankings, which: str, steps: Ints, cells: Mapping[str, Ints], sizes: Ints
) -> NDArray[np.unsignedinteger[Any]]:
    """Return ``BudgetGrids.added``: a growing budget only adds weights, in a quota hybrid as well."""
    total = int(sizes.prod(1).sum())
    before, rows = np.zeros(total, np.int64), []
    for k in steps.tolist():
        now = np.bincount(rankings.selected(which, k, cells), minlength=total)
        rows.append((now - before).astype(np.uint32))
        before = now
    added = np.stack(rows)
    return added.astype(np.min_scalar_type(added.max()))


def score_parts(scores: Scores) -> dict[str, Scores]:
    """Return a score and its halves by the names that a run stores them under."""
    if scores.halves is None:
        return {"hybrid": scores}
    return {"hybrid": scores, "task-specific": scores.halves[0], "task-agnostic": scores.halves[1]}


def _rank(scores: Scores, length: int, k: int, spread: Spread) -> tuple[Ranking, NDArray[np.int64]]:
    """Return the ranking, and the position of each rank in the concatenation of all parameters."""
    best, at = best_first(scores, length, spread)
    positions: NDArray[np.int64] = best.numpy()
    lowest: NDArray[np.float32] = np.minimum.accumulate(at.numpy())
    ends = np.cumsum([info.numel for info in scores.infos])
    owner: Ints = np.searchsorted(ends, positions, side="right").astype(np.uint8 if len(ends) <= 256 else np.uint16)
    marks = _marks(length, k)
    return Ranking(owner, marks, lowest[marks - 1].astype(np.float32)), positions


def _marks(length: int, k: int) -> NDArray[np.int64]:
    """Return ranks from 1 to the length, closer together where they are small, with k among them."""
    steps = int(np.log(length) / np.log(STEP)) + 1
    return np.unique(np.r_[np.round(STEP ** np.arange(steps)), k, length].astype(np.int64))


def budgets(reach: int, also: Sequence[int] = (), per_decade: int = 20) -> list[int]:
    """Return the budgets of a slider: from 1 to the reach in even logarithmic steps, with those of ``also``."""
    steps = np.geomspace(1, reach, max(2, int(np.log10(reach) * per_decade) + 1))
    return sorted({*np.round(steps).astype(int).tolist(), *(k for k in also if 1 <= k <= reach)})


def nearest(steps: Sequence[int], k: int) -> int:
    """Return the step that is nearest to k on a logarithmic scale."""
    return min(steps, key=lambda step: abs(np.log(step / max(k, 1))))
