"""One class for each case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shpeft.tasks.base import Reduction, Task


@dataclass(frozen=True)
class SingleLabel(Task):
    """One class for each case: softmax and cross-entropy. A label is a position in the classes.

    Examples:
        >>> task = SingleLabel()
        >>> task.counts([0, 1, 1], ("healthy", "ill"))
        {'healthy': 1, 'ill': 2}
    """

    name = "single-label"
    label_column = "label"

    def target(self, labels: Sequence[int]) -> Tensor:
        """Return the labels, int64 (B,)."""
        return torch.tensor(labels, dtype=torch.int64)

    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the cross-entropy in nats."""
        return cross_entropy(logits, target, reduction=reduction)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax."""
        return logits.double().softmax(-1)

    def counts(self, labels: Sequence[int], classes: Sequence[str]) -> dict[str, int]:
        """Return the number of cases of each class."""
        numbers = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(classes))
        return {name: int(count) for name, count in zip(classes, numbers, strict=True)}

    def renumbered(self, labels: Sequence[int], before: Sequence[str], after: Sequence[str]) -> tuple[int, ...]:
        """Return the positions in the other order."""
        return tuple(after.index(before[label]) for label in labels)

    def strata(self, labels: Sequence[int], classes: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the class of each case."""
        return [(label,) for label in labels]

    def parse(self, text: str, classes: Sequence[str]) -> int:
        """Return the position of a class's name."""
        return list(classes).index(text)

    def text(self, label: int, classes: Sequence[str]) -> str:
        """Return the class's name."""
        return classes[int(label)]


SINGLE_LABEL = SingleLabel()
"""The task of a dataset that names none."""
