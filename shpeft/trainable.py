"""A backbone with a delta in training: the k values and the head are all that an optimizer sees."""

from types import TracebackType

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.delta import Entries, Placement, SparseDelta
from shpeft.errors import SelectionError, did_you_mean
from shpeft.gradients import Kernel, Remove, Tap, attach, gather_and_free, tappable
from shpeft.probe import Head
from shpeft.selection import Support


class Trainable:
    """The backbone with a delta applied and exact gradients for the k values and the head alone.

    A context manager. Nothing is written back to the delta: take what is worth keeping with ``snapshot``. Normalisation
    statistics stay frozen (evaluation mode). Afterwards every bit of the backbone is as before.

    Attributes:
        values: (k,) the one leaf vector; its gradient is exact and nothing larger is ever kept.
        head: the head's parameters.
        demoted: parameters whose tap was never reached in a dry run and which are gathered instead (some models use a
            linear layer's weight without calling the layer).
    """

    def __init__(
        self,
        backbone: Backbone,
        delta: SparseDelta,
        kernel: Kernel | None = None,
        lr_scale: Tensor | None = None,
    ):
        """Prepare.

        Args:
            kernel: one for all linear layers instead of each layer's cheapest; the result is the same.
            lr_scale: (k,) what multiplies each value's learning rate: each step that an optimizer makes is multiplied
                by it, decoupled weight decay included.
        """
        self.backbone, self._delta, self._kernel, self._lr_scale = backbone, delta, kernel, lr_scale
        self._placement, self._frozen = Placement(backbone, delta), backbone.frozen()
        self._remove: list[Remove] = []
        self.demoted: tuple[str, ...] = ()

    def __enter__(self) -> "Trainable":
        self._placement.__enter__()
        self._frozen.__enter__()
        try:
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for remove in self._remove:
            remove()
        self._remove = []
        self._frozen.__exit__(None, None, None)
        self._placement.__exit__(None, None, None)

    def _begin(self) -> None:
        self.values = nn.Parameter(self._delta.values.detach().clone().to(self.backbone.device))
        self.values.grad = torch.zeros_like(self.values)
        if self._lr_scale is not None:
            self._lr_scale = self._lr_scale.to(self.values)
            self._before = self.values.detach().clone()
        self.head = list(self.backbone.head.parameters())
        for p in self.head:
            p.requires_grad_(True)
        self.write()
        self._attach(self._leaves(self.values.grad))

    def _leaves(self, grad: Tensor) -> dict[str, Tensor]:
        """One leaf for each parameter; they share memory with ``values``, and their gradients with its gradient."""
        support = self._delta.support
        sizes = list(support.counts().values())
        leaves = {}
        for name, v, part in zip(support.indices, self.values.detach().split(sizes), grad.split(sizes), strict=True):
            leaves[name] = v.requires_grad_(True)
            leaves[name].grad = part
        return leaves

    def _attach(self, leaves: dict[str, Tensor]) -> None:
        """Tap what can be tapped, and gather the rest; taps that a dry run never reaches are gathered too."""
        backbone, layers = self.backbone, tappable(self.backbone.module)
        indices = {name: index.to(backbone.device) for name, index in self._delta.support.indices.items()}

        def gather(name: str) -> None:
            self._remove.append(gather_and_free(backbone.parameters[name], indices[name], leaves[name]))

        for name in indices:
            if name not in layers:
                gather(name)
        taps = {
            name: Tap(layers[name], index, leaves[name], self._kernel)
            for name, index in indices.items()
            if name in layers
        }
        size, weight = backbone.image_size, backbone.head.weight
        image = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
        remove, missed = attach(backbone.module, taps.values(), lambda: backbone(image))
        self._remove += remove
        self.demoted = tuple(name for name, tap in taps.items() if tap in missed)
        for name in self.demoted:
            gather(name)

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
        if self._lr_scale is not None:
            with torch.no_grad():
                self.values.copy_(torch.lerp(self._before, self.values, self._lr_scale))
                self._before.copy_(self.values)
        self._placement.write(self.values)

    def snapshot(self) -> tuple[Tensor, Head]:
        """Copies of the present values and head, on the CPU."""
        return self.values.detach().cpu().clone(), Head.of(self.backbone)


LR_SCALES = ("uniform", "magnitude", "rms")


def lr_scale(backbone: Backbone, support: Support, rule: str) -> Tensor | None:
    """What multiplies the learning rate of each selected weight, (k,), of mean 1; None for ``uniform``.

    Args:
        rule: ``magnitude`` steps in proportion to |w|, ``rms`` to the root mean square of the weight's parameter.

    Raises:
        SelectionError: an unknown rule.
    """
    if rule not in LR_SCALES:
        raise SelectionError(f"There is no rule {rule!r} for learning rates. {did_you_mean(rule, LR_SCALES)}")
    if rule == "uniform":
        return None
    scales = []
    for name, index in support.indices.items():
        w = backbone.parameters[name].detach().float().cpu()
        picked = Entries(w, index).read().abs()
        scales.append(picked if rule == "magnitude" else torch.full_like(picked, float(w.square().mean().sqrt())))
    scale = torch.cat(scales)
    return scale / scale.mean()
