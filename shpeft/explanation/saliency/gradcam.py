"""Grad-CAM on the last layer with spatial positions, for feature maps and for tokens.

The element-wise form (HiResCAM, Draelos and Carin 2020): gradient times activation, summed over the channels. For
networks that end in global average pooling it equals Grad-CAM; with tokens it needs no average over positions.
"""

from typing import Any

import captum.attr as attr
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shpeft.backbones import Backbone
from shpeft.backbones.feature_maps import channels_first, patch_grid
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency.case import Explained, Result


def grad_cam(case: Explained) -> Result:
    """Return the positive part of gradient × activation at each position, enlarged to the image: (1, 1, H, W)."""
    layer = _last_spatial_layer(case.backbone, case.image)
    product = attr.LayerGradientXActivation(case.forward, layer).attribute(case.image, target=case.target)
    coarse = _by_position(product, case).sum(1, keepdim=True)
    return interpolate(coarse.relu(), size=case.image.shape[-2:], mode="bilinear", align_corners=False), None


def _last_spatial_layer(backbone: Backbone, image: Tensor) -> nn.Module:
    """Return the layer that outputs the feature map or, in a vision transformer, the last patch tokens with gradients.

    If the head reads the class token, the gradient at the patches is zero after the last attention: take the norm
    before it. If the head pools the patches, take the last norm.
    """
    shapes = _output_shapes(backbone.module, image)
    features = shapes.pop(backbone.module, torch.Size())
    if len(features) == 4:
        return [child for child, shape in shapes.items() if shape == features][-1]
    pooled = getattr(backbone.module, "global_pool", "token") != "token"
    last = backbone.module if pooled else list(getattr(backbone.module, "blocks", [None]))[-1]
    norm: nn.Module | None = getattr(last, "norm" if pooled else "norm1", None)
    grid = patch_grid(backbone.module)
    tokens = shapes[norm][1] if norm is not None and norm in shapes else 0
    if norm is not None and grid and tokens == grid[0] * grid[1] + _prefix(backbone):
        return norm
    raise DiagnosisError(
        f"Grad-CAM needs a layer with spatial positions; {backbone.name} has none. Choose another method."
    )


def _output_shapes(module: nn.Module, image: Tensor) -> dict[nn.Module, torch.Size]:
    """Return each layer's output shape before the pooling, in order; the module itself has that of its features."""
    shapes: dict[nn.Module, torch.Size] = {}

    def record(child: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[child] = output.shape

    handles = [child.register_forward_hook(record) for child in module.modules()]
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
    """Return the number of tokens (class, registers) before the patches."""
    return int(getattr(backbone.module, "num_prefix_tokens", 0))


def _by_position(x: Tensor, case: Explained) -> Tensor:
    """Return a layer's output as (1, C, h, w): a map with channels first or last, or tokens after a prefix."""
    grid = patch_grid(case.backbone.module)
    if x.ndim == 4 or grid is None:
        return channels_first(x, case.backbone.transform.shape)
    patches: Tensor = x[:, _prefix(case.backbone) :].transpose(1, 2).unflatten(2, grid)
    return patches
