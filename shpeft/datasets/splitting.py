"""Seeded, stratified splits that keep groups together."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from shpeft.errors import DatasetError

ORDERS = 20
"""Orders of the groups that are tried, until one fits. Where every group is one case, the first one fits exactly."""


def split_off(
    labels: Sequence[int], groups: Sequence[str], fraction: float, seed: int, classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Positions that stay, and positions that leave: about ``fraction`` of every class, whole groups only.

    Groups come in a seeded order, and one leaves when that brings the counts of its classes nearer to what is wanted.
    The first order that comes as near as the largest group is kept, or the nearest of ``ORDERS``. Every class is left
    on both sides. The order of the cases does not matter, only what their groups are called.

    Of a class whose groups hold no other class, what leaves is off by at most half of its largest group, or is its
    smallest group where all are more than twice what is wanted. Where groups hold several classes, all that leaves is
    off by at most the largest group (in random trials, not by proof).

    Raises:
        DatasetError: a class has too few cases or groups to stand on both sides.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    content = {group: Counter(labels[row] for row in rows) for group, rows in members.items()}
    totals = Counter(labels)
    need = {label: min(max(1, round(fraction * total)), total - 1) for label, total in totals.items()}
    names, largest = sorted(members), max(map(len, members.values()))
    rng = np.random.default_rng([seed, 7])
    best: tuple[float, list[str]] = (np.inf, [])
    for _ in range(ORDERS):
        order = [names[position] for position in rng.permutation(len(names))]
        leaving = _leaving(order, content, totals, need)
        taken = sum((content[group] for group in leaving), Counter())
        if all(0 < taken[label] < total for label, total in totals.items()):
            off = sum(abs(need[label] - taken[label]) for label in totals)
            best = min(best, (off, leaving), key=lambda found: found[0])
        if best[0] <= largest:
            break
    if not best[1]:
        raise DatasetError(_too_few(classes, totals, content))
    rows = [row for group in best[1] for row in members[group]]
    return sorted(set(range(len(labels))) - set(rows)), sorted(rows)


def _leaving(
    order: Sequence[str], content: Mapping[str, Counter[int]], totals: Counter[int], need: Mapping[int, int]
) -> list[str]:
    """The groups that leave when they are asked in this order; a class may be left out where groups are entangled."""
    taken: Counter[int] = Counter()

    def leaves_some(group: str) -> bool:
        return all(taken[label] + count < totals[label] for label, count in content[group].items())

    leaving: list[str] = []
    for group in order:
        before = sum(abs(need[label] - taken[label]) for label in content[group])
        after = sum(abs(need[label] - taken[label] - count) for label, count in content[group].items())
        if after < before and leaves_some(group):
            leaving.append(group)
            taken += content[group]
    for label in sorted(totals):  # a class of few large groups: its smallest one that leaves some of every class
        fitting = [group for group in order if content[group][label] and leaves_some(group)]
        if taken[label] == 0 and fitting:
            leaving.append(min(fitting, key=lambda group: content[group].total()))
            taken += content[leaving[-1]]
    return leaving


def _too_few(classes: Sequence[str], totals: Counter[int], content: Mapping[str, Counter[int]]) -> str:
    found = {label: sum(1 for counts in content.values() if counts[label]) for label in totals}
    label = min(sorted(found), key=lambda label: found[label])
    total, many = totals[label], found[label]
    said = (
        f"The class '{classes[label]}' has {total} usable image{'s' * (total != 1)} in {many} group{'s' * (many != 1)}"
    )
    if many > 1:
        return (
            f"{said}, which hold other classes too, and no way was found to put whole groups on both sides of a split"
            " with every class on each. Add images of more patients or groups."
        )
    return (
        f"{said}; both sides of a split need at least one group of it. Add images of this class, or leave the class"
        " out."
    )
