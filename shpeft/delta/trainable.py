"""A backbone with a delta in training: an optimizer sees the k values and the head, nothing else."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from shpeft import equations
from shpeft.backbones import Backbone
from shpeft.delta.kernels import Kernel
from shpeft.delta.sparse_delta import AppliedDelta, FlatEntries, SparseDelta
from shpeft.delta.sparse_gradients import ImageGradients, Tap, attach, gather_and_free, tappable
from shpeft.errors import SelectionError, did_you_mean
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support


class Trainable:
    """A backbone with a delta applied, and exact gradients for the k values and the head alone.

    A context manager; ``open`` and ``close`` do the same. The delta itself is not changed: take the trained values with
    ``snapshot``. Normalization statistics stay frozen (evaluation mode). Afterwards every bit of the backbone is as
    before.

    Attributes:
        values: (k,) the leaf vector v; its gradient is exact, and no larger gradient is kept.
        head: the head's parameters.
        demoted: parameters whose tap the dry run never reached, and whose whole gradient is formed instead: some models
            use a linear layer's weight without calling the layer.
    """

    def __init__(
        self,
        backbone: Backbone,
        delta: SparseDelta,
        kernel: Kernel | None = None,
        lr_scale: Tensor | None = None,
        each: ImageGradients | None = None,
    ):
        """Check that the delta belongs to the backbone; nothing is written yet.

        Args:
            kernel: one for all linear layers instead of the fastest for each; the results are equal but for rounding.
            lr_scale: (k,) factors of each value's learning rate. They multiply every optimizer step, decoupled weight
                decay included.
            each: receives the gradients of single images, where they are wanted.

        Raises:
            BaseMismatch, ClassMismatch: see ``SparseDelta.check``.
        """
        self.backbone, self._delta, self._kernel, self._lr_scale = backbone, delta, kernel, lr_scale
        self._each = each
        self._applied = AppliedDelta(backbone, delta)
        self._cleanup = ExitStack()
        self.demoted: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Trainable({self._delta!r})"

    def open(self) -> "Trainable":
        """Apply the delta, freeze the backbone and attach the taps; returns itself.

        Raises:
            DeltaError: another delta is applied.
        """
        with ExitStack() as stack:
            stack.enter_context(self._applied)
            stack.enter_context(self.backbone.frozen())
            self._begin(stack)
            self._cleanup = stack.pop_all()
        return self

    def close(self) -> None:
        """Remove the taps, unfreeze the backbone and restore its weights."""
        self._cleanup.close()

    def __enter__(self) -> "Trainable":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, cleanup: ExitStack) -> None:
        self.values = nn.Parameter(self._delta.values.detach().clone().to(self.backbone.device))
        self.values.grad = torch.zeros_like(self.values)
        if self._lr_scale is not None:
            self._lr_scale = self._lr_scale.to(self.values)
            self._before = self.values.detach().clone()
        self.head = list(self.backbone.head.parameters())
        for p in self.head:
            p.requires_grad_(True)
        self.write()
        self._attach(self._leaves(self.values.grad), cleanup)

    def _leaves(self, grad: Tensor) -> dict[str, Tensor]:
        """Return one leaf for each parameter; they share memory with ``values``, their gradients with its gradient."""
        support = self._delta.support
        sizes = list(support.counts().values())
        leaves = {}
        for name, v, part in zip(support.indices, self.values.detach().split(sizes), grad.split(sizes), strict=True):
            leaves[name] = v.requires_grad_(True)
            leaves[name].grad = part
        return leaves

    def _attach(self, leaves: dict[str, Tensor], cleanup: ExitStack) -> None:
        """Tap the linear layers that a dry run reaches, and gather the gradients of all other parameters."""
        backbone, layers = self.backbone, tappable(self.backbone.module)
        indices = {name: index.to(backbone.device) for name, index in self._delta.support.indices.items()}

        def gather(name: str) -> None:
            cleanup.callback(gather_and_free(backbone.parameters[name], indices[name], leaves[name]))

        for name in indices:
            if name not in layers:
                gather(name)
        taps = {
            name: Tap(layers[name], index, leaves[name], self._kernel, self._each)
            for name, index in indices.items()
            if name in layers
        }
        weight = backbone.head.weight
        image = torch.zeros(1, *backbone.input_shape, device=weight.device, dtype=weight.dtype)
        removals, missed = attach(backbone.module, taps.values(), lambda: backbone(image))
        for remove in removals:
            cleanup.callback(remove)
        self.demoted = tuple(name for name, tap in taps.items() if tap in missed)
        self._in_order = list(leaves.values())
        self._untapped = sorted((indices.keys() - taps.keys()) | set(self.demoted))
        for name in self.demoted:
            gather(name)

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer trains: the values and the head's parameters."""
        return [self.values, *self.head]

    def image_gradients(self) -> Tensor:
        """Return the gradients of the values for each image of the last backward pass, (B, k).

        Raises:
            SelectionError: a selected weight is in no tapped linear layer, where only the sum over images is known.
        """
        assert self._each is not None, "the trainable was made without `each`"
        if self._untapped:
            raise SelectionError(
                "The gradient of a single image is known for the weights of linear layers alone, and "
                f"{self._untapped[0]} is none. Choose the scope 'matrices', and a backbone of linear layers."
            )
        return torch.cat([self._each.parts[id(leaf)] for leaf in self._in_order], 1)

    def zero_grad(self) -> None:
        """Clear the gradients; that of the values in place, since the taps accumulate into it."""
        assert self.values.grad is not None
        self.values.grad.zero_()
        for p in self.head:
            p.grad = None

    def write(self) -> None:
        """Write the current values into the model (``equations.moved``); call it after each optimizer step."""
        if self._lr_scale is not None:
            with torch.no_grad():
                self.values.copy_(torch.lerp(self._before, self.values, self._lr_scale))
                self._before.copy_(self.values)
        self._applied.write(self.values)

    @torch.no_grad()
    def load(self, tensors: Sequence[Tensor]) -> None:
        """Replace ``parameters()`` and write them into the model; learning rates do not scale this change."""
        for p, tensor in zip(self.parameters(), tensors, strict=True):
            p.copy_(tensor)
        if self._lr_scale is not None:
            self._before.copy_(self.values)
        self._applied.write(self.values)

    def snapshot(self, tensors: Sequence[Tensor] | None = None) -> tuple[Tensor, Head]:
        """Return the values (k,) and the head as copies on the CPU.

        Args:
            tensors: what ``parameters()`` held at another time; None: what it holds now.
        """
        values, weight, *rest = (t.detach().cpu().clone() for t in (self.parameters() if tensors is None else tensors))
        bias = rest[0] if rest else torch.zeros(len(weight))
        return values, Head(weight, bias)


