"""Ordered classes, such as grades."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from shpeft.tasks.base import Reduction, Task
from shpeft.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class Ordinal(SingleLabel):
    """One class of several in an order: softmax, and a loss that grows with the distance from the true class.

    Everything else is as for single labels: a probability for each class, thresholds, prediction sets.

    Attributes:
        decision: ``median`` decides on the first class with P(y ≤ k) ≥ ½, which has the lowest expected distance from
            the true class (as CORAL decides, Cao et al. 2020); ``mode`` on the most probable one, as runs of earlier
            versions do.

    Examples:
        >>> p = np.array([[0.4, 0.25, 0.35]])
        >>> Ordinal("median").decide(p).tolist(), Ordinal("mode").decide(p).tolist()
        ([1], [0])
        >>> task, target = Ordinal(), Ordinal().target([0])
        >>> near, far = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0]])
        >>> bool(task.loss(near, target) < task.loss(far, target))  # their cross-entropies are equal
        True
    """

    name = "ordinal"
    label_column = "grade"

    decision: Literal["mode", "median"] = "mode"

    @property
    def column(self) -> str:
        """The title of the labels in ``predictions.csv``, with the decision where it is not the mode."""
        return self.label_column if self.decision == "mode" else f"{self.label_column} [{self.decision}]"

    @classmethod
    def of_column(cls, title: str) -> "Ordinal":
        """Return the task of such a title."""
        return cls("median" if title == cls("median").column else "mode")

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return (N,) the class that is decided on without a threshold, of (N, C)."""
        if self.decision == "mode":
            return super().decide(probabilities)
        below: NDArray[np.int64] = (probabilities.cumsum(1)[:, :-1] < 0.5).sum(1)
        return below

    def means_the_same(self, other: Task) -> bool:
        """Return whether logits of this task mean the same: decisions may differ."""
        return isinstance(other, Ordinal)

    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction | Literal["none"] = "mean") -> Tensor:
        """Return the cumulative cross-entropy in nats: −Σ_k log P(whether y ≤ k), over the C − 1 cuts between classes.

        P(y ≤ k) is the sum of the softmax up to class k; computed as differences of log-sum-exp, so that no probability
        is rounded to 0. It is the logarithmic form of the ranked probability score, and proper.
        """
        log_p = logits.log_softmax(1)
        below = log_p.logcumsumexp(1)[:, :-1]  # log P(y ≤ k)
        above = log_p.flip(1).logcumsumexp(1).flip(1)[:, 1:]  # log P(y > k)
        reached = one_hot(target, logits.shape[1]).cumsum(1)[:, :-1].bool()  # y ≤ k
        cases = -torch.where(reached, below, above).sum(1)
        if reduction == "none":
            return cases
        return cases.mean() if reduction == "mean" else cases.sum()


ORDINAL = Ordinal("median")
"""The task of ordered classes, as new runs have it."""
