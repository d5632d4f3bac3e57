"""Weight attribution: what each of the k trained weights, and the head, did to one class's logit on one image.

The fine-tuned backbone differs from the pretrained one in k numbers v. Along the straight way between the two,
θ(t) = θ0 + t·Pᵀv, the logit z of a class changes by

    z(θ(1)) − z(θ(0)) = Σ_j a_j    with    a_j = v_j · ∫₀¹ ∂z/∂θ_j (θ(t)) dt

so that the a_j share the change out among the weights: integrated gradients (Sundararajan et al. 2017, eq. 1) with
weights in the pixels' place. The integral is a Gauss-Legendre sum; what it misses of the change is the residual.

The head moves first, at θ0, and the backbone then under the fine-tuned head. The logit is linear in the head, so the
head's part is exact and needs no integral; and the weights' parts are the same whichever head training began with, and
those of the strength λ (``SparseDelta.applied``), which leaves the fine-tuned head in place.
"""

import time

import numpy as np
import torch
from torch import Tensor

from shpeft.attribution.result import WeightAttribution
from shpeft.attribution.strength import STRENGTHS, check, finite
from shpeft.backbones import Backbone
from shpeft.delta import SparseDelta
from shpeft.errors import DiagnosisError
from shpeft.probe import Head
from shpeft.progress import Progress, silent
from shpeft.saliency import Pace
from shpeft.trainable import Trainable

STEPS = (4, 8, 16, 32, 64)
"""Gauss-Legendre nodes that are tried, one number after the other, until the residual is small enough."""

TOLERANCE = 1e-3
"""The residual that is small enough, as a share of Σ|a_j|: the parts may cancel in the change itself."""


def attribute_weights(
    backbone: Backbone,
    delta: SparseDelta,
    image: Tensor,
    target: int,
    *,
    start: Head | None = None,
    tolerance: float = TOLERANCE,
    max_steps: int = STEPS[-1],
    progress: Progress = silent,
) -> WeightAttribution:
    """Share the change of one class's logit on one image out among a delta's weights and its head.

    A pass costs one forward pass and a backward pass down to the earliest trained weight; no dense gradient is formed
    for linear layers. Afterwards every bit of the backbone is as before.

    Args:
        backbone: the delta's base, without the delta.
        image: normalised (1, 3, S, S).
        target: index into the delta's classes.
        start: the head that training began with, such as the linear probe; None: the head's part is left out.
        tolerance: the |residual| to reach, as a share of Σ |a_j|.
        max_steps: the most Gauss-Legendre nodes; ``converged`` says whether they were enough.

    Raises:
        BaseMismatch, ClassMismatch, DeltaError: the delta does not belong to the backbone, or another is applied.
        DiagnosisError: a target that is no class, another shape, too few steps, or logits that are not numbers.
    """
    check(delta, image, target)
    if max_steps < STEPS[0]:
        raise DiagnosisError(f"At least {STEPS[0]} steps are needed; {max_steps} were allowed.")
    begun, passes = time.monotonic(), 0
    with torch.inference_mode(False), torch.enable_grad(), Trainable(backbone, delta) as trainable:
        path = _Path(trainable, delta, image, target)
        base, head = path.start(start)
        after = path.logit(1.0)
        for steps in [n for n in STEPS if n <= max_steps]:
            values = torch.zeros(delta.k, dtype=torch.float64)
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            for done, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
                progress(f"sharing the change out, {steps} steps", done, steps)
                values += weight / 2 * path.gradient((node + 1) / 2)
            values *= delta.values.double()
            passes += steps
            converged = abs(after - base - values.sum().item()) <= tolerance * max(values.abs().sum().item(), 1e-3)
            if converged:
                break
        progress(f"sharing the change out, {steps} steps", steps, steps)
    return WeightAttribution(
        target=target,
        values=values,
        head=head,
        before=base - head,
        after=after,
        steps=steps,
        passes=passes,
        converged=converged,
        seconds=time.monotonic() - begun,
        delta=delta,
        infos=backbone.weight_infos(),
    )


def expected_seconds(pace: Pace) -> float:
    """About how many seconds an attribution and a strength curve take, where the coarsest sum will do.

    Besides it: every strength, the two ends of the way, and the dry run that taps the layers.
    """
    return STEPS[0] * pace.backward + (len(STRENGTHS) + 3) * pace.forward


class _Path:
    """The logit and its gradient with respect to the k weights, anywhere between θ0 and θ0 + Pᵀv."""

    def __init__(self, trainable: Trainable, delta: SparseDelta, image: Tensor, target: int):
        self._trainable, self._backbone, self._target = trainable, trainable.backbone, target
        self._head = delta.head
        self._end = trainable.values.detach().clone()
        self._image = image.detach().to(self._backbone.device, self._backbone.head.weight.dtype)

    def _go(self, t: float) -> None:
        with torch.no_grad():
            self._trainable.values.copy_(t * self._end)
        self._trainable.write()

    @torch.no_grad()
    def logit(self, t: float) -> float:
        """z(θ(t)) under the fine-tuned head."""
        self._go(t)
        return finite(self._backbone(self._image)[0, self._target].item())

    @torch.no_grad()
    def start(self, head: Head | None) -> tuple[float, float]:
        """z(θ0) under the fine-tuned head, and how far it is from z(θ0) under the head that training began with."""
        logit = self.logit(0.0)
        if head is None:
            return logit, 0.0
        c, features = self._target, self._backbone.features(self._image)[0].double().cpu()
        moved = self._head.weight[c].double() - head.weight[c].double()
        return logit, (features @ moved + self._head.bias[c].double() - head.bias[c].double()).item()

    def gradient(self, t: float) -> Tensor:
        """∂z/∂θ_j (θ(t)), (k,) float64 on the CPU."""
        self._go(t)
        self._trainable.zero_grad()
        self._backbone(self._image)[0, self._target].backward()
        assert self._trainable.values.grad is not None
        return self._trainable.values.grad.double().cpu()
