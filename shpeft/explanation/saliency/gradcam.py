"""Grad-CAM on the last layer that still has places, for maps and for tokens.

The element-wise form (HiResCAM, Draelos and Carin 2020): gradient times activation, summed over the channels. For
networks that end in global average pooling it is Grad-CAM itself; with tokens it needs no average over places.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import captum.attr as attr
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError


@dataclass(frozen=True)
class Task:
    """One image (1, 3, S, S) that wants gradients, the model's forward pass, and the class to explain."""

    backbone: Backbone
    forward: Callable[[Tensor], Tensor]
    image: Tensor
    target: int


Result = tuple[Tensor, float | None]
"""Attributions (1, C, S, S), and their completeness residual where the method promises completeness."""


def grad_cam(task: Task) -> Result:
    """The positive part of gradient × activation at each place, enlarged to the image: (1, 1, S, S)."""
    layer = _last_places(task.backbone, task.image)
    product = attr.LayerGradientXActivation(task.forward, layer).attribute(task.image, target=task.target)
    coarse = _channels_first(product, _prefix(task.backbone)).sum(1, keepdim=True)
    return interpolate(coarse.relu(), size=task.image.shape[-2:], mode="bilinear", align_corners=False), None


def _last_places(backbone: Backbone, image: Tensor) -> nn.Module:
    """The layer that puts out the feature map or, of a vision transformer, the last tokens that still matter.

    Where a class token is read, the last attention has gathered all that the head sees and the gradient at the
    patches is zero after it: the norm before that attention is taken. Where patches are pooled, the last norm.
    """
    shapes = _output_shapes(backbone.module, image)
    features = shapes.pop(backbone.module, torch.Size())
    if len(features) == 4:
        return [child for child, shape in shapes.items() if shape == features][-1]
    pooled = getattr(backbone.module, "global_pool", "token") != "token"
    last = backbone.module if pooled else list(getattr(backbone.module, "blocks", [None]))[-1]
    norm = getattr(last, "norm" if pooled else "norm1", None)
    grid = getattr(getattr(backbone.module, "patch_embed", None), "grid_size", None)
    if norm in shapes and grid and grid[0] == grid[1] and shapes[norm][1] == grid[0] * grid[1] + _prefix(backbone):
        return norm
    raise DiagnosisError(f"Grad-CAM finds no layer of {backbone.name} that keeps places apart. Choose another method.")


def _output_shapes(module: nn.Module, image: Tensor) -> dict[nn.Module, torch.Size]:
    """The shape that each layer before the pooling puts out, in order; under the module itself the features'."""
    shapes: dict[nn.Module, torch.Size] = {}

    def see(child: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[child] = output.shape

    handles = [child.register_forward_hook(see) for child in module.modules()]
    forward_features: Any = getattr(module, "forward_features", None)
    try:
        with torch.no_grad():
            features = forward_features(image) if forward_features else None
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(features, Tensor):
        shapes[module] = features.shape
    return shapes


def _prefix(backbone: Backbone) -> int:
    """How many tokens (class, registers) stand before the patches."""
    return int(getattr(backbone.module, "num_prefix_tokens", 0))


def _channels_first(x: Tensor, prefix: int) -> Tensor:
    """A layer's output as (1, C, h, w): of a map with channels first or last, or of tokens after a prefix."""
    if x.ndim == 4:
        return x if x.shape[2] == x.shape[3] else x.permute(0, 3, 1, 2)
    tokens = x[:, prefix:]
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(1, -1, side, side)
