"""SparseDelta: a support, the values its weights move by, and a head. Applying and restoring are exact to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from shpeft import gradients
from shpeft.backbones import Backbone
from shpeft.equations import moved
from shpeft.errors import BaseMismatch, ClassMismatch, DeltaError
from shpeft.images import InputTransform
from shpeft.probe import Head
from shpeft.selection import Support


@dataclass
class SparseDelta:
    """What fine-tuning changes: θ = θ0 + Pᵀv on the support, and the head.

    Attributes:
        support: which k weights move.
        values: (k,) θ − θ0, in the support's order (parameters in order, then flat indices).
        head: the trained classifier.
        classes: one name for each output of the head.
        backbone: the base's name.
        weights: where the base's weights come from, for people.
        transform: how images become the base's input.
        base: the fingerprint of the base weights that the values are relative to.
    """

    support: Support
    values: Tensor
    head: Head
    classes: tuple[str, ...]
    backbone: str
    weights: str
    transform: InputTransform
    base: str = field(repr=False)

    @classmethod
    def zeros(cls, backbone: Backbone, support: Support, head: Head | None = None) -> "SparseDelta":
        """A delta that moves nothing yet.

        Args:
            head: the classifier to start from, e.g. a linear probe; None: the backbone's present one.
        """
        dtype = backbone.head.weight.dtype
        return cls(
            support=support,
            values=torch.zeros(support.k, dtype=dtype if dtype == torch.float64 else torch.float32),
            head=head or Head.of(backbone),
            classes=backbone.classes,
            backbone=backbone.name,
            weights=backbone.weights,
            transform=backbone.transform,
            base=backbone.fingerprint,
        )

    @property
    def k(self) -> int:
        """How many weights move."""
        return self.support.k

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.transform.size

    def pieces(self) -> dict[str, Tensor]:
        """The values by parameter, as views."""
        return dict(zip(self.support.indices, self.values.split(list(self.support.counts().values())), strict=True))

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone that this delta does not belong to.

        Raises:
            BaseMismatch: other base weights or another input size.
            ClassMismatch: other classes.
        """
        if backbone.fingerprint != self.base:
            raise BaseMismatch(
                f"This delta belongs to {self.backbone} at {self.image_size} px with base weights {self.base[:12]}; "
                f"the backbone at hand is {backbone.name} at {backbone.image_size} px, {backbone.fingerprint[:12]}. "
                "Create the backbone with the name, weights and image size that the delta was trained with."
            )
        if backbone.classes != self.classes:
            raise ClassMismatch(
                f"This delta tells {', '.join(self.classes)} apart; the backbone was made for "
                f"{', '.join(backbone.classes)}. Create it with the delta's classes."
            )

    @contextmanager
    def applied(self, backbone: Backbone) -> Iterator[Backbone]:
        """The backbone with this delta; afterwards every bit is as before, after an error too.

        Raises:
            BaseMismatch, ClassMismatch: see ``check``.
            DeltaError: another delta is applied at the moment.
        """
        with _Placement(backbone, self) as placement:
            placement.write(self.values)
            yield backbone

    def merge(self, backbone: Backbone) -> Backbone:
        """A copy of the backbone with this delta written into it for good; the copy is a base of its own."""
        twin = backbone.copy()
        with _Placement(twin, self) as placement:
            placement.write(self.values)
            placement.keep()
        return twin

    @contextmanager
    def training(self, backbone: Backbone) -> Iterator["Trainable"]:
        """The backbone with this delta applied and exact gradients for the k values and the head alone.

        Nothing is written back to this delta: take what is worth keeping with ``Trainable.snapshot``. Normalisation
        statistics stay frozen (evaluation mode). Afterwards every bit of the backbone is as before.
        """
        with _Placement(backbone, self) as placement, backbone.frozen():
            trainable = Trainable(backbone, self, placement)
            try:
                yield trainable
            finally:
                trainable.close()


