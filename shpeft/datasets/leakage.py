"""Cases that stand on both sides of given splits: found, and reported, left out or refused."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shpeft.errors import Leakage, named

Handling = Literal["report", "drop", "refuse"]
"""Say it and go on, leave out the twin that is nearer to training, or refuse the dataset."""

ORDER = ("train", "val", "test")

KINDS = {
    "copy": ("image", "images", "the same image"),
    "group": ("patient or group", "patients or groups", "of the same group"),
    "look-alike": ("pair of images that look the same", "pairs of images that look the same", "alike to the eye"),
}
"""What is counted, one and many, and what is said of two such cases."""


@dataclass(frozen=True)
class Crossing:
    """Cases of two given splits that do not belong on both sides.

    Attributes:
        kind: one of ``KINDS``.
        splits: the two splits, the one nearer to training first.
        rows: positions of a case in each.
        left_out: positions in the first split that are left out where leakage is dropped.
    """

    kind: str
    splits: tuple[str, str]
    rows: tuple[int, int]
    left_out: tuple[int, ...]


def crossings(
    splits: Sequence[str], ids: Sequence[str], groups: Sequence[str], pairs: np.ndarray | Sequence[Sequence[int]]
) -> list[Crossing]:
    """Every content, and every group, that stands in two splits; and pairs that look the same across two.

    Args:
        splits: train, val or test for each case; ids: equal for equal content; groups: the id where none is known.
        pairs: (M, 2) positions of cases that look the same.
    """
    known = [row for row in range(len(ids)) if groups[row] != ids[row]]
    found = _shared("copy", splits, ids, range(len(ids))) + _shared("group", splits, groups, known)
    for pair in pairs:
        a, b = sorted((int(row) for row in pair), key=lambda row: ORDER.index(splits[row]))
        if splits[a] != splits[b] and ids[a] != ids[b]:
            found.append(Crossing("look-alike", (splits[a], splits[b]), (a, b), (a,)))
    return found


def _shared(kind: str, splits: Sequence[str], keys: Sequence[str], rows: Iterable[int]) -> list[Crossing]:
    """A crossing for each key and each two splits that it stands in."""
    homes: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for row in rows:
        homes[keys[row]].setdefault(splits[row], []).append(row)
    found = []
    for home in homes.values():
        present = [split for split in ORDER if split in home]
        for place, first in enumerate(present):
            for second in present[place + 1 :]:
                rows_of = (home[first][0], home[second][0])
                found.append(Crossing(kind, (first, second), rows_of, tuple(home[first])))
    return found


def left_out(found: Sequence[Crossing]) -> set[int]:
    """The positions that leave where leakage is dropped: never one of the last split, so the test stays as given."""
    return {row for crossing in found for row in crossing.left_out}


def sentences(found: Sequence[Crossing], leakage: Handling) -> list[str]:
    """What is in several splits, a sentence for each kind and two splits, and how it was dealt with."""
    counts = Counter((crossing.kind, crossing.splits) for crossing in found)
    said = []
    for (kind, (first, second)), number in counts.items():
        one, many, _ = KINDS[kind]
        words = f"{number:,} {one} stands" if number == 1 else f"{number:,} {many} stand"
        effect = "" if leakage == "drop" else f": what is measured on {second} may be flattered"
        said.append(f"{words} in both {first} and {second}, as these splits were given{effect}.")
    if said and leakage == "drop":
        number = len(left_out(found))
        said.append(
            f"{number:,} {'image' if number == 1 else 'images'} nearer to training left out, so that none of them is "
            "on both sides; the test images stay as given."
        )
    return said


def refusal(found: Sequence[Crossing], ids: Sequence[str], names: Sequence[str]) -> Leakage:
    """Why a dataset is refused, by opaque ids, and what to do; notes name the files, which no run stores."""
    first = found[0]
    a, b = (ids[row] for row in first.rows)
    cases = f"Two files of the case {a}" if a == b else f"The cases {a} and {b}"
    more = f" There are {len(found):,} such findings." if len(found) > 1 else ""
    error = Leakage(
        f"{cases} are {KINDS[first.kind][2]}, but stand in {first.splits[0]} and {first.splits[1]}: the test would be "
        f"flattered.{more} Move or remove one of them, or set leakage to 'drop' to train without the twins, or to "
        "'report' to go on with them."
    )
    pairs = [(crossing, [names[row] for row in crossing.rows]) for crossing in found]
    return named(error, [(f"{one} and {other}", KINDS[crossing.kind][2]) for crossing, (one, other) in pairs])


def record(found: Sequence[Crossing], ids: Sequence[str], leakage: Handling) -> dict[str, Any]:
    """For the card: how leakage was dealt with, how many images left, and a row for each finding, by opaque ids."""
    return {
        "handling": leakage,
        "left_out": len(left_out(found)) if leakage == "drop" else 0,
        "pairs": [[crossing.kind, *crossing.splits, *(ids[row] for row in crossing.rows)] for crossing in found],
    }
