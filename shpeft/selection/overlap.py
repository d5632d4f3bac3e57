"""Compare supports of one backbone: the weights they share, and those that random supports of their sizes share.

Two random supports of a and b among n weights share a hypergeometric number of weights. Of several random supports,
each weight is in each with probability k/n, independently, which gives the expected size of any intersection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from shpeft.backbones import WeightInfo
from shpeft.errors import SelectionError
from shpeft.selection.hypergeometric import Hypergeometric
from shpeft.selection.ranking import Rankings
from shpeft.selection.top_k import Support

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LayerOverlap:
    """The overlap of two supports within one parameter.

    Attributes:
        name, block, matrix: the parameter's; see ``WeightInfo``.
        intersection: the number of weights in both supports.
        a, b: the number of weights in each support.
        eligible: the number of weights that may be selected.
        chance: the expected intersection of random selections within the parameter.
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
    """The overlap of two supports, and that of two random ones of their sizes (hypergeometric).

    Attributes:
        intersection: the number of weights in both supports.
        a, b: the number of weights in each support.
        eligible: the number of weights that may be selected.
        jaccard: the intersection over the union.
        containment: the intersection over the smaller support.
        chance: the expected intersection of random supports.
        chance_jaccard: the Jaccard index at that intersection.
        chance_low, chance_high: the 2.5 and 97.5 % quantiles of the intersection of random supports.
        p_value: the probability that random supports share at least this many weights.
        p_low: the probability that they share at most this many.
        layers: the overlap within each eligible parameter, in the model's order.
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

    def __repr__(self) -> str:
        return (
            f"Overlap({self.intersection:,} of {self.a:,} and {self.b:,} weights, Jaccard {self.jaccard:.3f}, "
            f"{self.chance:.3g} expected by chance)"
        )

    @property
    def against_chance(self) -> Literal["more", "less", "as much"]:
        """Whether the supports share more or fewer weights than random ones, at 2.5 % on either side."""
        if self.p_value < 0.025:
            return "more"
        return "less" if self.p_low < 0.025 else "as much"


def overlap(a: Support, b: Support, infos: tuple[WeightInfo, ...] | None = None) -> Overlap:
    """Compare two supports of one backbone.

    Args:
        infos: the weights that were eligible for both; None: those that the supports state.

    Raises:
        SelectionError: the eligible weights are unknown or differ, or a support has parameters that are not eligible or
            have another shape.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> a, b = (shpeft.estimate_importance(model, data.train, score) for score in ("magnitude", "gradient"))
        >>> result = shpeft.overlap(shpeft.select(a, budget=1_000), shpeft.select(b, budget=1_000))
        >>> (result.a, result.b, result.eligible)
        (1000, 1000, 122880)
        >>> round(result.chance, 1)
        8.1
    """
    infos = eligible_infos((a, b), infos)
    layers = tuple(_layer(info, a, b) for info in infos)
    both, eligible = sum(layer.intersection for layer in layers), sum(info.numel for info in infos)
    chance, law = a.k * b.k / eligible, Hypergeometric.of(eligible, a.k, b.k, both)
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
    n, k_a, k_b = info.numel, selected_in(a, info.name), selected_in(b, info.name)
    both = 0 if x is None or y is None else int(torch.isin(x, y, assume_unique=True).sum())
    chance = k_a * k_b / n
    low, high = Hypergeometric.of(n, k_a, k_b).range if chance else (0, 0)
    return LayerOverlap(info.name, info.block, info.matrix, both, k_a, k_b, n, chance, low, high)


@dataclass(frozen=True)
class BudgetOverlap:
    """The overlap of the halves of a score if each selects k weights, and that of random selections.

    Attributes:
        k: the number of weights that each half selects.
        shared: the number of weights that both select.
        chance: the expected number that random selections share.
        chance_low, chance_high: the 2.5 and 97.5 % quantiles of that number.
    """

    k: int
    shared: int
    chance: float
    chance_low: int
    chance_high: int

    @property
    def shares(self) -> dict[str, float]:
        """The shared weights and those of random selections (mean, 2.5 and 97.5 %), as fractions of k by column."""
        counts = {"": self.shared, " by chance": self.chance}
        counts |= {" by chance, 2.5 %": self.chance_low, " by chance, 97.5 %": self.chance_high}
        return {f"share{of}": count / self.k for of, count in counts.items()}


def overlap_by_budget(rankings: Rankings, counts: Sequence[int]) -> list[BudgetOverlap]:
    """Return the exact overlap of a score's halves at several budgets, from their rankings.

    Raises:
        SelectionError: a budget of less than 1 or more than ``rankings.reach``.
    """
    n = rankings.eligible
    return [
        BudgetOverlap(k, sum(rankings.shared_counts(k).values()), k * k / n, *Hypergeometric.of(n, k, k).range)
        for k in counts
    ]


def agreement_begins(points: Sequence[BudgetOverlap]) -> int | None:
    """Return the smallest budget from which on the halves share more than 97.5 % of random selections; None if none.

    Args:
        points: in ascending order of their budgets.

    Examples:
        >>> few = BudgetOverlap(10, 0, 0.1, 0, 1)
        >>> many, more = (BudgetOverlap(k, 40, 0.5, 0, 2) for k in (100, 1000))
        >>> agreement_begins([few, many, more]), agreement_begins([many, few])
        (100, None)
    """
    begin = None
    for point in reversed(points):
        if point.shared <= point.chance_high:
            break
        begin = point.k
    return begin


def eligible_infos(supports: Sequence[Support], infos: tuple[WeightInfo, ...] | None = None) -> tuple[WeightInfo, ...]:
    """Return the weights that were eligible for all supports: the given ones, or those that the supports state.

    Raises:
        SelectionError: they are unknown or differ, or a support has parameters that are not eligible.
    """
    stated = {support.infos for support in supports if support.infos is not None}
    if infos is None and len(stated) > 1:
        raise SelectionError(
            "The supports cannot be compared: they were selected from different weights. "
            "Compare supports of the same backbone and scope."
        )
    if infos is None and not stated:
        raise SelectionError(
            "The supports do not state the weights that they were selected from, so that chance is unknown. "
            "Give them: overlap(a, b, infos=model.weight_infos('matrices'))."
        )
    known = infos if infos is not None else stated.pop()
    shapes = {info.name: info.shape for info in known}
    for support in supports:
        for name, shape in support.shapes.items():
            if shapes.get(name) != shape:
                raise SelectionError(
                    f"The supports cannot be compared: {name} of shape {shape} is not among the eligible weights. "
                    "Compare supports of the same backbone and scope."
                )
    return known


def selected_in(support: Support, name: str) -> int:
    """Return the number of selected weights of a parameter."""
    return support.indices[name].numel() if name in support.indices else 0
