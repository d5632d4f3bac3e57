"""The features that the out-of-distribution detector reads: the mean token of some blocks of the backbone."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.backbones.feature_maps import channels_first

Array = NDArray[np.float32]

DEPTHS = (1 / 4, 1 / 2, 3 / 4)
"""Depths of the blocks. The last blocks turn an image into classes and forget what kind of image it was."""


def detector_blocks(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the blocks at a quarter, half and three quarters of the depth.

    Empty for a model without blocks; the detector then reads the input of the head.
    """
    blocks = list(dict.fromkeys(info.block for info in backbone.weight_infos("matrices")))
    return tuple(dict.fromkeys(blocks[int(depth * len(blocks))] for depth in DEPTHS)) if blocks else ()


@torch.no_grad()
def features_and_logits(
    backbone: Backbone, inputs: Tensor, blocks: Sequence[str], forward: Callable[[Tensor], Tensor] | None = None
) -> tuple[Array, Tensor]:
    """Return the detector's features (B, D) and the logits (B, C), from one forward pass.

    The features of each block are the mean of its tokens, or of its map over all positions, scaled to length 1.

    Args:
        inputs: normalized inputs (B, 3, H, W).
        blocks: names of blocks; without any, the features are the input of the head.
        forward: runs the model; None: the whole backbone.
    """
    run = forward or backbone
    pooled: dict[str, Tensor] = {}
    logits: list[Tensor] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def keep_mean(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            pooled[name] = _mean(output[0] if isinstance(output, tuple) else output, backbone.transform.shape).float()

        return keep_mean

    def run_once(images: Tensor) -> Tensor:
        logits.append(run(images))
        return logits[0]

    with ExitStack() as stack:
        for name in blocks:
            stack.enter_context(backbone.module.get_submodule(name).register_forward_hook(hook(name)))
        if blocks:
            run_once(inputs)
        else:
            pooled["head"] = backbone.features(inputs, run_once).float()
    scaled = [nn.functional.normalize(pooled[name], dim=1) for name in (blocks or ("head",))]
    return torch.cat(scaled, 1).cpu().numpy(), logits[0]


def image_features(backbone: Backbone, images: Iterable[Image.Image], blocks: Sequence[str]) -> Array:
    """Return the detector's features of single images, (N, D)."""
    rows = [features_and_logits(backbone, backbone.transform(image).to(backbone.device), blocks)[0] for image in images]
    return np.concatenate(rows)


def _mean(output: Tensor, input_shape: tuple[int, int]) -> Tensor:
    """Return the mean over all positions, (B, D): of tokens (B, N, D), or of a map, channels first or last."""
    return channels_first(output, input_shape).mean((2, 3)) if output.ndim == 4 else output.mean(1)
