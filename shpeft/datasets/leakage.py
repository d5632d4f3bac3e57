"""Leakage between given splits: detect it, and report, drop or refuse the affected cases."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shpeft.config.schema import OnLeakage
from shpeft.errors import Leakage, with_file_notes

ORDER = ("train", "val", "test")

KINDS = {
    "copy": ("image", "images", "the same image"),
    "group": ("patient or group", "patients or groups", "of the same group"),
    "look-alike": ("pair of images that look the same", "pairs of images that look the same", "alike to the eye"),
}
"""For each kind: its name in singular and plural, and a phrase for two such cases."""


@dataclass(frozen=True)
class Crossing:
    """Related cases that are in two given splits.

    Attributes:
        kind: one of ``KINDS``.
        splits: the two splits, the one nearer to training first.
        rows: the row of one case in each split.
        left_out: the rows of the first split to drop.
    """

    kind: str
    splits: tuple[str, str]
    rows: tuple[int, int]
    left_out: tuple[int, ...]


def crossings(
    splits: Sequence[str], ids: Sequence[str], groups: Sequence[str], pairs: np.ndarray | Sequence[Sequence[int]]
) -> list[Crossing]:
    """Return every image, group and pair of look-alikes that is in two splits.

    Args:
        splits: train, val or test for each case.
        ids: equal for equal content.
        groups: the group of each case; its id if no group is known.
        pairs: (M, 2) rows of cases that look the same.
    """
    known = [row for row in range(len(ids)) if groups[row] != ids[row]]
    crossed = _shared("copy", splits, ids, range(len(ids))) + _shared("group", splits, groups, known)
    codes = np.unique(np.asarray(splits), return_inverse=True)[1]
    couples = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    for pair in couples[codes[couples[:, 0]] != codes[couples[:, 1]]]:  # few of millions of pairs, if many look alike
        a, b = sorted((int(row) for row in pair), key=lambda row: ORDER.index(splits[row]))
        if ids[a] != ids[b]:
            crossed.append(Crossing("look-alike", (splits[a], splits[b]), (a, b), (a,)))
    return crossed


def _shared(kind: str, splits: Sequence[str], keys: Sequence[str], rows: Iterable[int]) -> list[Crossing]:
    """Return a crossing for each key and each pair of splits that contains it."""
    homes: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for row in rows:
        homes[keys[row]].setdefault(splits[row], []).append(row)
    crossed = []
    for home in homes.values():
        present = [split for split in ORDER if split in home]
        for position, first in enumerate(present):
            for second in present[position + 1 :]:
                rows_of = (home[first][0], home[second][0])
                crossed.append(Crossing(kind, (first, second), rows_of, tuple(home[first])))
    return crossed


def left_out(crossed: Sequence[Crossing]) -> set[int]:
    """Return the rows to drop; none is of the last split, so the test split stays as given."""
    return {row for crossing in crossed for row in crossing.left_out}


def sentences(crossed: Sequence[Crossing], leakage: OnLeakage) -> list[str]:
    """Return a sentence for each kind and pair of splits, and one that says what was done."""
    counts = Counter((crossing.kind, crossing.splits) for crossing in crossed)
    said = []
    for (kind, (first, second)), number in counts.items():
        single, many, _ = KINDS[kind]
        subject = f"{number:,} {single} stands" if number == 1 else f"{number:,} {many} stand"
        effect = "" if leakage == "drop" else f": what is measured on {second} may be flattered"
        said.append(f"{subject} in both {first} and {second}, as these splits were given{effect}.")
    if said and leakage == "drop":
        number = len(left_out(crossed))
        said.append(
            f"{number:,} {'image' if number == 1 else 'images'} nearer to training left out, so that none of them is "
            "on both sides; the test images stay as given."
        )
    return said


def refusal(crossed: Sequence[Crossing], ids: Sequence[str], names: Sequence[str]) -> Leakage:
    """Return the error that refuses a dataset; its message has pseudonyms, its notes the file names."""
    first = crossed[0]
    a, b = (ids[row] for row in first.rows)
    cases = f"Two files of the case {a}" if a == b else f"The cases {a} and {b}"
    more = f" There are {len(crossed):,} such findings." if len(crossed) > 1 else ""
    error = Leakage(
        f"{cases} are {KINDS[first.kind][2]}, but belong to {first.splits[0]} and {first.splits[1]}: the test would be "
        f"too optimistic.{more} Move or remove one of them, or set leakage to 'drop' to train without the copies, or "
        "to 'report' to keep them."
    )
    pairs = [(crossing, [names[row] for row in crossing.rows]) for crossing in crossed]
    return with_file_notes(error, [(f"{a} and {b}", KINDS[crossing.kind][2]) for crossing, (a, b) in pairs])


def record(crossed: Sequence[Crossing], ids: Sequence[str], leakage: OnLeakage) -> dict[str, Any]:
    """Return the card's entry: the handling, the number of dropped images, and all crossings by pseudonyms."""
    return {
        "handling": leakage,
        "left_out": len(left_out(crossed)) if leakage == "drop" else 0,
        "pairs": [[crossing.kind, *crossing.splits, *(ids[row] for row in crossing.rows)] for crossing in crossed],
    }
