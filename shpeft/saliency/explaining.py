"""Explain one image: run a method and leave the model, and the random numbers, as they were."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.progress import Progress, silent
from shpeft.saliency.gradcam import Task
from shpeft.saliency.methods import METHODS, check_method
from shpeft.saliency.overlay import Map
from shpeft.seeding import seeded


@dataclass(frozen=True, eq=False)
class Saliency:
    """How sensitive one class's logit is to each pixel of the model's input.

    Attributes:
        target: index of the class.
        map: (S, S) float32, at least 0, not normalised: the sum over the channels of |attribution|. For occlusion
            the change of the logit in absolute value; for Grad-CAM its positive part.
        residual: |sum of the attributions - (logit of the image - logit of the baseline)|, relative to that
            difference: how incomplete the explanation is. None for methods that promise no completeness.
        seconds: how long it took.
    """

    method: str
    target: int
    map: Map
    residual: float | None
    seconds: float


def explain(
    backbone: Backbone, image: Tensor, target: int, method: str, *, seed: int = 0, progress: Progress = silent
) -> Saliency:
    """Attribute one class's logit to the pixels of one image.

    The same seed gives the same map. Afterwards the model and the global random numbers (PyTorch's, NumPy's) are as
    they were.

    Args:
        image: normalised (1, 3, S, S).
        target: index into the backbone's classes.
        method: a key of :data:`METHODS`.
        seed: decides the noise of SmoothGrad and the baselines of Gradient SHAP.

    Raises:
        DiagnosisError: an unknown method, a target that is no class, another shape, or a method that this backbone's
            layers do not allow.
    """
    check_method(method)
    if not 0 <= target < len(backbone.classes):
        raise DiagnosisError(f"Target {target} is no class: the backbone has {len(backbone.classes)}, from 0.")
    if image.ndim != 4 or image.shape[:2] != (1, 3) or image.shape[2] != image.shape[3]:
        raise DiagnosisError(f"An explanation takes one image of shape (1, 3, S, S); found {tuple(image.shape)}.")
    start, passed, total = time.monotonic(), 0, METHODS[method].cost

    def forward(images: Tensor) -> Tensor:
        nonlocal passed
        progress("explaining", min(passed, total), total)
        passed += len(images)
        return backbone(images)

    with backbone.frozen(), torch.inference_mode(False), torch.enable_grad(), seeded(seed, backbone.device):
        inputs = image.detach().to(backbone.device, torch.float32).clone().requires_grad_()
        attributions, residual = METHODS[method].attribute(Task(backbone, forward, inputs, target))
    progress("explaining", total, total)
    saliency = attributions.detach().abs().sum(1)[0].cpu().numpy().astype(np.float32)
    if not np.isfinite(saliency).all():
        raise DiagnosisError(f"{METHODS[method].title} gave values that are not numbers; the model's weights overflow.")
    return Saliency(method, target, saliency, residual, time.monotonic() - start)
