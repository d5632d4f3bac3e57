"""Strength λ of a delta: the probabilities of one image as a function of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import AppliedDelta, SparseDelta
from shpeft.errors import DiagnosisError
from shpeft.evaluation.temperature import calibrate
from shpeft.explanation.target import target_index
from shpeft.support.progress import Progress, silent
from shpeft.tasks import Regression

STRENGTHS = tuple(step / 10 for step in range(16))
"""λ from the pretrained backbone (0) through the fine-tuned one (1) to an extrapolation (1.5)."""


@dataclass(frozen=True)
class StrengthCurve:
    """Probabilities of one image at several strengths λ of the delta, under the fine-tuned head.

    Attributes:
        classes: (C,) names.
        strengths: (S,) values of λ.
        probabilities: (S, C).
        calibrated: whether the probabilities are calibrated, by a temperature fitted at λ = 1.
        unit: of a regression, whose numbers stand for probabilities; None of classes.

    Examples:
        >>> import shpeft
        >>> curve = shpeft.StrengthCurve(("healthy", "ill"), (0.0, 1.0), ((0.8, 0.2), (0.1, 0.9)))
        >>> curve.at(1.0)
        {'healthy': 0.1, 'ill': 0.9}
        >>> curve.of("ill")
        (0.2, 0.9)
    """

    classes: tuple[str, ...]
    strengths: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...]
    calibrated: bool = False
    unit: str | None = None

    def shown(self, value: float) -> str:
        """Return a probability or a number as text."""
        return f"{value:.1%}" if self.unit is None else f"{value:.4g} {self.unit}".strip()

    def at(self, strength: float) -> dict[str, float]:
        """Return the probability of each class at one of the strengths."""
        return dict(zip(self.classes, self.probabilities[self.strengths.index(strength)], strict=True))

    def of(self, target: str | int) -> tuple[float, ...]:
        """Return the probability of one class, by name or index, at each strength."""
        c = target_index(target, self.classes)
        return tuple(row[c] for row in self.probabilities)


@torch.no_grad()
def strength_curve(
    backbone: Backbone,
    delta: SparseDelta,
    inputs: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    *,
    temperature: float | None = None,
    progress: Progress = silent,
) -> StrengthCurve:
    """Return the probabilities of one image under θ0 + λ·Pᵀv for each strength λ.

    They are bit-identical to those under ``delta.applied(backbone, strength)``, and with the temperature of a run's
    calibration, at λ = 1, to those of a diagnosis. The backbone is restored afterwards.

    Args:
        backbone: the delta's base, without the delta.
        inputs: normalized image (1, 3, H, W), as ``backbone.transform(image)`` returns it.
        strengths: values of λ.
        temperature: that of the fitted calibration, ``reliability.calibration.temperature``; None: not calibrated.

    Raises:
        BaseMismatch, ClassMismatch, DeltaError: the delta does not belong to the backbone, or another one is applied.
        DiagnosisError: another shape, or probabilities that are not finite.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=20)
        >>> delta = shpeft.SparseDelta.zeros(model, support)
        >>> curve = shpeft.strength_curve(model, delta, model.transform(data.test.image(0)), [0.0, 1.0])
        >>> len(curve.of(data.classes[0]))
        2
    """
    check_inputs(delta, inputs)
    rows = []
    with AppliedDelta(backbone, delta) as applied:
        inputs = inputs.detach().to(backbone.device, backbone.head.weight.dtype)
        for done, strength in enumerate(strengths):
            progress("trying strengths", done, len(strengths))
            applied.write(strength * delta.values)
            rows.append(tuple(finite(p) for p in backbone.task.probabilities(backbone(inputs)[0]).tolist()))
        progress("trying strengths", len(strengths), len(strengths))
    if temperature is not None:
        rows = [tuple(calibrate(np.array(row), temperature).tolist()) for row in rows]
    unit = backbone.task.unit if isinstance(backbone.task, Regression) else None
    return StrengthCurve(delta.classes, tuple(strengths), tuple(rows), temperature is not None, unit)


def check_inputs(delta: SparseDelta, inputs: Tensor) -> None:
    """Check that ``inputs`` is one image of the delta's size."""
    channels, (height, width) = delta.transform.channels, delta.transform.shape
    if inputs.shape != (1, channels, height, width):
        raise DiagnosisError(
            f"The inputs must be one image of shape (1, {channels}, {height}, {width}); found {tuple(inputs.shape)}. "
            "Use backbone.transform(image)."
        )


def finite(value: float) -> float:
    """Return the value, or raise if it is not finite."""
    if not math.isfinite(value):
        raise DiagnosisError(
            "The model's output is not a number: its activations overflow. Use a smaller strength, or train again with "
            "a lower learning rate."
        )
    return value
