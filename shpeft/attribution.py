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

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone, WeightInfo
from shpeft.delta import Placement, SparseDelta
from shpeft.errors import DiagnosisError
from shpeft.probe import Head
from shpeft.progress import Progress, silent
from shpeft.saliency import Pace
from shpeft.trainable import Trainable

STEPS = (4, 8, 16, 32, 64)
"""Gauss-Legendre nodes that are tried, one number after the other, until the residual is small enough."""

TOLERANCE = 1e-3
"""The residual that is small enough, as a share of Σ|a_j|: the parts may cancel in the change itself."""

STRENGTHS = tuple(step / 10 for step in range(16))
"""λ from the pretrained backbone (0) over the fine-tuned one (1) to half as far again."""


@dataclass(frozen=True)
class LayerAttribution:
    """What the trained weights of one parameter did together, in logits.

    Attributes:
        k: how many of its weights were trained.
        total: Σ a_j.
        gross: Σ |a_j|: how much they did, wherever they pulled.
    """

    name: str
    block: str
    matrix: str
    depth: int
    k: int
    total: float
    gross: float


@dataclass(frozen=True)
class SingleWeight:
    """One trained weight: where it stands in its parameter, how far it moved (θ − θ0), and a_j in logits."""

    name: str
    place: tuple[int, ...]
    moved: float
    attribution: float


@dataclass(frozen=True, eq=False)
class WeightAttribution:
    """The change of one class's logit on one image, shared out among the trained weights and the head; all in logits.

    Attributes:
        target: index of the class.
        values: (k,) float64, a_j in the support's order.
        head: what the head's own change did: 0 where the head that training began with is not given.
        before: the logit of the pretrained backbone, under the head that training began with where it is given and
            under the fine-tuned head elsewhere.
        after: the logit of the fine-tuned model.
        steps: Gauss-Legendre nodes of the result.
        passes: forward and backward passes in all, those of coarser sums included.
        converged: the residual is within the tolerance.
    """

    target: int
    values: Tensor
    head: float
    before: float
    after: float
    steps: int
    passes: int
    converged: bool
    seconds: float
    delta: SparseDelta = field(repr=False)
    infos: tuple[WeightInfo, ...] = field(repr=False)

    @property
    def change(self) -> float:
        """The logit's change, head included."""
        return self.after - self.before

    @property
    def backbone(self) -> float:
        """The weights' parts together: Σ a_j."""
        return self.values.sum().item()

    @property
    def gross(self) -> float:
        """Σ |a_j|: how much the weights did, wherever they pulled."""
        return self.values.abs().sum().item()

    @property
    def residual(self) -> float:
        """What the parts miss of the change, with its sign."""
        return self.change - self.head - self.backbone

    @property
    def relative_residual(self) -> float:
        """|residual| as a share of Σ |a_j|; of 0.001 logits where that is less."""
        return abs(self.residual) / max(self.gross, 1e-3)

    def layers(self) -> tuple[LayerAttribution, ...]:
        """The sums over each parameter that has trained weights, in the model's order."""
        place = {info.name: info for info in self.infos}
        counts = self.delta.support.counts()
        pieces = self.values.split(list(counts.values()))
        return tuple(
            LayerAttribution(
                name,
                place[name].block,
                place[name].matrix,
                place[name].depth,
                len(part),
                part.sum().item(),
                part.abs().sum().item(),
            )
            for name, part in zip(counts, pieces, strict=True)
        )

    def blocks(self) -> dict[str, float]:
        """Σ a_j over each block."""
        return _sums((layer.block, layer.total) for layer in self.layers())

    def matrices(self) -> dict[str, float]:
        """Σ a_j over each kind of matrix, of all blocks."""
        return _sums((layer.matrix, layer.total) for layer in self.layers())

    def top(self, count: int = 20) -> list[SingleWeight]:
        """The weights with the largest |a_j|, the largest first; of equal ones the first in the support's order."""
        support = self.delta.support
        names = [name for name, k in support.counts().items() for _ in range(k)]
        index = torch.cat(list(support.indices.values()))
        order = self.values.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [
            SingleWeight(
                names[j],
                tuple(int(at) for at in np.unravel_index(int(index[j]), support.shapes[names[j]])),
                self.delta.values[j].item(),
                self.values[j].item(),
            )
            for j in order
        ]


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
    _check(delta, image, target)
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
        return _finite(self._backbone(self._image)[0, self._target].item())

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
    _check(delta, image, 0)
    rows = []
    with Placement(backbone, delta) as placement:
        inputs = image.detach().to(backbone.device, backbone.head.weight.dtype)
        for done, strength in enumerate(strengths):
            progress("trying strengths", done, len(strengths))
            placement.write(strength * delta.values)
            rows.append(tuple(_finite(p) for p in backbone(inputs)[0].double().softmax(0).tolist()))
        progress("trying strengths", len(strengths), len(strengths))
    return StrengthCurve(delta.classes, tuple(strengths), tuple(rows))


def _check(delta: SparseDelta, image: Tensor, target: int) -> None:
    if not 0 <= target < len(delta.classes):
        raise DiagnosisError(f"Target {target} is no class: the delta has {len(delta.classes)}, from 0.")
    size = delta.image_size
    if image.shape != (1, 3, size, size):
        raise DiagnosisError(f"One image of shape (1, 3, {size}, {size}) is needed; found {tuple(image.shape)}.")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise DiagnosisError("The model's output is not a number: its weights overflow. Choose a smaller strength.")
    return value


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0.0) + value
    return sums
