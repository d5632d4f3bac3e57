"""Seeded, stratified splits that keep groups together."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from shpeft.errors import DatasetError


def split_off(
    labels: Sequence[int], groups: Sequence[str], fraction: float, seed: int, classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Positions that stay, and positions that leave: about ``fraction`` of every class, whole groups only.

    Groups come in a seeded order, and one leaves when that brings the counts of its classes nearer to their targets.
    Every class is left on both sides.

    Raises:
        DatasetError: a class has too few cases or groups to stand on both sides.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    content = {group: Counter(labels[row] for row in rows) for group, rows in members.items()}
    totals = Counter(labels)
    need = {label: min(max(1, round(fraction * total)), total - 1) for label, total in totals.items()}
    names = sorted(members)
    order = [names[position] for position in np.random.default_rng([seed, 7]).permutation(len(names))]
    taken: Counter[int] = Counter()

    def leaves_some(group: str) -> bool:
        return all(taken[label] + count < totals[label] for label, count in content[group].items())

    leaving: set[str] = set()
    for group in order:
        before = sum(abs(need[label] - taken[label]) for label in content[group])
        after = sum(abs(need[label] - taken[label] - count) for label, count in content[group].items())
        if after < before and leaves_some(group):
            leaving.add(group)
            taken += content[group]
    for label in sorted(totals):  # a class of few large groups: its smallest one that leaves some of every class
        if taken[label] == 0:
            fitting = [group for group in order if content[group][label] and leaves_some(group)]
            if not fitting:
                raise DatasetError(_too_few(classes[label], totals[label], content, label))
            smallest = min(fitting, key=lambda group: len(members[group]))
            leaving.add(smallest)
            taken += content[smallest]
    rows = [row for group in leaving for row in members[group]]
    return sorted(set(range(len(labels))) - set(rows)), sorted(rows)


def _too_few(name: str, total: int, content: dict[str, Counter], label: int) -> str:
    found = sum(1 for counts in content.values() if counts[label])
    return (
        f"The class '{name}' has {total} usable image{'s' * (total != 1)} in {found} group{'s' * (found != 1)}; both"
        " sides of a split need at least one group of it. Add images of this class, or leave the class out."
    )
