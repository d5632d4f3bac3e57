"""The strength λ of a delta: how the probabilities of one image follow it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.delta import Placement, SparseDelta
from shpeft.errors import DiagnosisError
from shpeft.progress import Progress, silent

STRENGTHS = tuple(step / 10 for step in range(16))
"""λ from the pretrained backbone (0) over the fine-tuned one (1) to half as far again."""


@dataclass(frozen=True)
class StrengthCurve:
    """The probabilities of one image when the delta is applied at several strengths λ, under the fine-tuned head.

    Attributes:
        probabilities: for each strength one for each class; not calibrated.
    """

    classes: tuple[str, ...]
    strengths: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...]

    def at(self, strength: float) -> dict[str, float]:
        """The classes' probabilities at one of the strengths."""
        return dict(zip(self.classes, self.probabilities[self.strengths.index(strength)], strict=True))


@torch.no_grad()
def strength_curve(
    backbone: Backbone,
    delta: SparseDelta,
    image: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    *,
    progress: Progress = silent,
) -> StrengthCurve:
    """How the probabilities of one image (1, 3, S, S) follow the strength λ in θ0 + λ·Pᵀv.

    Each is, to the bit, that of ``delta.applied(backbone, strength)``. Afterwards the backbone is as before.

    Raises:
        BaseMismatch, ClassMismatch, DeltaError, DiagnosisError: see :func:`attribute_weights`.
    """
    check(delta, image, 0)
    rows = []
    with Placement(backbone, delta) as placement:
        inputs = image.detach().to(backbone.device, backbone.head.weight.dtype)
        for done, strength in enumerate(strengths):
            progress("trying strengths", done, len(strengths))
            placement.write(strength * delta.values)
            rows.append(tuple(finite(p) for p in backbone(inputs)[0].double().softmax(0).tolist()))
        progress("trying strengths", len(strengths), len(strengths))
    return StrengthCurve(delta.classes, tuple(strengths), tuple(rows))


def check(delta: SparseDelta, image: Tensor, target: int) -> None:
    """Refuse a target that is no class, and anything but one image of the delta's size."""
    if not 0 <= target < len(delta.classes):
        raise DiagnosisError(f"Target {target} is no class: the delta has {len(delta.classes)}, from 0.")
    size = delta.image_size
    if image.shape != (1, 3, size, size):
        raise DiagnosisError(f"One image of shape (1, 3, {size}, {size}) is needed; found {tuple(image.shape)}.")


def finite(value: float) -> float:
    """The value, or an error where it is not a number."""
    if not math.isfinite(value):
        raise DiagnosisError(
            "The model's output is not a number: its weights overflow. Use a smaller strength, or train again at a "
            "lower rate."
        )
    return value
