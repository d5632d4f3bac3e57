"""Attribution of one logit's change, by weight, layer, block and matrix."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.delta.sparse_delta import SparseDelta


@dataclass(frozen=True)
class LayerAttribution:
    """Attribution of one parameter's trained weights, in logits.

    Attributes:
        k: number of trained weights.
        total: Σ a_j.
        gross: Σ |a_j|, without cancellation.
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
    """Attribution of one trained weight.

    Attributes:
        name: of its parameter.
        position: index in the parameter, one number for each dimension.
        delta: θ − θ0.
        attribution: a_j, in logits.
    """

    name: str
    position: tuple[int, ...]
    delta: float
    attribution: float


@dataclass(frozen=True, eq=False, repr=False)
class WeightAttribution:
    """Change of one class's logit on one image, attributed to the trained weights and the head; all in logits.

    Attributes:
        target: index of the class.
        values: (k,) float64, a_j in the support's order.
        head: part of the head's own change; 0 if the initial head is not given.
        before: logit of the pretrained backbone, under the initial head if it is given, else under the fine-tuned head.
        after: logit of the fine-tuned model.
        steps: Gauss-Legendre nodes of the result.
        passes: forward and backward passes in total, including those of coarser sums.
        converged: whether the residual is within the tolerance.
        seconds: run time.

    Examples:
        The parts add up to the change of the logit, up to the residual:

        >>> import torch, shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=20)
        >>> delta = shpeft.SparseDelta.zeros(model, support)
        >>> _ = delta.values.fill_(0.01)
        >>> inputs = model.transform(data.test.image(0))
        >>> attribution = shpeft.attribute_weights(model, delta, inputs, data.classes[0])
        >>> total = attribution.head + attribution.backbone + attribution.residual
        >>> abs(total - attribution.change) < 1e-9
        True
        >>> [weight.name for weight in attribution.top(1)]  # doctest: +ELLIPSIS
        ['...']
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

    def __repr__(self) -> str:
        return (
            f"WeightAttribution({self.delta.classes[self.target]}: logit {self.before:+.3f} to {self.after:+.3f}, "
            f"{len(self.values):,} weights {self.backbone:+.3g}, residual {self.residual:+.1e})"
        )

    @property
    def change(self) -> float:
        """Change of the logit, head included."""
        return self.after - self.before

    @property
    def backbone(self) -> float:
        """Sum over the trained weights, Σ a_j."""
        return self.values.sum().item()

    @property
    def gross(self) -> float:
        """Sum of the absolute attributions, Σ |a_j|, without cancellation."""
        return self.values.abs().sum().item()

    @property
    def residual(self) -> float:
        """Change that the parts do not account for, with its sign."""
        return self.change - self.head - self.backbone

    @property
    def relative_residual(self) -> float:
        """|residual| over Σ |a_j|, or over 0.001 logits if that is larger."""
        return abs(self.residual) / max(self.gross, 1e-3)

    def layers(self) -> tuple[LayerAttribution, ...]:
        """Return the sums over each parameter that has trained weights, in the model's order."""
        infos = {info.name: info for info in self.infos}
        counts = self.delta.support.counts()
        pieces = torch.split(self.values, list(counts.values()))
        return tuple(
            LayerAttribution(
                name,
                infos[name].block,
                infos[name].matrix,
                infos[name].depth,
                len(part),
                part.sum().item(),
                part.abs().sum().item(),
            )
            for name, part in zip(counts, pieces, strict=True)
        )

    def blocks(self) -> dict[str, float]:
        """Return Σ a_j over each block."""
        return _sums((layer.block, layer.total) for layer in self.layers())

    def matrices(self) -> dict[str, float]:
        """Return Σ a_j over each kind of matrix, across all blocks."""
        return _sums((layer.matrix, layer.total) for layer in self.layers())

    def top(self, count: int = 20) -> list[SingleWeight]:
        """Return the weights with the largest |a_j|, largest first; ties go to the earlier one in the support."""
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


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0.0) + value
    return sums