class _Placement:
    """The k entries of a backbone that a delta occupies: saved on entry, put back on exit."""

    def __init__(self, backbone: Backbone, delta: SparseDelta):
        delta.check(backbone)
        self.backbone, self.delta = backbone, delta

    def __enter__(self) -> "_Placement":
        if self.backbone.occupied:
            raise DeltaError("Another delta is applied to this backbone. Leave its `with` block first, or use a copy.")
        self.backbone.occupied = True
        parameters, device = self.backbone.parameters, self.backbone.device
        support = self.delta.support
        self.coordinates = {
            name: torch.unravel_index(index.to(device), support.shapes[name]) for name, index in support.indices.items()
        }
        self.saved = {name: parameters[name].detach()[at].clone() for name, at in self.coordinates.items()}
        self.saved_head: Head | None = Head.of(self.backbone)
        self.delta.head.write(self.backbone)
        return self

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        """θ = θ0 + Pᵀv, in place."""
        pieces = values.detach().split([base.numel() for base in self.saved.values()])
        for (name, base), v in zip(self.saved.items(), pieces, strict=True):
            self.backbone.parameters[name][self.coordinates[name]] = moved(base, v.to(base.device))

    def keep(self) -> None:
        """Leave the entries as written: on exit nothing is put back."""
        self.saved = {}
        self.saved_head = None
        self.backbone.__dict__.pop("fingerprint", None)

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for name, base in self.saved.items():
            self.backbone.parameters[name][self.coordinates[name]] = base
        if self.saved_head is not None:
            self.saved_head.write(self.backbone)
        self.backbone.occupied = False


class Trainable:
    """The k values and the head as an optimizer sees them.

    Attributes:
        values: (k,) the one leaf vector; its gradient is exact and nothing larger is ever kept.
        head: the head's parameters.
        demoted: parameters whose tap was never reached in a dry run and which are gathered instead (some models use a
            linear layer's weight without calling the layer).
    """

    def __init__(self, backbone: Backbone, delta: SparseDelta, placement: _Placement):
        self.backbone, self._placement = backbone, placement
        self.values = nn.Parameter(delta.values.detach().clone().to(backbone.device))
        self.values.grad = torch.zeros_like(self.values)
        self.head = list(backbone.head.parameters())
        for p in self.head:
            p.requires_grad_(True)
        self._remove: list[gradients.Remove] = []
        self._leaves: dict[str, Tensor] = {}
        sizes = list(delta.support.counts().values())
        for name, v, grad in zip(
            delta.support.indices, self.values.detach().split(sizes), self.values.grad.split(sizes), strict=True
        ):
            leaf = v.requires_grad_(True)  # shares memory with values, and its gradient with values.grad
            leaf.grad = grad
            self._leaves[name] = leaf
        self.write()
        self.demoted = self._attach(delta.support)

    def _attach(self, support: Support) -> tuple[str, ...]:
        """Tap what can be tapped, and gather the rest; taps that a dry run never reaches are gathered too."""
        layers = gradients.tappable(self.backbone.module)
        taps: dict[str, tuple[list[bool], gradients.Remove]] = {}
        for name, index in support.indices.items():
            if name in layers:
                seen: list[bool] = []
                remove = gradients.tap_linear(layers[name], index.to(self.backbone.device), self._leaves[name], seen)
                taps[name] = seen, remove
        size, weight = self.backbone.image_size, self.backbone.head.weight
        with torch.no_grad():
            self.backbone(torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype))
        missed = tuple(name for name, (seen, _) in taps.items() if not seen)
        for seen, remove in taps.values():
            if seen:
                self._remove.append(remove)
            else:
                remove()
            seen.clear()
        for name in support.indices:
            if name not in taps or name in missed:
                p = self.backbone.parameters[name]
                self._remove.append(gradients.gather_and_free(p, self._placement.coordinates[name], self._leaves[name]))
        return missed

    def parameters(self) -> list[nn.Parameter]:
        """All that the optimizer sees."""
        return [self.values, *self.head]

    def zero_grad(self) -> None:
        """Clear the gradients, the values' in place: taps accumulate into it."""
        assert self.values.grad is not None
        self.values.grad.zero_()
        for p in self.head:
            p.grad = None

    def write(self) -> None:
        """Put the present values into the model; to be called after each optimizer step."""
        self._placement.write(self.values)

    def snapshot(self) -> tuple[Tensor, Head]:
        """Copies of the present values and head, on the CPU."""
        return self.values.detach().cpu().clone(), Head.of(self.backbone)

    def close(self) -> None:
        """Remove every hook."""
        for remove in self._remove:
            remove()
        self._remove = []
