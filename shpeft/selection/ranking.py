"""Rankings: the best weights in order, kept so small that a run can store them, and what any budget would choose.

Selection takes weights in an order that no budget changes (``selection.best_first``). The first k are the beginning of
the first K, so the order of the first K answers every budget up to K; for the counts of each parameter it is enough to
know, of each rank, to which parameter the weight belongs: a byte, which compresses to about half of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.equations import quota
from shpeft.errors import SelectionError
from shpeft.importance import Scores
from shpeft.matrices import Fields, fields_of, grid_size
from shpeft.selection import Spread, best_first

LARGEST = 0.01
"""The share of a backbone's weights that is ranked."""

MOST = 1_000_000
"""How many weights are ranked at most, whatever the backbone: what bounds a stored ranking's bytes."""

STEP = 1.005
"""The ratio of neighbouring ranks whose scores are kept, where ranks are large."""

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best weights in the order in which a growing budget takes them.

    Attributes:
        order: (K,) of each, which parameter it belongs to.
        marks: (m,) some ranks from 1 to K, ascending, the ends among them.
        scores: (m,) the lowest score up to each of these ranks, float32, descending.
    """

    order: Ints
    marks: Ints
    scores: NDArray[np.float32]

    def threshold(self, k: int) -> tuple[float, float]:
        """Bounds of the lowest of the first k scores, equal where that rank is a mark."""
        at = int(np.searchsorted(self.marks, k))
        exact = self.marks[at] == k
        return float(self.scores[at]), float(self.scores[at if exact else at - 1])


@dataclass(frozen=True, eq=False)
class Rankings:
    """The rankings of a run's score and of its halves, and which weights the halves share.

    Attributes:
        names: the eligible parameters, in the model's order.
        total: how many weights the backbone has, which a share refers to.
        eligible: how many weights may be selected.
        parts: by score: ``hybrid`` (whatever it is called), ``task-specific``, ``task-agnostic``; a quota hybrid has
            no numbers and is not among them.
        shared: (2, m) ranks, from 0, in the task-specific and in the task-agnostic ranking, of the weights in both.
        lam: the agnostic half's share in a quota hybrid; None of any other score.
    """

    names: tuple[str, ...]
    total: int
    eligible: int
    parts: Mapping[str, Ranking]
    shared: Ints = field(default_factory=lambda: np.empty((2, 0), np.int32))
    lam: float | None = None

    @property
    def reach(self) -> int:
        """The largest budget that is answered."""
        return min(len(part.order) for part in self.parts.values())

    def share(self, k: int) -> float:
        """k weights as a fraction of the backbone's."""
        return k / self.total

    def counts(self, which: str, k: int) -> dict[str, int]:
        """How many weights of each parameter ``select`` would choose by a score with a budget of k: exactly.

        Raises:
            SelectionError: a budget beyond what is ranked.
        """
        self._check(k)
        return self._count(self.chosen(which, k, {name: part.order for name, part in self.parts.items()}))

    def chosen(self, which: str, k: int, by_rank: Mapping[str, Ints]) -> Ints:
        """(k,) of the weights that a budget of k chooses what ``by_rank`` says of each rank, by score, (K,)."""
        if which in self.parts:
            return by_rank[which][:k]
        assert self.lam is not None
        specific, agnostic = by_rank["task-specific"], by_rank["task-agnostic"]
        k_agnostic = quota(k, self.lam)
        left = np.ones(len(agnostic), bool)
        left[self.shared[1][self.shared[0] < k - k_agnostic]] = False  # the specific half has chosen them already
        return np.concatenate([specific[: k - k_agnostic], agnostic[left][:k_agnostic]])

    def threshold(self, which: str, k: int) -> tuple[float, float] | None:
        """Bounds of the lowest score chosen with a budget of k.

        Of a quota hybrid that of its task-specific half, and None where this half chooses nothing.

        Raises:
            SelectionError: a budget beyond what is ranked.
        """
        self._check(k)
        if which in self.parts:
            return self.parts[which].threshold(k)
        assert self.lam is not None
        k -= quota(k, self.lam)
        return self.parts["task-specific"].threshold(k) if k else None

    def shared_counts(self, k: int) -> dict[str, int]:
        """How many weights of each parameter both halves would choose with a budget of k.

        Raises:
            SelectionError: a budget beyond what is ranked.
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
                f"backbone's, and says nothing of a budget of {k:,}. Choose one from 1 to {self.reach:,}, or "
                "start a run with it."
            )


def rank_weights(scores: Scores, k: int, largest: float = LARGEST, spread: Spread = "none") -> Rankings:
    """Rank the best weights of a score and of its halves.

    Args:
        k: the budget in use: more than that is ranked, and its threshold is kept exactly.
        largest: the share of the backbone's weights to rank; see ``MOST``.
        spread: as ``select`` is given it.
    """
    return _ranked(scores, k, largest, spread)[0]


def rank_inside(
    scores: Scores, k: int, heads: Mapping[str, int], largest: float = LARGEST, spread: Spread = "none"
) -> tuple[Rankings, dict[str, Fields]]:
    """The same, and for every step of a slider the grids of all parameters, by score.

    Args:
        heads: how many attention heads share a parameter, of those that they share.
    """
    rankings, places = _ranked(scores, k, largest, spread)
    sizes = np.array([grid_size(info, heads.get(info.name, 0)) for info in scores.infos])
    steps = np.array(budgets(rankings.reach, also=(k,)))
    cells = {which: _cells(scores, at, sizes) for which, at in places.items()}
    which = [*rankings.parts, *(["hybrid"] if rankings.lam is not None else [])]
    return rankings, {name: Fields(steps, sizes, _added(rankings, name, steps, cells, sizes)) for name in which}


def _ranked(scores: Scores, k: int, largest: float, spread: Spread) -> tuple[Rankings, dict[str, NDArray[np.int64]]]:
    """The rankings and, by score, each rank's place in the concatenation of all parameters."""
    length = min(scores.eligible, max(min(round(largest * scores.total), MOST), k))
    parts, places = {}, {}
    for which, part in score_parts(scores).items():
        if part.values:
            parts[which], places[which] = _rank(part, length, k, spread)
    names = tuple(info.name for info in scores.infos)
    if scores.halves is None:
        return Rankings(names, scores.total, scores.eligible, parts), places
    _, *ranks = np.intersect1d(
        places["task-specific"], places["task-agnostic"], assume_unique=True, return_indices=True
    )
    lam = None if scores.values else scores.lam
    return Rankings(names, scores.total, scores.eligible, parts, np.array(ranks, np.int32), lam), places


