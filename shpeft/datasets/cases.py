"""Readable images before they are split: copies leave, leakage is dealt with, look-alikes become a group."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shpeft.datasets.duplicates import clusters
from shpeft.datasets.layout import Found
from shpeft.datasets.leakage import Handling, crossings, left_out, record, refusal, sentences
from shpeft.errors import Leakage


@dataclass(frozen=True)
class Case:
    """One readable image of the folder; ``id`` is made of its ``content``, the file's SHA-256."""

    found: Found
    id: str
    group: str
    look: np.ndarray
    size: tuple[int, int]
    content: bytes


def without_copies(cases: Sequence[Case], warnings: list[str]) -> list[Case]:
    """One case for each content within a split; a content under two labels is dropped altogether."""
    labels: dict[str, set[str]] = {}
    for case in cases:
        labels.setdefault(case.id, set()).add(case.found.label)
    agreed = [case for case in cases if len(labels[case.id]) == 1]
    kept = list({(case.found.split, case.id): case for case in reversed(agreed)}.values())[::-1]
    if len(agreed) < len(cases):
        warnings.append(f"{len(cases) - len(agreed)} images stand under two labels with the same content; left out.")
    if len(kept) < len(agreed):
        warnings.append(f"{len(agreed) - len(kept)} images are exact copies of others in their split; left out.")
    return kept


def without_leakage(
    cases: Sequence[Case], pairs: np.ndarray, leakage: Handling, warnings: list[str]
) -> tuple[list[Case], np.ndarray, dict[str, Any]]:
    """The cases that stay, the pairs among them, and what the card says of cases in several given splits.

    Args:
        pairs: (M, 2) positions of cases that look the same.
        warnings: gains what is found.

    Raises:
        Leakage: there is some and it is to be refused, or without it nothing is left of a class.
    """
    ids = [case.id for case in cases]
    found = crossings([case.found.split for case in cases], ids, [case.group for case in cases], pairs)
    if found and leakage == "refuse":
        raise refusal(found, ids, [case.found.name for case in cases])
    warnings += sentences(found, leakage)
    stays = np.ones(len(cases), dtype=bool)
    if leakage == "drop":
        stays[list(left_out(found))] = False
    kept = [case for case, stay in zip(cases, stays, strict=True) if stay]
    _check_left(cases, kept)
    return kept, (np.cumsum(stays) - 1)[pairs[stays[pairs].all(1)]], record(found, ids, leakage)


def _check_left(cases: Sequence[Case], kept: Sequence[Case]) -> None:
    """Every class keeps an image in every split where it had one."""
    left = Counter((case.found.split, case.found.label) for case in kept)
    for split, name in sorted({(case.found.split, case.found.label) for case in cases}):
        if not left[split, name]:
            raise Leakage(
                f"Every image of the class '{name}' in {split}, or its patient, or a look-alike, also stands in a"
                " later split: leaving out all of them leaves nothing of the class. Set leakage to 'report', or make"
                " other splits."
            )


def joined(cases: Sequence[Case], pairs: np.ndarray) -> list[Case]:
    """The cases, those that look the same made one group, so that a split that is drawn keeps them on one side.

    Two cases whose groups are both known stay apart: the patient's name knows better than the eye.
    """
    alone = np.array([case.group == case.id for case in cases])
    pairs = pairs[alone[pairs].any(1)]
    first_of: dict[str, int] = {}
    links = [(first_of.setdefault(case.group, row), row) for row, case in enumerate(cases)]
    members = clusters(len(cases), np.concatenate([pairs, links])).tolist()
    changed = {members[row] for row in pairs[:, 0]}
    first = {number: cases[row].id for row, number in reversed(list(enumerate(members)))}
    # a group of each given split: across two of them, leakage has been dealt with
    return [
        replace(case, group=opaque(f"{case.found.split} {first[number]}")) if number in changed else case
        for case, number in zip(cases, members, strict=True)
    ]


def opaque(group: str) -> str:
    """A group's name may be a patient's: only its digest is kept."""
    return hashlib.sha256(group.encode()).hexdigest()[:12]
