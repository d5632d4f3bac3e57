"""How many images of a dataset have text or markers burnt into them, and whether these give the class away."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from shpeft.datasets.base import Split
from shpeft.errors import UnreadableImage
from shpeft.images.burnt_in import Mark, find_marks
from shpeft.support.progress import Progress, silent

MOST = 60
"""Images of each class that are examined."""

MOST_IN_ALL = 400
"""Images that are examined."""

CHANCE = 0.01
"""Probability, over all classes together, of a warning where marks and classes have nothing to do with each other."""


@dataclass(frozen=True)
class MarkedImages:
    """What an examination of some images found.

    Attributes:
        examined, marked: by class, the number of images examined, and of those with text or markers.
        rows: positions of the marked images in the split, each with its marks.
        total: number of different images examined.
    """

    examined: dict[str, int]
    marked: dict[str, int]
    rows: tuple[tuple[int, tuple[Mark, ...]], ...]
    total: int

    @property
    def sentence(self) -> str:
        """How many images are marked, and what to check; empty if none is.

        Examples:
            >>> MarkedImages({"ill": 4, "well": 4}, {"ill": 1, "well": 0}, ((7, ()),), 8).sentence
            'Text or markers are visible in 1 of 8 images: check that they show no name and do not give the class away.'
        """
        if not self.rows:
            return ""
        return (
            f"Text or markers are visible in {len(self.rows):,} of {self.total:,} images: check that they show no name "
            "and do not give the class away."
        )

    @property
    def shortcut(self) -> str | None:
        """A warning if a class has marks more often or more rarely than the others, beyond chance (Fisher 1922)."""
        tests = {name: self._chance(name) for name in self.examined}
        name = min(tests, key=lambda each: (tests[each], -self.marked[each]))
        if tests[name] * len(tests) > CHANCE:
            return None
        marked, examined = self._others(name)
        return (
            f"Text or markers are visible in {self.marked[name]:,} of {self.examined[name]:,} images of '{name}' and "
            f"in {marked:,} of {examined:,} of the others: a possible shortcut. A model can learn the marks instead of "
            "the disease. Crop or cover them in all images, or take images without them."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the sentences for JSON."""
        sentences = [sentence for sentence in (self.sentence, self.shortcut) if sentence]
        return {"images": self.total, "marked": len(self.rows), "by_class": self.marked, "sentences": sentences}

    def _others(self, name: str) -> tuple[int, int]:
        """Return the marked and the examined images without this class."""
        return len(self.rows) - self.marked[name], self.total - self.examined[name]

    def _chance(self, name: str) -> float:
        marked, examined = self._others(name)
        own = [self.marked[name], self.examined[name] - self.marked[name]]
        return float(fisher_exact([own, [marked, examined - marked]]).pvalue)


def find_marked_images(split: Split, *, seconds: float = inf, progress: Progress = silent) -> MarkedImages:
    """Examine images of every class for text and markers; images that cannot be read any more are passed over.

    At most ``MOST`` images of a class are examined, spread evenly over the split, and ``MOST_IN_ALL`` in all.

    Args:
        split: the images.
        seconds: stop after this time, with equally many images of every class.
        progress: called with the number of images examined.

    Returns:
        The counts; ``sentence`` and ``shortcut`` say them to a reader.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:ultrasound?n=36&size=128")
        >>> find_marked_images(data.train).sentence
        ''
    """
    strata = split.task.strata(split.labels, split.classes)
    order = _order(strata, len(split.classes))
    until = time.monotonic() + seconds
    rows: list[tuple[int, tuple[Mark, ...]]] = []
    examined, marked = dict.fromkeys(split.classes, 0), dict.fromkeys(split.classes, 0)
    total = 0
    for number, position in enumerate(order):
        if time.monotonic() > until:
            break
        progress("Looking for text and markers", number, len(order))
        try:
            marks = find_marks(split.image(position))
        except UnreadableImage:
            continue
        total += 1
        for label in set(strata[position]) - {len(split.classes)}:  # no finding is no class
            examined[split.classes[label]] += 1
            marked[split.classes[label]] += bool(marks)
        if marks:
            rows.append((position, marks))
    return MarkedImages(examined, marked, tuple(rows), total)


def _order(strata: Sequence[Sequence[int]], classes: int) -> list[int]:
    """Return the positions to examine: of every class the first, then of every class the second, and so on."""
    turns: list[tuple[int, int]] = []
    for label in range(classes + 1):
        own = [position for position, labels in enumerate(strata) if label in labels]
        if not own:
            continue
        spread: np.ndarray = np.linspace(0, len(own) - 1, min(MOST, len(own))).round().astype(int)
        turns += [(turn, own[at]) for turn, at in enumerate(spread)]
    return list(dict.fromkeys(position for _, position in sorted(turns)))[:MOST_IN_ALL]
