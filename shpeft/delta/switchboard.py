"""Several deltas on one loaded backbone: switch between them by copying only the weights that they move."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import SparseDelta, SupportView, occupy
from shpeft.errors import BaseMismatch, DeltaError, did_you_mean


class Switchboard:
    """Switches several deltas on one loaded backbone; a switch writes only the weights that the two deltas move.

    A context manager::

        with Switchboard(backbone, {"breast": breast, "skin": skin}) as board:
            board.switch("breast")              # θ0 + Pᵀv, with that delta's head and classes
            board.switch("skin", strength=0.5)  # θ0 + λ·Pᵀv
            board.switch(None)                  # the pretrained backbone, bit for bit

    The deltas may have different classes. After each switch the backbone equals, to the bit, a fresh copy under
    ``SparseDelta.applied``. Afterwards, also after an error, it is as before, with the very same head module. Later
    changes of the deltas have no effect. While the board is open, no other delta can be applied, and the backbone must
    keep its device and type.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> deltas = {str(k): shpeft.SparseDelta.zeros(model, shpeft.select(scores, budget=k)) for k in (10, 20)}
        >>> with shpeft.Switchboard(model, deltas) as board:
        ...     model is board.switch("20")
        True
        >>> board
        Switchboard(test_vit: 10, 20)
    """

    def __init__(self, backbone: Backbone, deltas: Mapping[str, SparseDelta]):
        """Check that the deltas belong to the backbone, which is not changed.

        Raises:
            BaseMismatch: one of the deltas belongs to another base.
        """
        self.backbone, self._deltas = backbone, dict(deltas)
        for name, delta in self._deltas.items():
            try:
                replace(delta, classes=backbone.classes, task=backbone.task).check(backbone)  # its classes may differ
            except BaseMismatch as error:
                raise BaseMismatch(f"The delta {name!r} does not fit the backbone. {error}") from None
        self._prepared: dict[str, _Prepared] | None = None
        self._current: _Prepared | None = None

    def __repr__(self) -> str:
        return f"Switchboard({self.backbone.name}: {', '.join(self._deltas)})"

    def __enter__(self) -> "Switchboard":
        """Read θ0 at the weights that the deltas move; nothing is written before the first switch.

        Raises:
            DeltaError: another delta is applied, or another board is open.
        """
        backbone = self.backbone
        prepared = {name: _Prepared(backbone, delta) for name, delta in self._deltas.items()}
        occupy(backbone)
        self._head, self._classes, self._task = backbone.head, backbone.classes, backbone.task
        self._prepared = prepared
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        self._prepared = None
        self.backbone.occupied = False

    def switch(self, name: str | None, strength: float = 1.0) -> Backbone:
        """Replace the current delta by another one.

        Args:
            name: the delta's name; None for the pretrained backbone with its own head and classes.
            strength: λ in θ0 + λ·Pᵀv.

        Returns:
            the backbone.

        Raises:
            DeltaError: an unknown name, or a board that is not open; the backbone is not changed.
            BackboneError: the delta's head does not fit its classes; the backbone is the pretrained one.
        """
        if self._prepared is None:
            raise DeltaError("The switchboard is not open. Switch inside its `with` block.")
        if name is not None and name not in self._prepared:
            raise DeltaError(f"The switchboard has no delta {name!r}. {did_you_mean(name, self._prepared)}".rstrip())
        self._restore()
        if name is not None:
            delta = self._prepared[name]
            self.backbone.replace_head(delta.head, delta.classes, delta.task)
            self._current = delta  # before the first weight is written, so that an error is undone
            delta.entries.write(strength * delta.values)
        return self.backbone

    def _restore(self) -> None:
        """Restore the pretrained backbone and its own head."""
        if self._current is not None:
            self._current.entries.restore()
            self._current = None
        self.backbone.replace_head(self._head, self._classes, self._task)


class _Prepared:
    """What a switch to one delta needs, on the backbone's device: the entries with θ0, the values, and the head."""

    def __init__(self, backbone: Backbone, delta: SparseDelta):
        self.entries = SupportView(backbone, delta.support)
        self.values = delta.values.detach().to(backbone.device, copy=True)
        self.head, self.classes, self.task = _head(backbone.head, delta), delta.classes, delta.task


def _head(like: nn.Linear, delta: SparseDelta) -> nn.Linear:
    """Return the delta's head as a module of the kind, device, type and flags of the backbone's."""
    head = copy.deepcopy(like)
    head.out_features = len(delta.classes)
    for name, values in {"weight": delta.head.weight, "bias": delta.head.bias}.items():
        parameter: torch.Tensor | None = getattr(like, name)
        if parameter is not None:
            values = values.detach().to(parameter.device, parameter.dtype, copy=True)
            setattr(head, name, nn.Parameter(values, requires_grad=parameter.requires_grad))
    return head
