"""The saliency methods, each a few lines over Captum: attributions of one class's logit, by name.

Baselines are the training images' mean colour, which is zero after normalisation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import captum.attr as attr
import torch

from shpeft.errors import DiagnosisError, did_you_mean
from shpeft.saliency.gradcam import Result, Task, grad_cam

BATCH = 8
"""Images a pass, which bounds the memory."""

IG_CUTS, IG_STEPS = (0.0, 1 / 8, 1.0), 20
"""Integrated gradients' path is cut near the baseline, where LayerNorm makes the gradient change fast, and each piece
has its own 20 Gauss-Legendre steps. DINOv2 ViT-S/14 with a probe: 2 x 16 steps leave 0.3 %, 1 x 32 leave 6.6 %."""

NOISE_SAMPLES, NOISE_SHARE = 32, 0.15
"""SmoothGrad: how many noisy copies, and the noise's deviation as a share of the image's range (paper: 10-20 %)."""

SHAP_SAMPLES, SHAP_BASELINES = 64, 16
OCCLUSION_WINDOWS = 8
"""The occluding square's side is the image's over this; it moves by half its side."""


def _saliency(task: Task) -> Result:
    return attr.Saliency(task.forward).attribute(task.image, target=task.target), None


def _input_x_gradient(task: Task) -> Result:
    return attr.InputXGradient(task.forward).attribute(task.image, target=task.target), None


def _integrated_gradients(task: Task) -> Result:
    """The integrals along the path's pieces add up to the integral along the path."""
    method, image = attr.IntegratedGradients(task.forward), task.image.detach()
    parts, gap = [], 0.0
    for low, high in pairwise(IG_CUTS):
        part, delta = method.attribute(
            high * image,
            low * image,
            target=task.target,
            n_steps=IG_STEPS,
            internal_batch_size=BATCH,
            return_convergence_delta=True,
        )
        parts.append(part.detach())
        gap += delta.item()
    attributions = torch.stack(parts).sum(0)
    return attributions, _relative(gap, attributions.sum().item())


def _smoothgrad(task: Task) -> Result:
    spread = NOISE_SHARE * (task.image.max() - task.image.min()).item()
    attributions = attr.NoiseTunnel(attr.Saliency(task.forward)).attribute(
        task.image, target=task.target, nt_samples=NOISE_SAMPLES, nt_samples_batch_size=BATCH, stdevs=spread, abs=False
    )
    return attributions, None


def _gradient_shap(task: Task) -> Result:
    """Baselines are images of one colour, drawn around the mean colour: normal in normalised units."""
    method = attr.GradientShap(task.forward)
    colours = torch.randn(SHAP_BASELINES, 3, 1, 1).to(task.image).expand(-1, -1, *task.image.shape[2:])
    rounds = [
        method.attribute(task.image, colours, BATCH, stdevs=0.0, target=task.target, return_convergence_delta=True)
        for _ in range(SHAP_SAMPLES // BATCH)
    ]
    attributions = torch.stack([part.detach() for part, _ in rounds]).mean(0)
    gap = torch.stack([delta.mean() for _, delta in rounds]).mean().item()
    return attributions, _relative(gap, attributions.sum().item())


def _occlusion(task: Task) -> Result:
    side = max(1, round(task.image.shape[-1] / OCCLUSION_WINDOWS))
    step = max(1, side // 2)
    with torch.no_grad():
        change = attr.Occlusion(task.forward).attribute(
            task.image.detach(),
            sliding_window_shapes=(3, side, side),
            strides=(3, step, step),
            baselines=0.0,
            target=task.target,
            perturbations_per_eval=BATCH,
        )
    return change[:, :1], None  # the window hides all channels at once, so each channel holds the whole change


def _relative(gap: float, total: float) -> float:
    """The gap over the logits' difference, which is the attributions' sum without the gap; at least 0.001 logits."""
    return abs(gap) / max(abs(total - gap), 1e-3)


@dataclass(frozen=True)
class Method:
    """A saliency method, for people to choose.

    Attributes:
        sentence: what it shows, and what it does not.
        cost: how many images pass through the model, which is what the time is proportional to.
        backward: how many of them go back to the pixels too.
    """

    name: str
    title: str
    sentence: str
    cost: int
    backward: int
    attribute: Callable[[Task], Result] = field(repr=False, compare=False)


_ALL = (
    Method(
        "saliency",
        "Saliency",
        "How strongly the logit reacts to a tiny change of each pixel. Quick and noisy.",
        1,
        1,
        _saliency,
    ),
    Method(
        "input_x_gradient",
        "Input × gradient",
        "That reaction times how far the pixel is from the mean colour. Quick and noisy; mean-coloured pixels get 0.",
        1,
        1,
        _input_x_gradient,
    ),
    Method(
        "integrated_gradients",
        "Integrated gradients",
        "Shares out the change of the logit between a mean-coloured image and this one; its residual says how"
        " completely. Depends on that starting image.",
        2 * IG_STEPS + 4,
        2 * IG_STEPS,
        _integrated_gradients,
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        "The gradient averaged over noisy copies of the image: less noisy, but about the image's neighbourhood too.",
        NOISE_SAMPLES,
        NOISE_SAMPLES,
        _smoothgrad,
    ),
    Method(
        "gradient_shap",
        "Gradient SHAP",
        "Integrated gradients from several plain colours with random steps: less tied to one starting image. Its"
        " residual is larger, because it samples.",
        3 * SHAP_SAMPLES,
        SHAP_SAMPLES,
        _gradient_shap,
    ),
    Method(
        "occlusion",
        "Occlusion",
        "How far the logit moves when a square is covered with the mean colour. No gradients; blind to findings"
        " larger or much smaller than the square.",
        (2 * OCCLUSION_WINDOWS - 1) ** 2 + 1,
        0,
        _occlusion,
    ),
    Method(
        "grad_cam",
        "Grad-CAM",
        "Which places of the last layer speak for the class (gradient × activation, positive part). Coarse: one value"
        " a patch, enlarged; where nothing speaks for the class it is empty.",
        2,
        1,
        grad_cam,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""The saliency methods by name."""

DEFAULT = "smoothgrad"
"""What the app begins with: its maps follow the weights, and point at lesions (`benchmarks/saliency.py`)."""


def check_method(method: str) -> None:
    """Refuse an unknown method, with the nearest names."""
    if method not in METHODS:
        raise DiagnosisError(f"There is no saliency method {method!r}. {did_you_mean(method, METHODS)}")
