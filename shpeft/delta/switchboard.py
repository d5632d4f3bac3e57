"""Switchboard: several deltas on one loaded backbone, switched by copying only the weights that they move."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from shpeft.backbones import Backbone
from shpeft.delta import Places, SparseDelta, occupy
from shpeft.errors import BaseMismatch, DeltaError, did_you_mean


class Switchboard:
    """Several deltas on one loaded backbone; a switch writes only the weights that the two deltas move.

    A context manager::

        with Switchboard(backbone, {"breast": breast, "skin": skin}) as board:
            board.switch("breast")              # θ0 + Pᵀv, with that delta's head and classes
            board.switch("skin", strength=0.5)  # θ0 + λ·Pᵀv
            board.switch(None)                  # the pretrained backbone, bit for bit

    The deltas may have different classes. After each switch the backbone is, to the bit, what ``SparseDelta.applied``
    makes of a fresh copy; afterwards, after an error too, it is as before, its head being the very same module. The
    deltas count as they are on entry. While the board is open, no other delta can be applied, and the backbone has to
    stay on its device and in its type.
    """

    def __init__(self, backbone: Backbone, deltas: Mapping[str, SparseDelta]):
        """The backbone is only looked at.

        Raises:
            BaseMismatch: one of the deltas belongs to another base.
        """
        self.backbone, self._deltas = backbone, dict(deltas)
        for name, delta in self._deltas.items():
            try:
                replace(delta, classes=backbone.classes).check(backbone)  # of other classes it may be
            except BaseMismatch as error:
                raise BaseMismatch(f"The delta {name!r} does not fit the backbone. {error}") from None
        self._prepared: dict[str, _Prepared] | None = None
        self._present: _Prepared | None = None

    def __enter__(self) -> "Switchboard":
        """Read θ0 where the deltas move it; nothing is written before the first switch.

        Raises:
            DeltaError: another delta is applied at the moment, or another board is open.
        """
        backbone = self.backbone
        prepared = {name: _Prepared(backbone, delta) for name, delta in self._deltas.items()}
        occupy(backbone)
        self._head, self._classes = backbone.head, backbone.classes
        self._prepared = prepared
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        self._prepared = None
        self.backbone.occupied = False

    def switch(self, name: str | None, strength: float = 1.0) -> Backbone:
        """Put another delta in the present one's place.

        Args:
            name: the delta's, or None for the pretrained backbone with its own head and classes.
            strength: λ in θ0 + λ·Pᵀv.

        Returns:
            the backbone.

        Raises:
            DeltaError: an unknown name, or a board that is not open; the backbone stays as it is.
            BackboneError: the delta's head does not fit its classes; the backbone is the pretrained one.
        """
        if self._prepared is None:
            raise DeltaError("The switchboard is not open. Switch inside its `with` block.")
        if name is not None and name not in self._prepared:
            raise DeltaError(f"The switchboard has no delta {name!r}. {did_you_mean(name, self._prepared)}".rstrip())
        self._restore()
        if name is not None:
            wanted = self._prepared[name]
            self.backbone.replace_head(wanted.head, wanted.classes)
            self._present = wanted  # before the first weight is written: whatever happens then, it is put back
            wanted.places.write(strength * wanted.values)
        return self.backbone

    def _restore(self) -> None:
        """The pretrained backbone, with its own head."""
        if self._present is not None:
            self._present.places.restore()
            self._present = None
        self.backbone.replace_head(self._head, self._classes)


class _Prepared:
    """All that a switch to one delta needs, on the backbone's device: its entries, θ0 and v there, and its head."""

    def __init__(self, backbone: Backbone, delta: SparseDelta):
        self.places = Places(backbone, delta.support)
        self.values = delta.values.detach().to(backbone.device, copy=True)
        self.head, self.classes = _head(backbone.head, delta), delta.classes


def _head(like: nn.Linear, delta: SparseDelta) -> nn.Linear:
    """The delta's head as a module of the backbone's kind, device, type and flags."""
    head = copy.deepcopy(like)
    head.out_features = len(delta.classes)
    for name, values in {"weight": delta.head.weight, "bias": delta.head.bias}.items():
        present: torch.Tensor | None = getattr(like, name)
        if present is not None:
            values = values.detach().to(present.device, present.dtype, copy=True)
            setattr(head, name, nn.Parameter(values, requires_grad=present.requires_grad))
    return head