LR_SCALES = ("uniform", "magnitude", "rms", "sensitivity")
"""Rules for the learning rates of single weights; see ``lr_scale``."""


def lr_scale(backbone: Backbone, support: Support, rule: str, squared_gradients: Tensor | None = None) -> Tensor | None:
    """Return factors of the selected weights' learning rates, (k,) with mean 1; None for ``uniform``.

    Args:
        rule: ``magnitude`` steps in proportion to |w|, ``rms`` to the root mean square of the weight's parameter,
            ``sensitivity`` as ``equations.sensitivity_scale``.
        squared_gradients: F of the selected weights (k,), for ``sensitivity``, by
            ``importance.scores.squared_gradients``.

    Raises:
        SelectionError: an unknown rule, or ``sensitivity`` without gradients.
    """
    if rule not in LR_SCALES:
        raise SelectionError(f"There is no learning rate rule {rule!r}. {did_you_mean(rule, LR_SCALES)}")
    if rule == "uniform":
        return None
    if rule == "sensitivity":
        if squared_gradients is None:
            raise SelectionError(
                "Steps by sensitivity need the gradients of a scoring pass. Choose the score hybrid, gradient or "
                "fisher, or uniform steps."
            )
        return equations.sensitivity_scale(squared_gradients.float())
    scales = []
    for name, index in support.indices.items():
        w = backbone.parameters[name].detach().float().cpu()
        picked = FlatEntries(w, index).read().abs()
        scales.append(picked if rule == "magnitude" else torch.full_like(picked, float(w.square().mean().sqrt())))
    scale = torch.cat(scales)
    return scale / scale.mean()
