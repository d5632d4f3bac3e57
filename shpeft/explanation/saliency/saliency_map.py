"""Explain one image: run a saliency method without side effects on the model or the random state."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency.case import Explained
from shpeft.explanation.saliency.methods import METHODS, check_method, default_method
from shpeft.explanation.saliency.overlay import Map
from shpeft.explanation.target import target_index
from shpeft.support.progress import Progress, silent
from shpeft.support.seeding import seeded


@dataclass(frozen=True, eq=False, repr=False)
class Saliency:
    """Sensitivity of one class's logit to each pixel of the model's input.

    Attributes:
        method: a key of :data:`METHODS`.
        target: index of the class.
        map: (H, W) float32, at least 0, not normalized: Σ over the channels of |attribution|. For occlusion it is the
            absolute change of the logit; for Grad-CAM the positive part.
        residual: completeness error |Σ attributions − (logit of the image − logit of the baseline)| over that
            difference; None for methods without the completeness property.
        seconds: run time.

    Examples:
        >>> import numpy as np, shpeft
        >>> shpeft.Saliency("smoothgrad", 1, np.ones((32, 32), np.float32), None, 0.2)
        Saliency(smoothgrad of class 1, 32 x 32, largest value 1)
    """

    method: str
    target: int
    map: Map
    residual: float | None
    seconds: float

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.map.shape))
        residual = "" if self.residual is None else f", residual {self.residual:.1%}"
        return f"Saliency({self.method} of class {self.target}, {size}, largest value {self.map.max():.3g}{residual})"


def explain(
    backbone: Backbone,
    inputs: Tensor,
    target: str | int,
    method: str | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Saliency:
    """Attribute one class's logit to the pixels of one image.

    The same seed gives the same map. The model and the global random state of PyTorch and NumPy are restored.

    Args:
        backbone: the model to explain.
        inputs: normalized image (1, 3, H, W), as ``backbone.transform(image)`` returns it.
        target: the class to explain, by name or by index.
        method: a key of :data:`METHODS`. None: :func:`default_method`.
        seed: of SmoothGrad's noise and Gradient SHAP's baselines.

    Raises:
        DiagnosisError: an unknown method or target, another shape, or a method that the backbone does not support.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> inputs = model.transform(data.test.image(0))
        >>> shpeft.explain(model, inputs, data.classes[0], "input_x_gradient").map.shape
        (32, 32)
    """
    method = default_method(backbone) if method is None else method
    check_method(method)
    c = target_index(target, backbone.classes)
    channels, (height, width) = backbone.transform.channels, backbone.transform.shape
    square = height == width
    if (
        inputs.ndim != 4
        or inputs.shape[:2] != (1, channels)
        or (inputs.shape[2] != inputs.shape[3] if square else inputs.shape[2:] != (height, width))
    ):
        raise DiagnosisError(
            f"The inputs must be one image of shape (1, {channels}, {'S, S' if square else f'{height}, {width}'}); "
            f"found {tuple(inputs.shape)}. Use backbone.transform(image)."
        )
    began, passed, total = time.monotonic(), 0, METHODS[method].cost

    def forward(images: Tensor) -> Tensor:
        nonlocal passed
        progress("explaining", min(passed, total), total)
        passed += len(images)
        return backbone(images)

    with backbone.frozen(), torch.inference_mode(False), torch.enable_grad(), seeded(seed, backbone.device):
        leaf = inputs.detach().to(backbone.device, torch.float32).clone().requires_grad_()
        attributions, residual = METHODS[method].attribute(Explained(backbone, forward, leaf, c))
    progress("explaining", total, total)
    saliency = attributions.detach().abs().sum(1)[0].cpu().numpy().astype(np.float32)
    if not np.isfinite(saliency).all():
        raise DiagnosisError(
            f"{METHODS[method].title} returns values that are not numbers: the model's activations overflow. Train it "
            "again with a lower learning rate."
        )
    return Saliency(method, c, saliency, residual, time.monotonic() - began)
