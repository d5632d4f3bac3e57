"""Overlaps: how far supports of one backbone agree, and what random choices of the same sizes share.

Two random supports of a and b among n weights share a hypergeometric number; of several, each weight is in each support
independently of the others with probability k/n, which gives the expected size of any of their intersections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from shpeft.backbones import WeightInfo
from shpeft.chance import Chance
from shpeft.errors import SelectionError
from shpeft.ranking import Rankings
from shpeft.selection import Support

Ints = NDArray[np.int64]

MOST = 60
"""How many supports are compared at once, at most: each has a bit."""


@dataclass(frozen=True)
class LayerOverlap:
    """The overlap within one parameter; ``chance`` is the intersection expected of random choices in it.

    Attributes:
        chance_low, chance_high: the 2.5 and 97.5 % quantiles of that intersection.
    """

    name: str
    block: str
    matrix: str
    intersection: int
    a: int
    b: int
    eligible: int
    chance: float
    chance_low: int
    chance_high: int


@dataclass(frozen=True)
class Overlap:
    """How far two supports agree, and what chance gives (hypergeometric: random choices of a and b among eligible).

    Attributes:
        containment: the intersection over the smaller of the two.
        chance: the expected intersection of random supports; ``chance_low`` and ``chance_high`` its 2.5 and 97.5 %
            quantiles.
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
    chance_low: int
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
    _check((a, b), infos)
    layers = tuple(_layer(info, a, b) for info in infos)
    both, eligible = sum(layer.intersection for layer in layers), sum(info.numel for info in infos)
    chance, law = a.k * b.k / eligible, Chance.of(eligible, a.k, b.k, both)
    low, high = law.range
    return Overlap(
        intersection=both,
        a=a.k,
        b=b.k,
        eligible=eligible,
        jaccard=both / (a.k + b.k - both),
        containment=both / min(a.k, b.k),
        chance=chance,
        chance_jaccard=chance / (a.k + b.k - chance),
        chance_low=low,
        chance_high=high,
        p_value=float(law.above[both - law.first]),
        p_low=float(law.below[both - law.first]),
        layers=layers,
    )


def _layer(info: WeightInfo, a: Support, b: Support) -> LayerOverlap:
    x, y = (support.indices.get(info.name) for support in (a, b))
    n, k_a, k_b = info.numel, _size(a, info.name), _size(b, info.name)
    both = 0 if x is None or y is None else int(torch.isin(x, y, assume_unique=True).sum())
    chance = k_a * k_b / n
    low, high = Chance.of(n, k_a, k_b).range if chance else (0, 0)
    return LayerOverlap(info.name, info.block, info.matrix, both, k_a, k_b, n, chance, low, high)


@dataclass(frozen=True)
class BudgetOverlap:
    """How many weights both halves of a score choose when each may choose k, and what chance gives."""

    k: int
    shared: int
    chance: float
    chance_low: int
    chance_high: int

    @property
    def shares(self) -> dict[str, float]:
        """Shared weights and what chance gives (mean, and 95 % of draws) as shares of k."""
        counts = {"": self.shared, " by chance": self.chance}
        counts |= {" by chance, 2.5 %": self.chance_low, " by chance, 97.5 %": self.chance_high}
        return {f"share{of}": count / self.k for of, count in counts.items()}


def overlap_by_budget(rankings: Rankings, counts: Sequence[int]) -> list[BudgetOverlap]:
    """The overlap of a score's halves at several budgets, exactly, from their rankings.

    Raises:
        SelectionError: a budget beyond what is ranked.
    """
    n = rankings.eligible
    return [
        BudgetOverlap(k, sum(rankings.shared_counts(k).values()), k * k / n, *Chance.of(n, k, k).range) for k in counts
    ]


@dataclass(frozen=True)
class Intersection:
    """The weights that are in exactly these supports and in no other.

    Attributes:
        members: the supports' names.
        size: how many weights.
        chance: how many, expected of random supports.
    """

    members: tuple[str, ...]
    size: int
    chance: float


@dataclass(frozen=True)
class CommonLayer:
    """What one parameter has of every support.

    Attributes:
        sizes: how many weights of each support.
        common: how many weights that are in all.
        chance: how many, expected of random choices within the parameter.
    """

    name: str
    block: str
    matrix: str
    eligible: int
    sizes: tuple[int, ...]
    common: int
    chance: float


