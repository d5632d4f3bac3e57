"""SparseDelta: a support, the values its weights move by, and a head. Applying and restoring are exact to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

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

    def moved_to(self, support: Support) -> "SparseDelta":
        """The same change as far as another support allows: its weights keep their values, others go back to θ0."""
        pieces, values = self.pieces(), []
        for name, index in support.indices.items():
            piece = self.values.new_zeros(index.numel())
            if name in pieces:
                here = torch.isin(index, self.support.indices[name], assume_unique=True)
                there = torch.isin(self.support.indices[name], index, assume_unique=True)
                piece[here] = pieces[name][there]
            values.append(piece)
        return replace(self, support=support, values=torch.cat(values))

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
        if backbone.fingerprint != self.base or backbone.transform != self.transform:
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
    def applied(self, backbone: Backbone, strength: float = 1.0) -> Iterator[Backbone]:
        """The backbone with this delta; afterwards every bit is as before, after an error too.

        Args:
            strength: λ in θ0 + λ·Pᵀv: 0 is the pretrained backbone under the delta's head, 1 the fine-tuned model.

        Raises:
            BaseMismatch, ClassMismatch: see ``check``.
            DeltaError: another delta is applied at the moment.
        """
        with Placement(backbone, self) as placement:
            placement.write(strength * self.values)
            yield backbone

    def merge(self, backbone: Backbone) -> Backbone:
        """A copy of the backbone with this delta written into it for good; the copy is a base of its own."""
        twin = backbone.copy()
        with Placement(twin, self) as placement:
            placement.write(self.values)
            placement.keep()
        return twin


class Placement:
    """The k entries of a backbone that a delta occupies, and the head: saved on entry, put back on exit."""

    def __init__(self, backbone: Backbone, delta: SparseDelta):
        delta.check(backbone)
        self.backbone, self.delta = backbone, delta

    def __enter__(self) -> "Placement":
        occupy(self.backbone)
        self._places: Places | None = Places(self.backbone, self.delta.support)
        self._head = Head.of(self.backbone)
        self.delta.head.write(self.backbone)
        return self

    def write(self, values: Tensor) -> None:
        """θ = θ0 + Pᵀv, in place."""
        assert self._places is not None
        self._places.write(values)

    def keep(self) -> None:
        """Leave the entries and the head as written: on exit nothing is put back."""
        self._places = None
        self.backbone.__dict__.pop("fingerprint", None)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """The backbone as it was on entry, for a while; then the delta is back, at strength 1."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__().write(self.delta.values)

    def __exit__(self, *_: object) -> None:
        if self._places is not None:
            self._places.restore()
            self._head.write(self.backbone)
        self.backbone.occupied = False


def occupy(backbone: Backbone) -> None:
    """Mark a backbone as changed by a delta.

    Raises:
        DeltaError: it is already.
    """
    if backbone.occupied:
        raise DeltaError("Another delta is applied to this backbone. Leave its `with` block first, or use a copy.")
    backbone.occupied = True


class Places:
    """The entries of a backbone that a support names, with θ0 there. The backbone has to stay on its device."""

    def __init__(self, backbone: Backbone, support: Support):
        self._entries = [Entries(backbone.parameters[name], index) for name, index in support.indices.items()]
        self._base = [entries.read() for entries in self._entries]

    def write(self, values: Tensor) -> None:
        """θ = θ0 + Pᵀv, in place, for values (k,)."""
        pieces = values.detach().split([base.numel() for base in self._base])
        for entries, base, v in zip(self._entries, self._base, pieces, strict=True):
            entries.write(moved(base, v.to(base.device)))

    def restore(self) -> None:
        """θ = θ0, in place."""
        for entries, base in zip(self._entries, self._base, strict=True):
            entries.write(base)


class Entries:
    """Some entries of one parameter, reached without a copy of the rest.

    Args:
        parameter: dense, in any memory format (``channels_last`` too).
        index: (k,) flat indices in the parameter's shape, whatever its memory format.
    """

    def __init__(self, parameter: Tensor, index: Tensor):
        parameter = parameter.detach()
        coordinates = torch.unravel_index(index.to(parameter.device), parameter.shape)
        self._memory = parameter.as_strided((parameter.numel(),), (1,))
        strides = parameter.stride()
        self._places = torch.stack([at * step for at, step in zip(coordinates, strides, strict=True)]).sum(0)

    def read(self) -> Tensor:
        """A copy of the entries, (k,)."""
        return self._memory[self._places]

    def write(self, values: Tensor) -> None:
        """Put (k,) values there, in the parameter's type."""
        self._memory.index_copy_(0, self._places, values)
