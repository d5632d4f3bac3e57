"""What the processes of a team exchange in a training step: gradients, the loss and a request to stop, in one sum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from shpeft.support.team import Team


@torch.no_grad()
def sum_gradients(team: Team, parameters: Sequence[Tensor], loss: float, stop: bool) -> tuple[float, bool]:
    """Sum a step's gradients in place, its loss, and whether a process asks to stop: one exchange of p + 2 numbers.

    Every process sends the gradients of its part of the batch, divided by the size of the whole batch. All get the same
    bits, so that their optimizers stay equal without another exchange.

    Args:
        parameters: with p entries; a missing gradient counts as 0.
        loss: this process's part of the mean loss of the batch.
        stop: whether this process asks to end training.

    Returns:
        the mean loss of the batch, and whether any process asks to stop.
    """
    if team.alone:
        return loss, stop
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    gradients = [p.grad for p in parameters if p.grad is not None]
    rest = gradients[0].new_tensor([loss, stop])
    total = team.sum(torch.cat([*(g.reshape(-1) for g in gradients), rest]))
    *sums, rest = total.split([*(g.numel() for g in gradients), 2])
    for g, summed in zip(gradients, sums, strict=True):
        g.copy_(summed.view_as(g))  # in place: taps add to parts of this memory
    return float(rest[0]), bool(rest[1] > 0)
