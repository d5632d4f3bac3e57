"""A sparse delta: the change θ − θ0 of the selected weights, and a head; applied and restored to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.equations import add_delta
from shpeft.errors import BaseMismatch, ClassMismatch, DeltaError
from shpeft.images import InputTransform
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support
from shpeft.support.formatting import short_count
from shpeft.support.image_size import ImageSize
from shpeft.tasks import SINGLE_LABEL, Task


@dataclass(eq=False)
class SparseDelta:
    """The result of fine-tuning: θ = θ0 + Pᵀv on the support (``equations.moved``), and the head.

    Attributes:
        support: which k weights move.
        values: (k,) v = θ − θ0, in the support's order (parameters in order, then flat indices).
        head: the trained classifier.
        classes: one name for each output of the head.
        backbone: the base's name.
        weights: where the base weights come from, as text for people.
        transform: how images become the base's input.
        base: the SHA-256 fingerprint of the base weights θ0.
        model_args: arguments of the base's timm model, as ``name=value``.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> delta = shpeft.SparseDelta.zeros(model, shpeft.select(scores, budget=100))
        >>> delta
        SparseDelta(100 of 300.1K weights of test_vit at 32 px, 3 classes)
        >>> delta.values += 0.01
        >>> weight = model.parameters["blocks.3.attn.qkv.weight"]
        >>> before = weight.detach().clone()
        >>> with delta.applied(model):
        ...     int((weight != before).sum()) == delta.support.counts()["blocks.3.attn.qkv.weight"]
        True
        >>> bool((weight == before).all())
        True
    """

    support: Support
    values: Tensor
    head: Head
    classes: tuple[str, ...]
    backbone: str
    weights: str
    transform: InputTransform
    base: str
    model_args: tuple[str, ...] = ()
    task: Task = SINGLE_LABEL

    def __repr__(self) -> str:
        return (
            f"SparseDelta({self.k:,} of {short_count(self.support.total)} weights of {self.backbone} "
            f"at {self.image_size} px, {len(self.classes)} classes)"
        )

    @classmethod
    def zeros(cls, backbone: Backbone, support: Support, head: Head | None = None) -> "SparseDelta":
        """Make a delta whose values are all 0.

        Args:
            head: the initial classifier, usually a linear probe; None: a copy of the backbone's current head.
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
            model_args=backbone.model_args,
            task=backbone.task,
        )

    def restricted_to(self, support: Support) -> "SparseDelta":
        """Return this delta on another support: weights of both keep their values, all others have 0."""
        pieces, values = self.pieces(), []
        for name, index in support.indices.items():
            piece = self.values.new_zeros(index.numel())
            if name in pieces:
                own = self.support.indices[name]
                in_own = torch.isin(index, own, assume_unique=True)
                piece[in_own] = pieces[name][torch.isin(own, index, assume_unique=True)]
            values.append(piece)
        return replace(self, support=support, values=torch.cat(values))

    @property
    def k(self) -> int:
        """The number of weights that move."""
        return self.support.k

    @property
    def image_size(self) -> ImageSize:
        """The side of a square input in pixels, or ``HEIGHTxWIDTH``."""
        return self.transform.size

    def pieces(self) -> dict[str, Tensor]:
        """Return the values of each parameter, as views of ``values``."""
        return dict(zip(self.support.indices, self.values.split(list(self.support.counts().values())), strict=True))

    def check(self, backbone: Backbone) -> None:
        """Check that this delta belongs to a backbone.

        Raises:
            BaseMismatch: other base weights or another input size.
            ClassMismatch: other classes, or another task.
        """
        if backbone.fingerprint != self.base or backbone.transform != self.transform:
            raise BaseMismatch(
                f"This delta belongs to {self.backbone} at {self.image_size} px with base weights {self.base[:12]}; "
                f"the backbone is {backbone.name} at {backbone.image_size} px with {backbone.fingerprint[:12]}. "
                "Create the backbone with the name, weights and image size that the delta was trained with."
            )
        if backbone.classes != self.classes:
            raise ClassMismatch(
                f"This delta distinguishes {', '.join(self.classes)}; the backbone was created for "
                f"{', '.join(backbone.classes)}. Create it with the delta's classes."
            )

        if not backbone.task.means_the_same(self.task):
            raise ClassMismatch(
                f"This delta is of the task {self.task.name}; the backbone was made for {backbone.task.name}. Create "
                "it with the delta's task."
            )

    @contextmanager
    def applied(self, backbone: Backbone, strength: float = 1.0) -> Iterator[Backbone]:
        """Apply this delta to a backbone within a ``with`` block; afterwards every bit is as before.

        Args:
            strength: λ in θ0 + λ·Pᵀv: 0 is the pretrained backbone under the delta's head, 1 the fine-tuned model.

        Raises:
            BaseMismatch, ClassMismatch: see ``check``.
            DeltaError: another delta is applied.
        """
        with AppliedDelta(backbone, self) as applied:
            applied.write(strength * self.values)
            yield backbone

    def merge(self, backbone: Backbone) -> Backbone:
        """Return a copy of the backbone with this delta written into its weights: a base of its own."""
        copy = backbone.copy()
        self.check(copy)
        SupportView(copy, self.support).write(self.values)
        self.head.write(copy)
        copy.forget_fingerprint()
        return copy


