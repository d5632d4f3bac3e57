"""Prepare readable images for splitting: drop copies, handle leakage, group look-alikes."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shpeft.config.schema import OnLeakage
from shpeft.datasets.discover import ImageFile, natural
from shpeft.datasets.duplicates import clusters
from shpeft.datasets.leakage import crossings, left_out, record, refusal, sentences
from shpeft.errors import Leakage
from shpeft.tasks import SINGLE_LABEL, Task


@dataclass(frozen=True)
class Case:
    """A readable image; ``id`` derives from ``content``, the SHA-256 of the file."""

    file: ImageFile
    id: str
    group: str
    look: np.ndarray
    size: tuple[int, int]
    content: bytes


def without_copies(
    cases: Sequence[Case], warnings: list[str], contradictory: list[list[str]] | None = None
) -> list[Case]:
    """Return one case per content and split, without contents that have two labels.

    Args:
        cases: of all splits.
        warnings: sentences are appended.
        contradictory: receives the names of the files of each content with two labels, and the reason.
    """
    labels: dict[str, set[str]] = {}
    for case in cases:
        labels.setdefault(case.id, set()).add(case.file.label)
    agreed = [case for case in cases if len(labels[case.id]) == 1]
    remaining = list({(case.file.split, case.id): case for case in reversed(agreed)}.values())[::-1]
    if len(agreed) < len(cases):
        twice = {id: sorted(names, key=natural) for id, names in labels.items() if len(names) > 1}
        pairs = sorted({" and ".join(f"'{name}'" for name in names) for names in twice.values()})
        few = len(twice) == 1
        warnings.append(
            f"{len(twice):,} image{'s' * (not few)} stand{'s' * few} under two labels with the same content "
            f"({'; '.join(pairs[:5])}): all {len(cases) - len(agreed):,} files left out."
        )
        for id, names in twice.items() if contradictory is not None else ():
            files = [case.file.name for case in cases if case.id == id]
            contradictory.append([" and ".join(files), f"the same image under {' and '.join(names)}"])  # type: ignore[union-attr]
    if len(remaining) < len(agreed):
        warnings.append(f"{len(agreed) - len(remaining)} images are exact copies of others in their split; left out.")
    return remaining


def without_leakage(
    cases: Sequence[Case], pairs: np.ndarray, leakage: OnLeakage, warnings: list[str], task: Task = SINGLE_LABEL
) -> tuple[list[Case], np.ndarray, dict[str, Any]]:
    """Handle cases in several given splits; return the remaining cases, their pairs, and the card's entry.

    Args:
        cases: of all splits.
        pairs: (M, 2) rows of cases that look the same.
        leakage: how to handle it.
        warnings: sentences are appended.
        task: what the labels are.

    Raises:
        Leakage: there is leakage and it is refused, or dropping it leaves a class without images.
    """
    ids = [case.id for case in cases]
    crossed = crossings([case.file.split for case in cases], ids, [case.group for case in cases], pairs)
    if crossed and leakage == "refuse":
        raise refusal(crossed, ids, [case.file.name for case in cases])
    warnings += sentences(crossed, leakage)
    stays = np.ones(len(cases), dtype=bool)
    if leakage == "drop":
        stays[list(left_out(crossed))] = False
    remaining = [case for case, stay in zip(cases, stays, strict=True) if stay]
    _check_left(cases, remaining, task)
    return remaining, (np.cumsum(stays) - 1)[pairs[stays[pairs].all(1)]], record(crossed, ids, leakage)


def _check_left(cases: Sequence[Case], remaining: Sequence[Case], task: Task) -> None:
    """Check that every class has an image left in every split where it had one."""
    left = Counter((case.file.split, part) for case in remaining for part in task.parts(case.file.label))
    for split, name in sorted({(case.file.split, part) for case in cases for part in task.parts(case.file.label)}):
        if not left[split, name]:
            raise Leakage(
                f"Every image of the class '{name}' in {split}, or its patient, or a look-alike, also occurs in"
                " a later split: removing them would leave the class empty. Set leakage to 'report', or make"
                " other splits."
            )


def joined(cases: Sequence[Case], pairs: np.ndarray) -> list[Case]:
    """Return the cases with look-alikes merged into one group, so that a drawn split keeps them together.

    Two cases whose groups are both known are not merged: known patients are more reliable than similar looks.
    """
    alone = np.array([case.group == case.id for case in cases])
    pairs = pairs[alone[pairs].any(1)]
    first_of: dict[str, int] = {}
    links = [(first_of.setdefault(case.group, row), row) for row, case in enumerate(cases)]
    members = clusters(len(cases), np.concatenate([pairs, links])).tolist()
    changed = {members[row] for row in pairs[:, 0]}
    first = {number: cases[row].id for row, number in reversed(list(enumerate(members)))}
    # one group per given split: leakage between given splits has been handled before
    return [
        replace(case, group=opaque(f"{case.file.split} {first[number]}")) if number in changed else case
        for case, number in zip(cases, members, strict=True)
    ]


def opaque(group: str) -> str:
    """Return a pseudonym for a group, whose name may be a patient's."""
    return hashlib.sha256(group.encode()).hexdigest()[:12]
