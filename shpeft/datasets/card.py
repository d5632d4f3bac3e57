"""What a dataset's card says besides its counts: sizes, and what a careful reader should know."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shpeft.datasets.base import Split

FEW = 20
"""Test images of a class below which its recall has an interval of some forty points and more."""

IMBALANCE = 5
"""How often the largest class may be the smallest one's size before it is said."""

PREDICTABLE = 0.15
"""How far above the largest class's share the image's size alone may tell the class before it is said."""


def cautions(splits: "Sequence[Split]") -> list[str]:
    """Sentences on classes that are too small to be measured, or much smaller than others."""
    train, _, test = splits
    found = []
    few = {name: count for name, count in test.counts().items() if count < FEW}
    if few:
        listed = ", ".join(f"'{name}' ({count})" for name, count in few.items())
        found.append(f"Fewer than {FEW} test images in {listed}: what is measured there is hardly known.")
    counts = train.counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] >= IMBALANCE * counts[smallest]:
        ratio = counts[largest] / max(1, counts[smallest])
        found.append(
            f"The classes are imbalanced: '{largest}' has {ratio:.0f} times the training images of '{smallest}'. Look "
            "at balanced accuracy and at each class's recall."
        )
    return found


def sizes(pixels: np.ndarray) -> dict[str, Any]:
    """Smallest, median and largest width and height of (N, 2) sizes."""
    return {
        side: {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}
        for side, values in (("width", pixels[:, 0]), ("height", pixels[:, 1]))
    }


def size_tells_class(pixels: np.ndarray, labels: np.ndarray) -> str | None:
    """A sentence when the image's size alone tells the class: a model could use that instead of the finding.

    For each size the most frequent class is guessed; sizes that occur once tell nothing.

    Args:
        pixels: (N, 2) widths and heights; labels: (N,) class numbers.
    """
    _, place, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    place = place.ravel()
    common = counts[place] > 1
    base = np.bincount(labels).max()
    right = sum(np.bincount(labels[place == size]).max() for size in np.unique(place[common]))
    right += np.bincount(labels[~common]).max() if (~common).any() else 0
    if right - base < PREDICTABLE * len(labels):
        return None
    return (
        f"The size of an image alone tells its class in {right / len(labels):.0%} of cases (the largest class is "
        f"{base / len(labels):.0%}): a possible shortcut. Bring all images to one size before they are read."
    )
