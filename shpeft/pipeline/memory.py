"""The memory that scoring and training need beside the model, and the memory that is free."""

from dataclasses import dataclass

import torch

from shpeft.config.schema import RunConfig
from shpeft.delta.activation_memory import saved_bytes
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward
from shpeft.support.memory import free_memory_bytes

FIXED_MEMORY = 160 * 2**20
"""Bytes that are not counted (images, intermediate results, the probe's fit): 150 to 170 MiB as measured with the
embedded backbone and with a ViT-S."""

SCORES = 2
"""Scores of 4 bytes per eligible weight: both halves; the hybrid is computed when it is read."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights, and bytes per image.

    Attributes:
        weights: weights of the backbone.
        eligible: weights that are scored.
        scoring: bytes saved by autograd for gradients of all eligible weights.
        training: bytes saved by autograd for gradients of activations.
        features: bytes of cached features.
        can_checkpoint: whether the backbone can recompute activations.
    """

    weights: int
    eligible: int
    scoring: int
    training: int
    features: int
    can_checkpoint: bool

    def needed(self, config: RunConfig, checkpointing: bool = False) -> int:
        """Return the peak bytes beside the weights and the cached features.

        With checkpointing the activations of one block at a time are in memory, which are not counted; gradients by
        image are taken without it.
        """
        images = config.training.batch_size
        by_image = config.selection.expectation == "image"
        scoring = 0 if checkpointing and not by_image else images * self.scoring
        training = 0 if checkpointing else images * self.training
        return FIXED_MEMORY + max(4 * SCORES * self.eligible + scoring, training)


def measure(forward_pass: ForwardPass, scope: str) -> Sizes:
    """Measure the sizes on one black image."""
    backbone = forward_pass.backbone
    infos = backbone.weight_infos(scope)
    parameters = [backbone.parameters[info.name] for info in infos]
    inputs = torch.zeros(1, *backbone.input_shape, device=backbone.device)
    features = 0
    if isinstance(forward_pass, CachedForward):
        inputs = forward_pass.backbone_split.encode(inputs)
        features = inputs.nbytes
    owned = [*backbone.module.parameters(), *backbone.module.buffers(), inputs]
    with backbone.frozen():
        for p in parameters:
            p.requires_grad_(True)
        scoring = saved_bytes(lambda: forward_pass(inputs), owned)
        for p in parameters:
            p.requires_grad_(False)
        parameters[0].requires_grad_(True)
        training = saved_bytes(lambda: forward_pass(inputs), owned)
    return Sizes(
        backbone.weight_count, sum(info.numel for info in infos), scoring, training, features, backbone.can_checkpoint
    )


def free_bytes(device: torch.device) -> int | None:
    """Return the memory of a device that is free for this process; None where nobody says.

    Examples:
        >>> free = free_bytes(torch.device("cpu"))
        >>> free is None or free > 0
        True
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return free_memory_bytes() if device.type == "cpu" else None


def needed_bytes(config: RunConfig, forward_pass: ForwardPass) -> int:
    """Return the peak bytes of scoring and training beside the model, which is in memory."""
    return measure(forward_pass, config.selection.scope).needed(config)
