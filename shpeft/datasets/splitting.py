"""Seeded, stratified splits that keep groups together."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from shpeft.errors import DatasetError

ORDERS = 20
"""Maximum number of random orders of the groups to try; with one case per group the first one fits exactly."""


def split_off(
    labels: Sequence[int | tuple[int, ...]], groups: Sequence[str], fraction: float, seed: int, classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Split off about ``fraction`` of every class, in whole groups; return the rows that stay and those split off.

    Groups are visited in a seeded order, and one is split off if that brings the counts of its classes nearer to the
    target. The result is the first order whose error is at most the largest group, or the best of ``ORDERS``. Every
    class is on both sides. The result depends on the names of the groups, not on the order of the cases.

    If the groups of a class hold no other class, its error is at most half of its largest group, or its smallest group
    is split off where all are larger than twice the target. If groups hold several classes, the total error is at most
    the largest group (in random trials, not by proof).

    Args:
        labels: class of each case, or the classes among which it counts.
        groups: group of each case.
        fraction: share to split off.
        seed: of the order.
        classes: names of the classes, for messages.

    Raises:
        DatasetError: a class has too few cases or groups to be on both sides.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    strata = [label if isinstance(label, tuple) else (label,) for label in labels]
    content = {group: Counter(label for row in rows for label in strata[row]) for group, rows in members.items()}
    totals = Counter(label for case in strata for label in case)
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
            best = min(best, (off, leaving), key=lambda candidate: candidate[0])
        if best[0] <= largest:
            break
    if not best[1]:
        raise DatasetError(_too_few(classes, totals, content))
    rows = [row for group in best[1] for row in members[group]]
    return sorted(set(range(len(labels))) - set(rows)), sorted(rows)


def _leaving(
    order: Sequence[str], content: Mapping[str, Counter[int]], totals: Counter[int], need: Mapping[int, int]
) -> list[str]:
    """Return the groups to split off in this order; some class may be missing if groups hold several classes."""
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
    group_counts = {label: sum(1 for counts in content.values() if counts[label]) for label in totals}
    label = min(sorted(group_counts), key=lambda label: group_counts[label])
    total, many = totals[label], group_counts[label]
    name = classes[label] if label < len(classes) else "no finding"
    said = f"The class '{name}' has {total} usable image{'s' * (total != 1)} in {many} group{'s' * (many != 1)}"
    if many > 1:
        return (
            f"{said}, which also contain other classes, and no split into whole groups was found that has every"
            " class on both sides. Add images of more patients or groups."
        )
    return (
        f"{said}; both sides of a split need at least one group of it. Add images of this class, or leave the class"
        " out."
    )
