"""Ordered classes, such as grades."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from shpeft.tasks.base import Reduction
from shpeft.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class Ordinal(SingleLabel):
    """One class of several in an order: softmax, and a loss that grows with the distance from the true class.

    Everything else is as for single labels: a probability for each class, thresholds, prediction sets.

    Examples:
        >>> task, target = Ordinal(), Ordinal().target([0])
        >>> near, far = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0]])
        >>> bool(task.loss(near, target) < task.loss(far, target))  # their cross-entropies are equal
        True
    """

    name = "ordinal"
    label_column = "grade"

    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the cumulative cross-entropy in nats: −Σ_k log P(whether y ≤ k), over the C − 1 cuts between classes.

        P(y ≤ k) is the sum of the softmax up to class k; computed as differences of log-sum-exp, so that no probability
        is rounded to 0. It is the logarithmic form of the ranked probability score, and proper.
        """
        log_p = logits.log_softmax(1)
        below = log_p.logcumsumexp(1)[:, :-1]  # log P(y ≤ k)
        above = log_p.flip(1).logcumsumexp(1).flip(1)[:, 1:]  # log P(y > k)
        reached = one_hot(target, logits.shape[1]).cumsum(1)[:, :-1].bool()  # y ≤ k
        cases = -torch.where(reached, below, above).sum(1)
        return cases.mean() if reduction == "mean" else cases.sum()


ORDINAL = Ordinal()
"""The task of ordered classes."""
