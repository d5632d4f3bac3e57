"""A timm classifier with what is needed to feed it and to change it."""

import copy
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from shpeft.backbones.places import WeightInfo, classifier, weight_infos
from shpeft.errors import BackboneError, ConfigError
from shpeft.images import InputTransform


class Backbone:
    """A timm classifier with what is needed to feed it and to change it.

    Attributes:
        module: the network, in evaluation mode; its parameters keep timm's names.
        head: the classifier, the last linear layer.
        weights: where the base weights come from, as words for people.
    """

    def __init__(self, name: str, module: nn.Module, classes: Sequence[str], transform: InputTransform, weights: str):
        self.name = name
        self.module = module.eval()
        self.classes = tuple(classes)
        self.transform = transform
        self.weights = weights
        self.head_name, self.head = classifier(name, module)
        self._infos = weight_infos(module, self.head_name)
        self.occupied = False  # by an applied delta; see shpeft.delta

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.transform.size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def count(self) -> int:
        """How many weights the backbone has, the head excluded: what a budget's share refers to."""
        return sum(info.numel for info in self._infos)

    @property
    def head_count(self) -> int:
        """How many weights the head has."""
        return sum(p.numel() for p in self.head.parameters())

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, 3, S, S)."""
        return self.module(images)

    def features(self, inputs: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the head sees, (B, D), when ``forward`` runs the model on ``inputs``; by itself on normalised images."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            (forward or self)(inputs)
        finally:
            handle.remove()
        return seen[0]

    def weight_infos(self, scope: str = "all") -> tuple[WeightInfo, ...]:
        """The weights that may be selected, in the model's order; the head is never among them.

        Args:
            scope: ``all``; ``matrices`` (linear and convolutional weights inside blocks); or the matrices of the last
                blocks: ``last:n``, or ``last:p%`` of the blocks, rounded up.

        Raises:
            ConfigError: an unknown scope.
        """
        if scope == "all":
            return self._infos
        matrices = tuple(info for info in self._infos if info.is_matrix)
        if scope == "matrices":
            return matrices
        match = re.fullmatch(r"last:([1-9]\d*)(%?)", scope)
        if not match:
            raise ConfigError(
                f"Scope {scope!r} is unknown. Use 'all', 'matrices', 'last:n' or 'last:p%': n, or p % of the blocks."
            )
        depths = sorted({info.depth for info in matrices})
        count = math.ceil(int(match[1]) / 100 * len(depths)) if match[2] else int(match[1])
        return tuple(info for info in matrices if info.depth in depths[-count:])

    def replace_head(self, head: nn.Linear, classes: Sequence[str]) -> None:
        """Put a classifier for other classes into the head's place: the very module, which keeps its own weights.

        Args:
            head: (len(classes), D) with D the present head's input features.

        Raises:
            BackboneError: a head of another shape; nothing is changed then.
        """
        wanted = (len(classes), self.head.in_features)
        if head.weight.shape != wanted:
            raise BackboneError(
                f"A head of {self.name} for {', '.join(classes)} has weights of shape {wanted}; "
                f"found {tuple(head.weight.shape)}. Give one output a class and one input a feature."
            )
        self.module.set_submodule(self.head_name, head)
        self.head, self.classes = head, tuple(classes)
        self.__dict__.pop("parameters", None)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name, the head's included."""
        return dict(self.module.named_parameters())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the base weights and buffers (names, types, shapes, bytes), the head excluded.

        Computed once: a delta that is applied does not change it.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            if not name.startswith(self.head_name + "."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode, and no parameter wants or has a gradient; afterwards modes, flags and gradients are back."""
        modes = [(child, child.training) for child in self.module.modules()]
        wishes = [(p, p.requires_grad, p.grad) for p in self.module.parameters()]
        self.module.eval().requires_grad_(False)
        for p, _, _ in wishes:
            p.grad = None
        try:
            yield
        finally:
            for child, mode in modes:
                child.training = mode
            for p, flag, grad in wishes:
                p.requires_grad_(flag)
                p.grad = grad

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Blocks compute their activations anew in the backward pass instead of keeping them.

        Raises:
            BackboneError: timm does not offer it for this model.
        """
        switch: Any = getattr(self.module, "set_grad_checkpointing", None)
        try:
            switch(True)
        except (TypeError, AssertionError):
            raise BackboneError(
                f"{self.name} knows no gradient checkpointing. Train without it, with a smaller batch or image size."
            ) from None
        try:
            yield
        finally:
            switch(False)

    def to(self, device: torch.device | str) -> "Backbone":
        """Move the weights; returns itself."""
        self.module.to(device)
        return self

    def copy(self) -> "Backbone":
        """An independent copy: threads and jobs never share a module."""
        return Backbone(self.name, copy.deepcopy(self.module), self.classes, self.transform, self.weights)
