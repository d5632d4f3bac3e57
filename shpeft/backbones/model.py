"""The backbone: a timm classifier with its classes, input transform and selectable weights."""

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

from shpeft.backbones.weight_info import WeightInfo, classifier, weight_infos
from shpeft.errors import BackboneError, ConfigError
from shpeft.images import InputTransform
from shpeft.support.image_size import ImageSize
from shpeft.tasks import SINGLE_LABEL, Task


class Backbone:
    """A timm classifier with its classes, its input transform and the weights that may be selected.

    Attributes:
        name: timm's name, or ``embedded``.
        module: the network, in evaluation mode; its parameters keep timm's names.
        classes: one name per output of the head.
        transform: turns an image into the module's input.
        weights: a phrase that says where the base weights come from.
        model_args: arguments of the timm model that differ from its defaults, as ``name=value``.
        remarks: sentences on what is not known about the weights.
        task: what the logits mean.
        head_name: the name of the head in the module.
        head: the classifier, a linear layer.
        occupied: whether a delta is applied (see :mod:`shpeft.delta`).

    Examples:
        >>> import shpeft
        >>> backbone = shpeft.create_backbone("test_vit", classes=["healthy", "ill"], weights="random", image_size=32)
        >>> backbone.weight_count, backbone.head_weight_count
        (300096, 130)
        >>> backbone.weight_infos("last:1")[0].name
        'blocks.5.attn.qkv.weight'
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        classes: Sequence[str],
        transform: InputTransform,
        weights: str,
        model_args: Sequence[str] = (),
        remarks: Sequence[str] = (),
        task: Task = SINGLE_LABEL,
    ) -> None:
        self.name = name
        self.module = module.eval()
        self.classes = tuple(classes)
        self.transform = transform
        self.weights = weights
        self.model_args, self.remarks = tuple(model_args), tuple(remarks)
        self.task = task
        self.head_name, self.head = classifier(name, module)
        self._infos = weight_infos(module, self.head_name)
        self.occupied = False

    @property
    def image_size(self) -> ImageSize:
        """The side of a square input in pixels, or ``HEIGHTxWIDTH``."""
        return self.transform.size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The channels, height and width of one input."""
        return self.transform.channels, *self.transform.shape

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.head.weight.device

    @property
    def weight_count(self) -> int:
        """The number of weights without the head; a budget given as a share refers to it."""
        return sum(info.numel for info in self._infos)

    @property
    def head_weight_count(self) -> int:
        """The number of weights of the head, biases included."""
        return sum(p.numel() for p in self.head.parameters())

    def __repr__(self) -> str:
        size = f"{self.weight_count:,} weights, {len(self.classes)} classes, {self.image_size} px"
        return f"Backbone({self.name!r}, {size}, {self.weights})"

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C) for normalized inputs (B, 3, H, W)."""
        logits: Tensor = self.module(inputs)
        return logits

    def features(self, inputs: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the input of the head, (B, D).

        A head that reads all tokens (B, N, D) is linear, so the logits are its output on one token or on their mean.

        Args:
            inputs: normalized inputs (B, 3, H, W), or whatever ``forward`` takes.
            forward: runs the model on ``inputs`` up to the logits. None: the whole model.

        Raises:
            BackboneError: the logits are not the head's output on one vector per image.
        """
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            logits = (forward or self)(inputs)
        finally:
            handle.remove()
        return seen[0] if seen[0].ndim == 2 else self._pooled(seen[0], logits)

    def _pooled(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Return the vectors (B, D) of which the logits are the head's output: the first tokens, or their means."""
        candidates = [tokens[:, 0], tokens.mean(1)] if tokens.ndim == 3 else []
        for features in candidates:
            own = nn.functional.linear(features, self.head.weight.to(features.dtype), self.head.bias)
            if torch.allclose(own, logits.to(own.dtype), rtol=1e-2, atol=1e-3):
                return features
        raise BackboneError(
            f"The head of {self.name} reads features of shape {tuple(tokens.shape)}, and its logits are those of no "
            "single vector per image. Choose a timm image classifier that pools before its head."
        )

    def weight_infos(self, scope: str = "all") -> tuple[WeightInfo, ...]:
        """Return the weights that may be selected, in the model's order; the head is never among them.

        Args:
            scope: ``all``; ``matrices`` (linear and convolutional weights inside blocks); ``blocks`` (these, and the
                blocks' biases, norms and LayerScale); or the matrices of the last n blocks, ``last:n``, or of the last
                p % of the blocks, ``last:p%``, rounded up.

        Raises:
            ConfigError: the scope is unknown.
        """
        if scope == "all":
            return self._infos
        matrices = tuple(info for info in self._infos if info.is_matrix)
        if scope == "matrices":
            return matrices
        if scope == "blocks":
            blocks = {info.block for info in matrices}
            return tuple(info for info in self._infos if info.block in blocks)
        match = re.fullmatch(r"last:([1-9]\d*)(%?)", scope)
        if not match:
            raise ConfigError(
                f"The scope {scope!r} is unknown. Use 'all', 'blocks', 'matrices', or of the last blocks 'last:n' or "
                "'last:p%'."
            )
        depths = sorted({info.depth for info in matrices})
        count = math.ceil(int(match[1]) / 100 * len(depths)) if match[2] else int(match[1])
        return tuple(info for info in matrices if info.depth in depths[-count:])

    def replace_head(self, head: nn.Linear, classes: Sequence[str], task: Task | None = None) -> None:
        """Replace the head by a classifier for other classes, without copying its weights.

        Args:
            head: weights (len(classes), D), where D is the number of input features of the present head.
            classes: one name per output.
            task: what its outputs mean; None: as before.

        Raises:
            BackboneError: the head has another shape; nothing is changed.
        """
        expected = (len(classes), self.head.in_features)
        if head.weight.shape != expected:
            raise BackboneError(
                f"A head of {self.name} for {', '.join(classes)} has weights of shape {expected}; "
                f"found {tuple(head.weight.shape)}. Give one output per class and one input per feature."
            )
        self.module.set_submodule(self.head_name, head)
        self.head, self.classes, self.task = head, tuple(classes), task or self.task
        self.__dict__.pop("parameters", None)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name, those of the head included."""
        return dict(self.module.named_parameters())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the base weights and buffers (names, types, shapes, bytes) without the head.

        It is computed once, and an applied delta does not change it.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            if not name.startswith(self.head_name + "."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def forget_fingerprint(self) -> None:
        """Compute the fingerprint again when it is next read: the base weights have changed for good."""
        self.__dict__.pop("fingerprint", None)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Set evaluation mode and turn gradients off; afterwards restore modes, flags and gradients."""
        modes = [(child, child.training) for child in self.module.modules()]
        flags = [(p, p.requires_grad, p.grad) for p in self.module.parameters()]
        self.module.eval().requires_grad_(False)
        for p, _, _ in flags:
            p.grad = None
        try:
            yield
        finally:
            for child, mode in modes:
                child.training = mode
            for p, flag, grad in flags:
                p.requires_grad_(flag)
                p.grad = grad

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Turn gradient checkpointing on: blocks recompute their activations in the backward pass.

        Raises:
            BackboneError: timm does not support it for this model.
        """
        if not self.can_checkpoint:
            raise BackboneError(
                f"{self.name} does not support gradient checkpointing. Use smaller batches or images instead."
            )
        switch: Any = self.module.set_grad_checkpointing
        switch(True)
        try:
            yield
        finally:
            switch(False)

    @property
    def can_checkpoint(self) -> bool:
        """Whether timm supports gradient checkpointing for this model."""
        switch: Any = getattr(self.module, "set_grad_checkpointing", None)
        try:
            switch(True)
            switch(False)
        except (TypeError, AssertionError):
            return False
        return True

    def to(self, device: torch.device | str) -> "Backbone":
        """Move the weights to a device and return this backbone."""
        self.module.to(device)
        return self

    def copy(self) -> "Backbone":
        """Return an independent copy; threads and jobs never share a module."""
        return Backbone(
            self.name,
            copy.deepcopy(self.module),
            self.classes,
            self.transform,
            self.weights,
            self.model_args,
            self.remarks,
            self.task,
        )
