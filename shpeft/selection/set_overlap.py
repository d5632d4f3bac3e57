"""Compare several supports: the sets they form, and the weights that all of them selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from shpeft.backbones import WeightInfo
from shpeft.errors import SelectionError
from shpeft.selection.overlap import Ints, Overlap, eligible_infos, overlap, selected_in
from shpeft.selection.top_k import Support

MAX_SUPPORTS = 60
"""Upper limit on supports that are compared at once: each has one bit of an int64."""


@dataclass(frozen=True)
class Intersection:
    """The weights that are in exactly these supports and in no other.

    Attributes:
        members: the supports' names.
        size: the number of these weights.
        chance: the number expected of random supports.
    """

    members: tuple[str, ...]
    size: int
    chance: float


@dataclass(frozen=True)
class CommonLayer:
    """The overlap of all supports within one parameter.

    Attributes:
        name, block, matrix: the parameter's; see ``WeightInfo``.
        eligible: the number of weights that may be selected.
        sizes: the number of weights in each support.
        common: the number of weights in all of them.
        chance: the number expected of random selections within the parameter.
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
    """A weight in every support; the column runs over all dimensions but the first."""

    name: str
    row: int
    column: int


@dataclass(frozen=True)
class Overlaps:
    """The overlap of several supports.

    Attributes:
        names: the supports' names.
        sizes: the number of weights in each.
        eligible: the number of weights that may be selected.
        pairs: the overlap of each two, by their names in the order of ``names``.
        intersections: all that are not empty, the largest first; they are disjoint.
        layers: the parameters of which any support has a weight.
        common: the weights in every support, in the model's order.
        chance: the number of common weights expected of random supports.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    eligible: int
    pairs: dict[tuple[str, str], Overlap]
    intersections: tuple[Intersection, ...]
    layers: tuple[CommonLayer, ...]
    common: tuple[CommonWeight, ...]
    chance: float

    def __repr__(self) -> str:
        return (
            f"Overlaps({len(self.names)} supports, {len(self.common):,} weights in all, "
            f"{self.chance:.3g} expected by chance)"
        )

    def block_shares(self) -> dict[str, tuple[float, ...]]:
        """Return for each block the share of each support's weights that lies in it, in the model's order."""
        blocks: dict[str, list[int]] = {}
        for layer in self.layers:
            sums = blocks.setdefault(layer.block, [0] * len(self.names))
            blocks[layer.block] = [a + b for a, b in zip(sums, layer.sizes, strict=True)]
        return {
            block: tuple(count / max(1, size) for count, size in zip(counts, self.sizes, strict=True))
            for block, counts in blocks.items()
        }

    def largest(self, most: int) -> tuple[list[Intersection], list[Intersection]]:
        """Return the largest intersections and the others; a single other one counts among the largest."""
        cut = most if len(self.intersections) > most + 1 else len(self.intersections)
        return list(self.intersections[:cut]), list(self.intersections[cut:])


def overlaps(supports: Mapping[str, Support], infos: tuple[WeightInfo, ...] | None = None) -> Overlaps:
    """Compare several supports of one backbone.

    Args:
        supports: two or more, by name.
        infos: the weights that were eligible for all; None: those that the supports state.

    Raises:
        SelectionError: fewer than two or more than ``MAX_SUPPORTS`` supports; or see ``overlap``.
    """
    if not 2 <= len(supports) <= MAX_SUPPORTS:
        raise SelectionError(
            f"{len(supports)} supports cannot be compared with each other. Give from 2 to {MAX_SUPPORTS}."
        )
    names, selected = tuple(supports), tuple(supports.values())
    infos = eligible_infos(selected, infos)
    every, sizes = (1 << len(names)) - 1, tuple(support.k for support in selected)
    counts: dict[int, int] = {}
    layers, common = [], list[CommonWeight]()
    for info in infos:
        flat, codes = _memberships(selected, info.name)
        for code, count in zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True):
            counts[code] = counts.get(code, 0) + count
        columns = info.numel // info.shape[0]
        shared = flat[codes == every]
        common += [CommonWeight(info.name, *divmod(index, columns)) for index in shared.tolist()]
        in_layer = tuple(selected_in(support, info.name) for support in selected)
        if any(in_layer):
            expected = _expected(info.numel, in_layer, (True,) * len(in_layer))
            layers.append(CommonLayer(info.name, info.block, info.matrix, info.numel, in_layer, len(shared), expected))
    eligible = sum(info.numel for info in infos)
    intersections = []
    for code, count in counts.items():
        inside = tuple(bool(code >> bit & 1) for bit in range(len(names)))
        members = tuple(name for name, is_in in zip(names, inside, strict=True) if is_in)
        intersections.append(Intersection(members, count, _expected(eligible, sizes, inside)))
    return Overlaps(
        names,
        sizes,
        eligible,
        {(a, b): overlap(supports[a], supports[b], infos) for a, b in combinations(names, 2)},
        tuple(sorted(intersections, key=lambda i: (-i.size, len(i.members), i.members))),
        tuple(layers),
        tuple(common),
        _expected(eligible, sizes, (True,) * len(names)),
    )


def _memberships(supports: Sequence[Support], name: str) -> tuple[Ints, Ints]:
    """Return the flat indices in a parameter that any support has, ascending, and a bit for each support with it."""
    held = [(bit, s.indices[name].numpy()) for bit, s in enumerate(supports) if name in s.indices]
    if not held:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    flat = np.unique(np.concatenate([index for _, index in held]))
    codes = np.zeros(len(flat), np.int64)
    for bit, index in held:
        codes[np.searchsorted(flat, index)] |= 1 << bit
    return flat, codes


def _expected(n: int, sizes: Sequence[int], inside: Sequence[bool]) -> float:
    """Return the expected number of n weights in exactly these of several random supports of the given sizes."""
    shares = np.array(sizes) / n
    return float(n * np.where(inside, shares, 1 - shares).prod())
