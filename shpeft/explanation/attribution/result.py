"""The change of one logit, shared out: by weight, layer, block and matrix."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.delta import SparseDelta


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


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0.0) + value
    return sums
