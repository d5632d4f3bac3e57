"""Saliency methods over Captum, each a few lines: attributions of one class's logit to the pixels.

The baseline is the mean color of the training images, which is zero after normalization.
"""

import math
from itertools import pairwise

import captum.attr as attr
import torch

from shpeft.explanation.saliency.case import Explained, Result
from shpeft.explanation.saliency.passes import (
    BATCH,
    IG_CUTS,
    IG_STEPS,
    NOISE_SAMPLES,
    NOISE_SHARE,
    OCCLUSION_WINDOWS,
    SHAP_BASELINES,
    SHAP_SAMPLES,
)


def saliency(case: Explained) -> Result:
    """Return the gradient of the logit."""
    return attr.Saliency(case.forward).attribute(case.image, target=case.target), None


def input_x_gradient(case: Explained) -> Result:
    """Return the gradient times the image."""
    return attr.InputXGradient(case.forward).attribute(case.image, target=case.target), None


def integrated_gradients(case: Explained) -> Result:
    """Integrate along the pieces of the path; their integrals add up to that of the whole path."""
    method, image = attr.IntegratedGradients(case.forward), case.image.detach()
    parts, gap = [], 0.0
    for low, high in pairwise(IG_CUTS):
        part, delta = method.attribute(
            high * image,
            low * image,
            target=case.target,
            n_steps=IG_STEPS,
            internal_batch_size=BATCH,
            return_convergence_delta=True,
        )
        parts.append(part.detach())
        gap += delta.item()
    attributions = torch.stack(parts).sum(0)
    return attributions, _relative(gap, attributions.sum().item())


def smoothgrad(case: Explained) -> Result:
    """Return the mean gradient of noisy copies."""
    spread = NOISE_SHARE * (case.image.max() - case.image.min()).item()
    attributions = attr.NoiseTunnel(attr.Saliency(case.forward)).attribute(
        case.image, target=case.target, nt_samples=NOISE_SAMPLES, nt_samples_batch_size=BATCH, stdevs=spread, abs=False
    )
    return attributions, None


def gradient_shap(case: Explained) -> Result:
    """Use baselines of one color, drawn around the mean color: standard normal in normalized units."""
    method = attr.GradientShap(case.forward)
    colors = torch.randn(SHAP_BASELINES, case.image.shape[1], 1, 1).to(case.image).expand(-1, -1, *case.image.shape[2:])
    rounds = [
        method.attribute(case.image, colors, BATCH, stdevs=0.0, target=case.target, return_convergence_delta=True)
        for _ in range(SHAP_SAMPLES // BATCH)
    ]
    attributions = torch.stack([part.detach() for part, _ in rounds]).mean(0)
    gap = torch.stack([delta.mean() for _, delta in rounds]).mean().item()
    return attributions, _relative(gap, attributions.sum().item())


def occlusion(case: Explained) -> Result:
    """Return the change of the logit under a square that covers each position."""
    height, width = case.image.shape[-2:]
    side = min(height, width, max(1, round(math.sqrt(height * width) / OCCLUSION_WINDOWS)))
    step = max(1, side // 2)
    with torch.no_grad():
        change = attr.Occlusion(case.forward).attribute(
            case.image.detach(),
            sliding_window_shapes=(case.image.shape[1], side, side),
            strides=(case.image.shape[1], step, step),
            baselines=0.0,
            target=case.target,
            perturbations_per_eval=BATCH,
        )
    return change[:, :1], None  # the window hides all channels at once, so each channel holds the whole change


def _relative(gap: float, total: float) -> float:
    """Return the gap over the logits' difference, that is the attributions' sum without the gap; at least 0.001."""
    return abs(gap) / max(abs(total - gap), 1e-3)
