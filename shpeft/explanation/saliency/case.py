"""What a saliency method gets and returns."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from shpeft.backbones import Backbone


@dataclass(frozen=True)
class Explained:
    """What a method explains: one image (1, 3, H, W) that requires gradients, the forward pass, and the class."""

    backbone: Backbone
    forward: Callable[[Tensor], Tensor]
    image: Tensor
    target: int


Result = tuple[Tensor, float | None]
"""Attributions (1, C, H, W), and the completeness residual of methods with that property."""
