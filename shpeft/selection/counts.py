"""Select so many weights of each parameter: how many a parameter gets is decided before which ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from shpeft import equations
from shpeft.errors import SelectionError
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import Support, check_budget, select


def apportion(shares: Sequence[float], sizes: Sequence[int], k: int) -> list[int]:
    """Divide k weights among parameters in proportion to their shares, by the method of the largest remainder.

    A parameter whose part would exceed its size gets its size, and the others divide the rest. Each part is rounded
    down; the weights that are left go to the largest remainders, of equal ones to the earlier. Computed in fractions,
    so that no rounding decides. Of two parameters, the one with the larger share gets no fewer weights, if it is not
    the smaller one. A larger k may take a weight away from a parameter (the Alabama paradox).

    Args:
        shares: of the parameters, finite and not negative; where all that is left are 0, they count as equal.
        sizes: the number of weights that a parameter has.
        k: from 0 to the sum of the sizes.

    Returns:
        the number of weights of each parameter, with the sum k.

    Raises:
        ValueError: k is negative, or larger than the sum of the sizes.

    Examples:
        >>> apportion([1, 1, 2], [100, 100, 100], 10)  # 2.5, 2.5 and 5
        [3, 2, 5]
        >>> apportion([1, 1, 2], [100, 100, 4], 10)
        [3, 3, 4]
    """
    if not 0 <= k <= sum(sizes):
        raise ValueError(f"{k} weights cannot be divided among parameters with {sum(sizes)}")
    exact, rest, free = [Fraction(size) for size in sizes], Fraction(k), list(range(len(sizes)))
    while free:
        parts = [Fraction(shares[at]) for at in free]
        parts = parts if any(parts) else [Fraction(1)] * len(free)
        parts = [rest * part / sum(parts) for part in parts]
        full = {at for at, part in zip(free, parts, strict=True) if part >= sizes[at]}
        if not full:
            for at, part in zip(free, parts, strict=True):
                exact[at] = part
            break
        rest -= sum(sizes[at] for at in full)
        free = [at for at in free if at not in full]
    counts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda at: counts[at] - exact[at])
    for at in by_remainder[: k - sum(counts)]:
        counts[at] += 1
    return counts


def counts_by_importance(scores: Scores, budget: int | float, b: float) -> dict[str, int]:
    """Return how many weights each parameter gets, in proportion to the sum of its scores to the power b.

    Args:
        scores: none of them negative.
        budget: a share of all backbone weights, or a count; see ``select``.
        b: see ``equations.count_shares``.

    Raises:
        SelectionError: scores that are negative or not finite, or more weights than are eligible.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> counts = counts_by_importance(scores, 100, b=0.0)
        >>> sorted(set(counts.values())), sum(counts.values())
        ([8, 9], 100)
    """
    k = check_budget(budget, scores.eligible, scores.total)
    sums = torch.tensor([_sum(scores.values[info.name], info.name) for info in scores.infos], dtype=torch.float64)
    counts = apportion(equations.count_shares(sums, b).tolist(), [info.numel for info in scores.infos], k)
    return {info.name: count for info, count in zip(scores.infos, counts, strict=True)}


def _sum(values: Tensor, name: str) -> float:
    total = float(values.sum(dtype=torch.float64))
    if not math.isfinite(total) or float(values.min()) < 0:
        raise SelectionError(
            f"The scores of {name} have the sum {total:g} and the minimum {float(values.min()):g}. Counts in "
            "proportion to sums need scores that are finite and not negative: score in float32, or leave counts out."
        )
    return total


def select_by_counts(scores: Scores, counts: Mapping[str, int]) -> Support:
    """Select the weights with the largest scores of each parameter, as many as it is given.

    Args:
        counts: by parameter; a parameter that is missing, or has 0, gets none.

    Raises:
        SelectionError: more weights than a parameter has, or scores that are not numbers.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> select_by_counts(scores, {"blocks.3.attn.qkv.weight": 2, "blocks.5.mlp.fc2.weight": 3})
        Support(5 of 300.1K weights in 2 parameters)
    """
    selected = [info for info in scores.infos if counts.get(info.name)]
    indices: dict[str, Tensor] = {}
    for info in selected:
        own = replace(scores, values={info.name: scores.values[info.name]}, infos=(info,))
        indices |= select(own, counts[info.name]).indices
    return Support(indices, {info.name: info.shape for info in selected}, scores.total, scores.infos)
