"""Gradual pruning: training begins with more weights than may remain, and fewer and fewer of them stay changed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from shpeft import equations
from shpeft.delta.trainable import Trainable
from shpeft.errors import SelectionError
from shpeft.selection.top_k import Support


class GradualPruning:
    """Which values of a delta remain, from all k0 down to k; an object for one training.

    At the end of each of the first ``epochs`` epochs the values with the largest v²F remain
    (``equations.pruning_score``), as many as ``equations.pruned_count`` says. The values of all others are 0 from then
    on: the weights are their pretrained values again. What is pruned does not come back.

    Attributes:
        k: the number of values that remain in the end.
        epochs: the number of first epochs at whose ends values are pruned.
        remaining: (k0,) bool, which values are not pruned yet.

    Examples:
        >>> pruning = GradualPruning(torch.ones(4), k=1, epochs=2)
        >>> pruning.prune(torch.tensor([0.3, -0.5, 0.0, 0.1]), epoch=2)
        >>> pruning.remaining.tolist()
        [False, True, False, False]
    """

    def __init__(self, squared_gradients: Tensor, k: int, epochs: int):
        """Begin with all values.

        Args:
            squared_gradients: F of the k0 weights, by ``importance.scores.squared_gradients``.

        Raises:
            SelectionError: no value is to be pruned, or no epoch is given.
        """
        k0 = len(squared_gradients)
        if not 0 < k < k0 or epochs < 1:
            raise SelectionError(
                f"Pruning from {k0:,} to {k:,} weights over {epochs} epochs prunes nothing. Begin with more weights "
                "than may remain, and train for at least two epochs."
            )
        self._f, self.k, self.epochs = squared_gradients.float().cpu(), k, epochs
        self.remaining = torch.ones(k0, dtype=torch.bool)

    def prune(self, values: Tensor, epoch: int) -> None:
        """Choose the values (k0,) that remain after an epoch from 1 to ``epochs``; ties go to the earlier one."""
        score = equations.pruning_score(values.detach().float().cpu(), self._f)
        score[~self.remaining] = -1.0  # below any that remains
        count = equations.pruned_count(len(score), self.k, epoch / self.epochs)
        self.remaining = torch.zeros_like(self.remaining)
        self.remaining[equations.top_k(score, count)] = True

    def support_of(self, support: Support) -> Support:
        """Return the part of the first support that remains."""
        parts = zip(support.indices.items(), self.remaining.split(list(support.counts().values())), strict=True)
        indices = {name: index[remains] for (name, index), remains in parts if bool(remains.any())}
        return Support(indices, {name: support.shapes[name] for name in indices}, support.total, support.infos)


class PrunedModel:
    """A backbone with a delta in training whose values are pruned; ``run_epochs`` trains it."""

    def __init__(self, trainable: Trainable, pruning: GradualPruning, steps_per_epoch: int):
        self._trainable, self._pruning, self._steps_per_epoch = trainable, pruning, steps_per_epoch
        self._steps = 0

    def parameters(self) -> Sequence[Tensor]:
        """Return what the optimizer trains."""
        return self._trainable.parameters()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self._trainable.zero_grad()

    def write(self) -> None:
        """Write the values after an optimizer step; those that are pruned are 0, whatever momentum they have."""
        self._trainable.write()
        self._steps += 1
        epoch, rest = divmod(self._steps, self._steps_per_epoch)
        values, pruning = self._trainable.values, self._pruning
        if not rest and epoch <= pruning.epochs:
            pruning.prune(values, epoch)
        with torch.no_grad():
            values[~pruning.remaining.to(values.device)] = 0.0
        self.load(self.parameters())

    def load(self, tensors: Sequence[Tensor]) -> None:
        """Replace the parameters and write them into the model."""
        self._trainable.load(tensors)