class AppliedDelta:
    """A delta in a backbone from ``open`` to ``close``, which restores the saved entries and head to the bit.

    As a context manager it is open within the ``with`` block.
    """

    def __init__(self, backbone: Backbone, delta: SparseDelta):
        """Check that the delta belongs to the backbone; nothing is written.

        Raises:
            BaseMismatch, ClassMismatch: see ``SparseDelta.check``.
        """
        delta.check(backbone)
        self.backbone, self.delta = backbone, delta
        self._entries: SupportView | None = None

    def __repr__(self) -> str:
        return f"AppliedDelta({self.delta!r}, {'open' if self._entries is not None else 'closed'})"

    def open(self) -> "AppliedDelta":
        """Save the head and the entries that the delta moves, and write its head; returns itself.

        Raises:
            DeltaError: another delta is applied.
        """
        occupy(self.backbone)
        self._entries = SupportView(self.backbone, self.delta.support)
        self._head = Head.of(self.backbone)
        self.delta.head.write(self.backbone)
        return self

    def write(self, values: Tensor) -> None:
        """Write θ = θ0 + Pᵀv (``equations.moved``) in place, for values v (k,)."""
        assert self._entries is not None, "an applied delta must be open to be written"
        self._entries.write(values)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Restore the backbone within a ``with`` block; afterwards the delta is applied again, at strength 1."""
        self.close()
        try:
            yield
        finally:
            self.open().write(self.delta.values)

    def close(self) -> None:
        """Restore the saved entries and head, and let other deltas be applied."""
        if self._entries is not None:
            self._entries.restore()
            self._head.write(self.backbone)
            self._entries = None
            self.backbone.occupied = False

    def __enter__(self) -> "AppliedDelta":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


def occupy(backbone: Backbone) -> None:
    """Mark a backbone as changed by a delta.

    Raises:
        DeltaError: it is marked already.
    """
    if backbone.occupied:
        raise DeltaError("Another delta is applied to this backbone. Leave its `with` block first, or use a copy.")
    backbone.occupied = True


class SupportView:
    """The selected entries of a backbone and their pretrained values θ0; the backbone must stay on its device."""

    def __init__(self, backbone: Backbone, support: Support):
        self._entries = [FlatEntries(backbone.parameters[name], index) for name, index in support.indices.items()]
        self._base = [entries.read() for entries in self._entries]

    def write(self, values: Tensor) -> None:
        """Write θ = θ0 + Pᵀv in place, for values v (k,)."""
        pieces = values.detach().split([base.numel() for base in self._base])
        for entries, base, v in zip(self._entries, self._base, pieces, strict=True):
            entries.write(add_delta(base, v.to(base.device)))

    def restore(self) -> None:
        """Write θ = θ0 in place."""
        for entries, base in zip(self._entries, self._base, strict=True):
            entries.write(base)


class FlatEntries:
    """Some entries of one parameter, read and written without a copy of the others.

    Args:
        parameter: dense, in any memory format (``channels_last`` too).
        index: (k,) flat indices in the parameter's shape, whatever its memory format.
    """

    def __init__(self, parameter: Tensor, index: Tensor):
        parameter = parameter.detach()
        coordinates = torch.unravel_index(index.to(parameter.device), parameter.shape)
        self._memory = parameter.as_strided((parameter.numel(),), (1,))
        strides = parameter.stride()
        self._offsets = torch.stack([at * step for at, step in zip(coordinates, strides, strict=True)]).sum(0)

    def read(self) -> Tensor:
        """Return a copy of the entries, (k,)."""
        return self._memory[self._offsets]

    def write(self, values: Tensor) -> None:
        """Write values (k,), of the parameter's type, into the entries."""
        self._memory.index_copy_(0, self._offsets, values)
