"""Models whose explanations are known: they depend on known pixels in a known way."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.images import InputTransform


class Looking(nn.Module):
    """Logits that are linear in the pixels of ``where``, bool (S, S), and ignore all others."""

    where: Tensor

    def __init__(self, where: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("where", where.float())
        self.head = nn.Linear(3 * where.numel(), classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head((x * self.where).flatten(1))
        return logits


def looking(where: Tensor, classes: Sequence[str], size: int) -> Backbone:
    """Return the model with random weights as a backbone."""
    torch.manual_seed(0)
    transform = InputTransform(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("looking", Looking(where, len(classes)), classes, transform, "random")


SIZE = 16


class Network(nn.Module):
    """Feature map, pooled or flattened, and a linear head."""

    def __init__(self, features: nn.Module, width: int, pooled: bool = True) -> None:
        super().__init__()
        self.features, self.pooled, self.head = features, pooled, nn.Linear(width, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        x = self.forward_features(x)
        logits: Tensor = self.head(x.mean((2, 3)) if self.pooled else x.flatten(1))
        return logits


class Square(nn.Module):
    """Squares the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x**2


class Corner(nn.Module):
    """Depends on the upper left quarter of the image only."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros_like(x)
        seen[..., : SIZE // 2, : SIZE // 2] = 1
        return torch.tanh(x * seen)


class Crossed(nn.Module):
    """Channels last, like the maps of a Swin transformer."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def readable(features: nn.Module, width: int = 3 * SIZE * SIZE, pooled: bool = False, seed: int = 0) -> Backbone:
    """Return a :class:`Network` with random weights as a backbone."""
    torch.manual_seed(seed)
    transform = InputTransform(SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("readable", Network(features, width, pooled), ("a", "b"), transform, "made here")
