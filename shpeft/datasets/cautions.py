"""Warnings for a dataset's card: small classes, imbalance, and image sizes that reveal the class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shpeft.tasks import SINGLE_LABEL, Regression, SingleLabel, Task

FEW = 20
"""Test images of a class below which the confidence interval of its recall is 40 percentage points wide or more."""

IMBALANCE = 5
"""Ratio of the largest to the smallest class from which on the card warns."""

PREDICTABLE = 0.15
"""Accuracy above the largest class's share that image size alone may reach before the card warns."""


def cautions(train: Mapping[str, int], test: Mapping[str, int], task: Task = SINGLE_LABEL) -> list[str]:
    """Return sentences on classes that are too small to be measured, or much smaller than others.

    Args:
        train: number of training images of each class.
        test: number of test images of each class.
        task: what the labels are.
    """
    sentences = []
    few = {name: count for name, count in test.items() if count < FEW}
    if isinstance(task, Regression):
        count = sum(test.values())
        return [f"There are {count} test images, fewer than {FEW}: the results are very uncertain."] * bool(few)
    if few:
        listed = ", ".join(f"'{name}' ({count})" for name, count in few.items())
        sentences.append(f"Fewer than {FEW} test images in {listed}: results for such a class are very uncertain.")
    if not isinstance(task, SingleLabel):
        return sentences
    largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    if train[largest] >= IMBALANCE * train[smallest]:
        ratio = train[largest] / max(1, train[smallest])
        sentences.append(
            f"The classes are imbalanced: '{largest}' has {ratio:.0f} times the training images of '{smallest}'. Look "
            "at balanced accuracy and at each class's recall."
        )
    return sentences


def numbers(labels: Sequence[float]) -> dict[str, float]:
    """Return minimum, median, maximum, mean and standard deviation of the numbers of a regression."""
    if not len(labels):
        return dict.fromkeys(("min", "median", "max", "mean", "sd"), float("nan"))
    values = np.asarray(labels, dtype=np.float64)
    middle, mean, deviation = np.median(values), values.mean(), values.std()
    return {
        "min": float(values.min()),
        "median": float(middle),
        "max": float(values.max()),
        "mean": float(mean),
        "sd": float(deviation),
    }


def sizes(pixels: np.ndarray) -> dict[str, Any]:
    """Return the smallest, median and largest width and height.

    Args:
        pixels: (N, 2) widths and heights in pixels.
    """
    return {
        side: {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}
        for side, values in (("width", pixels[:, 0]), ("height", pixels[:, 1]))
    }


def size_reveals_class(pixels: np.ndarray, labels: np.ndarray) -> str | None:
    """Return a warning if image size alone predicts the class: a model could use it as a shortcut.

    The prediction for a size is its most frequent class. Sizes that occur once predict nothing.

    Args:
        pixels: (N, 2) widths and heights in pixels.
        labels: (N,) class numbers.
    """
    _, size_of, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    size_of = size_of.ravel()
    repeated = counts[size_of] > 1
    base = np.bincount(labels).max()
    right = sum(np.bincount(labels[size_of == size]).max() for size in np.unique(size_of[repeated]))
    right += np.bincount(labels[~repeated]).max() if (~repeated).any() else 0
    if right - base < PREDICTABLE * len(labels):
        return None
    return (
        f"The size of an image alone predicts its class in {right / len(labels):.0%} of cases (the largest class is "
        f"{base / len(labels):.0%}): a possible shortcut. Bring all images to the same size first."
    )
