"""Feeding a backbone: the cases of a split become model inputs on its device, and inputs become logits."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from shpeft.backbones import Backbone
from shpeft.datasets import Split, batches

Precision = Literal["float32", "bfloat16"]

FEW_PATCHES = 128
"""Up to so many patches an image, attention in bfloat16 is quicker on a processor as matrix products than fused.

A step of ViT-S with batches of 16 (one core with AMX): 0.46 against 0.60 s at 64 patches, the same at 144, then slower.
"""


class Feed:
    """Normalised images, straight to the whole backbone.

    Attributes:
        backbone: what is fed; its weights are those of the moment.
        precision: ``bfloat16`` runs the backbone under autocast; weights, gradients and values stay float32.
    """

    def __init__(self, backbone: Backbone, precision: Precision = "float32"):
        self.backbone, self.precision = backbone, precision

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        order: Sequence[int] | None = None,
        mirrored: Sequence[bool] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Model inputs and labels (B,), in ``order`` or as the split stands; the last batch may be smaller.

        Args:
            mirrored: for each position of the order whether the image is shown left-right flipped.
        """
        flips = None if mirrored is None else torch.tensor(mirrored, dtype=torch.bool).split(batch_size)
        for position, (pixels, target) in enumerate(batches(split, self.backbone.transform, batch_size, order=order)):
            if flips is not None:
                pixels = torch.where(flips[position].view(-1, 1, 1, 1), pixels.flip(-1), pixels)
            yield self.normalise(pixels), self.send(target)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels as the backbone's input, on its device and in its type."""
        return self.backbone.transform.normalise(self.send(pixels)).to(self.backbone.head.weight.dtype)

    def check(self, names: Iterable[str]) -> None:
        """Whether these parameters can be trained on what is fed: here all can."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits (B, C), float32 or wider."""
        with self.autocast():
            return _at_least_float32(self.run(inputs))

    def run(self, inputs: Tensor) -> Tensor:
        """The model on inputs as ``batches`` gives them."""
        return self.backbone(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """What the head sees, (B, D), float32 or wider."""
        return _at_least_float32(self.backbone.features(inputs, self))

    def close(self) -> None:
        """Let go of what is kept: here nothing is."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The context in which the backbone runs."""
        device, half = self.backbone.device.type, self.precision == "bfloat16"
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=half))
            if half and device == "cpu" and _patches(self.backbone) <= FEW_PATCHES:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def send(self, tensor: Tensor) -> Tensor:
        """To the backbone's device; copies to a graphics card overlap with its work."""
        if self.backbone.device.type == "cuda":
            return tensor.pin_memory().to(self.backbone.device, non_blocking=True)
        return tensor.to(self.backbone.device)


def _patches(backbone: Backbone) -> float:
    """How many patches an image has; no end of them where the model does not say."""
    return float(getattr(getattr(backbone.module, "patch_embed", None), "num_patches", math.inf))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
