"""Weight attribution: the effect of each of the k trained weights, and of the head, on one class's logit.

The fine-tuned backbone differs from the pretrained one in k numbers v. Along the straight line between the two,
θ(t) = θ0 + t·Pᵀv, the logit z of a class changes by

    z(θ(1)) − z(θ(0)) = Σ_j a_j    with    a_j = v_j · ∫₀¹ ∂z/∂θ_j (θ(t)) dt

so the a_j attribute the change to the weights: integrated gradients (Sundararajan et al. 2017, eq. 1) over weights in
place of pixels. The integral is a Gauss-Legendre sum; its error is the residual.

The head changes first, at θ0; the backbone then changes under the fine-tuned head. The logit is linear in the head, so
the head's part is exact and needs no integral. The weights' parts do not depend on the initial head, and agree with the
strength λ (``SparseDelta.applied``), which also uses the fine-tuned head.
"""

import time

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.errors import DiagnosisError
from shpeft.explanation.attribution.result import WeightAttribution
from shpeft.explanation.attribution.strength import STRENGTHS, check_inputs, finite
from shpeft.explanation.saliency import PassTime
from shpeft.explanation.target import target_index
from shpeft.linear_probe import Head
from shpeft.support.progress import Progress, silent

STEPS = (4, 8, 16, 32, 64)
"""Numbers of Gauss-Legendre nodes, tried in order until the residual is within the tolerance."""

TOLERANCE = 1e-3
"""Largest |residual| as a share of Σ |a_j|; not of the change itself, in which the parts may cancel."""


def attribute_weights(
    backbone: Backbone,
    delta: SparseDelta,
    inputs: Tensor,
    target: str | int,
    *,
    initial_head: Head | None = None,
    tolerance: float = TOLERANCE,
    max_steps: int = STEPS[-1],
    progress: Progress = silent,
) -> WeightAttribution:
    """Attribute the change of one class's logit on one image to a delta's weights and its head.

    Each node takes one forward pass and one backward pass down to the earliest trained weight; linear layers form no
    dense gradient. The backbone is restored bit for bit.

    Args:
        backbone: the delta's base, without the delta.
        inputs: normalized image (1, 3, H, W), as ``backbone.transform(image)`` returns it.
        target: the class to explain, by name or by index into the delta's classes.
        initial_head: the head at the start of training, such as the linear probe; None: the head's part is left out.
        tolerance: largest |residual|, as a share of Σ |a_j|.
        max_steps: largest number of Gauss-Legendre nodes; ``converged`` says whether they were enough.

    Raises:
        BaseMismatch, ClassMismatch, DeltaError: the delta does not belong to the backbone, or another one is applied.
        DiagnosisError: an unknown target, another shape, too few steps, or a logit that is not finite.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=20)
        >>> delta = shpeft.SparseDelta.zeros(model, support)
        >>> shpeft.attribute_weights(model, delta, model.transform(data.test.image(0)), data.classes[0]).change
        0.0
    """
    check_inputs(delta, inputs)
    c = target_index(target, delta.classes)
    if max_steps < STEPS[0]:
        raise DiagnosisError(f"max_steps is {max_steps}; at least {STEPS[0]} steps are needed.")
    began, passes = time.monotonic(), 0
    with torch.inference_mode(False), torch.enable_grad(), Trainable(backbone, delta) as trainable:
        path = _Path(trainable, delta, inputs, c)
        base, head = path.base_logit(initial_head)
        after = path.logit(1.0)
        for steps in [n for n in STEPS if n <= max_steps]:
            values = torch.zeros(delta.k, dtype=torch.float64)
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            for done, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
                progress(f"attributing the change, {steps} steps", done, steps)
                values += weight / 2 * path.gradient((node + 1) / 2)
            values *= delta.values.double()
            passes += steps
            converged = abs(after - base - values.sum().item()) <= tolerance * max(values.abs().sum().item(), 1e-3)
            if converged:
                break
        progress(f"attributing the change, {steps} steps", steps, steps)
    return WeightAttribution(
        target=c,
        values=values,
        head=head,
        before=base - head,
        after=after,
        steps=steps,
        passes=passes,
        converged=converged,
        seconds=time.monotonic() - began,
        delta=delta,
        infos=backbone.weight_infos(),
    )


def expected_seconds(pace: PassTime) -> float:
    """Estimate the seconds of an attribution and a strength curve, if the coarsest sum converges.

    Counts the nodes' backward passes; and forward passes for each strength, both ends of the line, and the dry run.
    """
    return STEPS[0] * pace.backward + (len(STRENGTHS) + 3) * pace.forward


class _Path:
    """Logit and its gradient with respect to the k weights, at any point of the line from θ0 to θ0 + Pᵀv."""

    def __init__(self, trainable: Trainable, delta: SparseDelta, inputs: Tensor, target: int):
        self._trainable, self._backbone, self._target = trainable, trainable.backbone, target
        self._head = delta.head
        self._end = trainable.values.detach().clone()
        self._inputs = inputs.detach().to(self._backbone.device, self._backbone.head.weight.dtype)

    def _go(self, t: float) -> None:
        with torch.no_grad():
            self._trainable.values.copy_(t * self._end)
        self._trainable.write()

    @torch.no_grad()
    def logit(self, t: float) -> float:
        """Return z(θ(t)) under the fine-tuned head."""
        self._go(t)
        return finite(self._backbone(self._inputs)[0, self._target].item())

    @torch.no_grad()
    def base_logit(self, head: Head | None) -> tuple[float, float]:
        """Return z(θ0) under the fine-tuned head, and its difference from z(θ0) under the initial head."""
        logit = self.logit(0.0)
        if head is None:
            return logit, 0.0
        c, features = self._target, self._backbone.features(self._inputs)[0].double().cpu()
        moved = self._head.weight[c].double() - head.weight[c].double()
        return logit, (features @ moved + self._head.bias[c].double() - head.bias[c].double()).item()

    def gradient(self, t: float) -> Tensor:
        """Return ∂z/∂θ_j (θ(t)), (k,) float64 on the CPU."""
        self._go(t)
        self._trainable.zero_grad()
        torch.autograd.backward(self._backbone(self._inputs)[0, self._target])
        assert self._trainable.values.grad is not None
        return self._trainable.values.grad.double().cpu()
