"""A model that can be read: it sees chosen pixels and nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.images import InputTransform


class Looking(nn.Module):
    """Logits that are linear in the pixels of ``where``, bool (S, S); the other pixels are not looked at."""

    def __init__(self, where: Tensor, classes: int):
        super().__init__()
        self.register_buffer("where", where.float())
        self.head = nn.Linear(3 * where.numel(), classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x * self.where).flatten(1))


def looking(where: Tensor, classes: Sequence[str], size: int) -> Backbone:
    """The model with random weights, as a backbone."""
    torch.manual_seed(0)
    transform = InputTransform(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("looking", Looking(where, len(classes)), classes, transform, "random")