@dataclass(frozen=True)
class CommonWeight:
    """A weight that is in every support; of a parameter with more than two dimensions the column runs over the rest."""

    name: str
    row: int
    column: int


@dataclass(frozen=True)
class Overlaps:
    """How far several supports agree.

    Attributes:
        names: the supports'.
        sizes: how many weights each has.
        pairs: by two names, in the order of ``names``.
        intersections: every one that holds a weight, the largest first; they share no weight.
        layers: the parameters that any support touches.
        common: the weights in every support, in the model's order.
        chance: how many these are expected to be by chance.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    eligible: int
    pairs: dict[tuple[str, str], Overlap]
    intersections: tuple[Intersection, ...]
    layers: tuple[CommonLayer, ...]
    common: tuple[CommonWeight, ...]
    chance: float

    def largest(self, most: int) -> tuple[list[Intersection], list[Intersection]]:
        """The largest intersections and the rest; one that would stand alone in the rest is not put off."""
        cut = most if len(self.intersections) > most + 1 else len(self.intersections)
        return list(self.intersections[:cut]), list(self.intersections[cut:])


def overlaps(supports: Mapping[str, Support], infos: tuple[WeightInfo, ...]) -> Overlaps:
    """Compare several supports of one backbone.

    Args:
        supports: by name, two or more.
        infos: the weights that were eligible for all.

    Raises:
        SelectionError: fewer than two or more than ``MOST`` supports, or some with parameters that are not eligible.
    """
    if not 2 <= len(supports) <= MOST:
        raise SelectionError(f"{len(supports)} choices cannot be compared with each other. Take from 2 to {MOST}.")
    names, chosen = tuple(supports), tuple(supports.values())
    _check(chosen, infos)
    every, sizes = (1 << len(names)) - 1, tuple(support.k for support in chosen)
    counts: dict[int, int] = {}
    layers, common = [], list[CommonWeight]()
    for info in infos:
        places, codes = _memberships(chosen, info.name)
        for code, count in zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True):
            counts[code] = counts.get(code, 0) + count
        columns = info.numel // info.shape[0]
        shared = places[codes == every]
        common += [CommonWeight(info.name, *divmod(place, columns)) for place in shared.tolist()]
        here = tuple(_size(support, info.name) for support in chosen)
        if any(here):
            expected = _expected(info.numel, here, (True,) * len(here))
            layers.append(CommonLayer(info.name, info.block, info.matrix, info.numel, here, len(shared), expected))
    eligible = sum(info.numel for info in infos)
    found = []
    for code, count in counts.items():
        inside = tuple(bool(code >> bit & 1) for bit in range(len(names)))
        members = tuple(name for name, is_in in zip(names, inside, strict=True) if is_in)
        found.append(Intersection(members, count, _expected(eligible, sizes, inside)))
    return Overlaps(
        names,
        sizes,
        eligible,
        {(a, b): overlap(supports[a], supports[b], infos) for a, b in combinations(names, 2)},
        tuple(sorted(found, key=lambda i: (-i.size, len(i.members), i.members))),
        tuple(layers),
        tuple(common),
        _expected(eligible, sizes, (True,) * len(names)),
    )


def _memberships(supports: Sequence[Support], name: str) -> tuple[Ints, Ints]:
    """The flat indices in a parameter that any support holds, ascending, and a bit for each support that holds it."""
    held = [(bit, s.indices[name].numpy()) for bit, s in enumerate(supports) if name in s.indices]
    if not held:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places = np.unique(np.concatenate([index for _, index in held]))
    codes = np.zeros(len(places), np.int64)
    for bit, index in held:
        codes[np.searchsorted(places, index)] |= 1 << bit
    return places, codes


def _expected(n: int, sizes: Sequence[int], inside: Sequence[bool]) -> float:
    """How many of n weights are expected in exactly these of several random supports of the given sizes."""
    shares = np.array(sizes) / n
    return float(n * np.where(inside, shares, 1 - shares).prod())


def _check(supports: Sequence[Support], infos: tuple[WeightInfo, ...]) -> None:
    shapes = {info.name: info.shape for info in infos}
    for support in supports:
        for name, shape in support.shapes.items():
            if shapes.get(name) != shape:
                raise SelectionError(
                    f"The supports cannot be compared: {name} of shape {shape} is not among the eligible weights. "
                    "Compare supports of the same backbone and scope."
                )


def _size(support: Support, name: str) -> int:
    return support.indices[name].numel() if name in support.indices else 0