def _cells(scores: Scores, places: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The field of each place, counted over the grids of all parameters one after another."""
    ends = np.cumsum([info.numel for info in scores.infos])
    owner, cells = np.searchsorted(ends, places, side="right"), np.empty_like(places)
    first = np.cumsum([0, *sizes.prod(1)])
    for at, info in enumerate(scores.infos):
        own = owner == at
        size = (int(sizes[at, 0]), int(sizes[at, 1]))
        cells[own] = first[at] + fields_of(places[own] - (ends[at] - info.numel), info, size)
    return cells


def _added(
    rankings: Rankings, which: str, steps: Ints, cells: Mapping[str, Ints], sizes: Ints
) -> NDArray[np.unsignedinteger[Any]]:
    """``Fields.added``. A budget that grows only adds, in a quota hybrid as well."""
    total = int(sizes.prod(1).sum())
    before, rows = np.zeros(total, np.int64), []
    for k in steps.tolist():
        now = np.bincount(rankings.chosen(which, k, cells), minlength=total)
        rows.append((now - before).astype(np.uint32))
        before = now
    added = np.stack(rows)
    return added.astype(np.min_scalar_type(added.max()))


def score_parts(scores: Scores) -> dict[str, Scores]:
    """A score and its halves, as a run calls them."""
    if scores.halves is None:
        return {"hybrid": scores}
    return {"hybrid": scores, "task-specific": scores.halves[0], "task-agnostic": scores.halves[1]}


def _rank(scores: Scores, length: int, k: int, spread: Spread) -> tuple[Ranking, NDArray[np.int64]]:
    """The ranking, and of each rank the weight's place in the concatenation of all parameters."""
    best, at = best_first(scores, length, spread)
    places: NDArray[np.int64] = best.numpy()
    lowest: NDArray[np.float32] = np.minimum.accumulate(at.numpy())
    ends = np.cumsum([info.numel for info in scores.infos])
    owner: Ints = np.searchsorted(ends, places, side="right").astype(np.uint8 if len(ends) <= 256 else np.uint16)
    marks = _marks(length, k)
    return Ranking(owner, marks, lowest[marks - 1].astype(np.float32)), places


def _marks(length: int, k: int) -> NDArray[np.int64]:
    """Ranks from 1 to the length, closer together where they are small, with k among them."""
    steps = int(np.log(length) / np.log(STEP)) + 1
    return np.unique(np.r_[np.round(STEP ** np.arange(steps)), k, length].astype(np.int64))


def budgets(reach: int, also: Sequence[int] = (), a_decade: int = 20) -> list[int]:
    """Counts for a slider: from 1 to the reach in even steps of the logarithm, and ``also`` as far as it is inside."""
    steps = np.geomspace(1, reach, max(2, int(np.log10(reach) * a_decade) + 1))
    return sorted({*np.round(steps).astype(int).tolist(), *(k for k in also if 1 <= k <= reach)})


def nearest(steps: Sequence[int], k: int) -> int:
    """The step that is nearest to k on a logarithmic scale."""
    return min(steps, key=lambda step: abs(np.log(step / max(k, 1))))
