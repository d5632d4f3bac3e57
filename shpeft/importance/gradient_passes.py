"""Passes over the training images that scores are made of: the terms of gradients, and the norms of layers' inputs.

The mean Ē of a gradient's term is taken over batches, or over images: with g the gradient of one image's loss, Ē g² is
the diagonal of the empirical Fisher information, and depends on no batch size. Or g is the gradient of the mean loss of
all images at once, so that what pulls a weight to and fro cancels. A gradient's dense form is only alive while its term
is added. Every pass leaves the model as it was.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.functional import cross_entropy
from torch.nn.grad import conv2d_weight
from torch.utils.hooks import RemovableHandle

from shpeft import equations
from shpeft.datasets import Split
from shpeft.equations import Norm
from shpeft.feed import Feed
from shpeft.progress import Progress, silent

Expectation = Literal["batch", "image", "all"]
EXPECTATIONS: tuple[Expectation, ...] = ("batch", "image", "all")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Pass:
    """Which images are looked at, and how.

    Attributes:
        order: rows of the split.
        batch_size: how many images the model sees at a time.
    """

    feed: Feed
    split: Split
    order: Sequence[int]
    batch_size: int = 16
    progress: Progress = silent

    def run(self, step: Callable[[Tensor, Tensor], object]) -> int:
        """Call ``step(inputs, labels)`` for each batch; returns how many batches there were."""
        done = count = 0
        for inputs, target in self.feed.batches(self.split, self.batch_size, order=self.order):
            self.progress("importance of the weights", done, len(self.order))
            step(inputs, target)
            done, count = done + len(target), count + 1
        self.progress("importance of the weights", done, len(self.order))
        return count

    def backward(self, reduction: str) -> int:
        """Run with the gradient of the cross-entropy, whose ``reduction`` over a batch is ``mean`` or ``sum``."""

        def step(inputs: Tensor, target: Tensor) -> None:
            with torch.enable_grad():
                cross_entropy(self.feed(inputs), target, reduction=reduction).backward()

        return self.run(step)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor as float32, or as float64 when that is what it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def mean_gradient(over: Pass, names: Sequence[str], norm: Norm, expectation: Expectation = "batch") -> Tensors:
    """Ē ``equations.task_specific(g)`` for each named parameter: float32 or wider, in its shape, on the processor.

    With ``all`` there is one g, the gradient of the mean loss of all images. Over images, the parts that a batch's
    images have in each gradient are computed where every named parameter is one of an ordinary layer; elsewhere the
    model sees the images one by one, which gives the same.

    Raises:
        SelectionError: a parameter that lies below what is fed.
    """
    feed = over.feed
    feed.check(names)
    parameters = {name: feed.backbone.parameters[name] for name in names}
    with feed.backbone.frozen(), ExitStack() as stack:
        layers = ordinary(over, parameters) if expectation == "image" else None
        if layers is not None:
            totals = {name: _wide_zeros(p) for name, p in parameters.items()}
            for key, layer in layers.items():
                stack.callback(_ByImage(key, layer, totals, norm).attach().remove)
            over.backward("sum")
            count = len(over.order)
        else:
            totals = {name: torch.zeros_like(at_least_float32(p.detach())) for name, p in parameters.items()}
            for name, p in parameters.items():
                hook = _accumulate(totals[name], None if expectation == "all" else norm)
                stack.callback(p.requires_grad_(True).register_post_accumulate_grad_hook(hook).remove)
            if expectation == "all":
                over.backward("sum")
                risk = {name: total / len(over.order) for name, total in totals.items()}
                return {name: equations.task_specific(g, norm).cpu().contiguous() for name, g in risk.items()}
            count = (over if expectation == "batch" else replace(over, batch_size=1)).backward("mean")
    return {name: (total / count).cpu().contiguous() for name, total in totals.items()}


def _accumulate(total: Tensor, norm: Norm | None) -> Callable[[Tensor], None]:
    """Adds each gradient's term to the total, or the gradient itself where there is no norm."""

    def hook(p: Tensor) -> None:
        assert p.grad is not None
        g = p.grad.to(total.dtype)
        if norm is None:
            total.add_(g)
        elif norm == "l1":
            total.add_(g.abs())  # not in place: autograd may still need the memory of this gradient
        else:
            total.addcmul_(g, g)
        p.grad = None

    return hook


def _wide_zeros(p: Tensor) -> Tensor:
    """Zeros like ``p``, a matrix with its longer side outermost in memory: its products are faster so."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    if p.ndim == 2 and p.shape[1] > p.shape[0]:
        return p.new_zeros(p.shape[::-1], dtype=dtype).t()
    return p.new_zeros(p.shape, dtype=dtype)


class _ByImage:
    """Adds the terms of a layer's gradients, one image after another, when the backward pass reaches the layer."""

    def __init__(self, key: str, layer: nn.Module, totals: Tensors, norm: Norm):
        self.layer, self.norm = layer, norm
        self.weight, self.bias = totals.get(f"{key}.weight"), totals.get(f"{key}.bias")
        self._input: Tensor | None = None

    def attach(self) -> RemovableHandle:
        return self.layer.register_forward_hook(self._see)

    def _see(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        self._input = args[0].detach()
        if not y.requires_grad:  # the first of all; a copy, since the model may change in place what is no leaf
            y = y.detach().requires_grad_().clone()
        y.register_hook(self._arrive)
        return y

    def _arrive(self, gy: Tensor) -> None:
        x, self._input = self._input, None
        assert x is not None
        if self.weight is not None:
            g = torch.empty_like(self.weight)
            for gy_i, x_i in zip(gy.to(g.dtype), x.to(g.dtype), strict=True):
                self._add(self.weight, self._weight_gradient(gy_i, x_i, g))
        if self.bias is not None:
            for gy_i in gy.to(self.bias.dtype):
                linear = isinstance(self.layer, nn.Linear)
                self._add(self.bias, gy_i.reshape(-1, gy_i.shape[-1]).sum(0) if linear else gy_i.sum((1, 2)))

    def _weight_gradient(self, gy: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
        """One image's, from gy (..., out) and x (..., in), or (out, H', W') and (in, H, W)."""
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            return conv2d_weight(
                x[None], layer.weight.shape, gy[None], layer.stride, layer.padding, layer.dilation, layer.groups
            )
        return torch.mm(gy.reshape(-1, gy.shape[-1]).t(), x.reshape(-1, x.shape[-1]), out=buffer)

    def _add(self, total: Tensor, g: Tensor) -> None:
        """Spoils g, which is nobody else's."""
        if self.norm == "l1":
            total.add_(g.abs_())
        else:
            total.addcmul_(g, g)


def ordinary(over: Pass, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Module] | None:
    """The layers that own the parameters, if all are ordinary, by name: their images' gradients can be told apart.

    A layer is ordinary when it is a plain linear or convolutional one, is called once with the images outermost, and
    its parameters are not used besides. A dry run over three images tells.
    """
    module = over.feed.backbone.module
    layers = {key: module.get_submodule(key) for key in {name.rpartition(".")[0] for name in parameters}}
    if not all(_plain(layer) for layer in layers.values()):
        return None
    images = (list(over.order) * 3)[:3]
    batches: dict[nn.Module, list[tuple[int, int]]] = {layer: [] for layer in layers.values()}
    uses: Counter[Tensor] = Counter()

    def see(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        batches[layer].append((len(args[0]), len(y)))

    def step(inputs: Tensor, _: Tensor) -> None:
        with torch.enable_grad():
            uses.update(_leaves(over.feed(inputs)))

    with over.feed.backbone.frozen(), ExitStack() as stack:
        for layer in layers.values():
            stack.callback(layer.register_forward_hook(see).remove)
        for p in parameters.values():
            p.requires_grad_(True)
        replace(over, order=images, batch_size=3, progress=silent).run(step)
    once = all(seen == [(3, 3)] for seen in batches.values()) and all(uses[p] == 1 for p in parameters.values())
    return layers if once else None


def _plain(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is nn.Linear


def _leaves(output: Tensor) -> list[Tensor]:
    """The leaves of a graph, each as often as it is used."""
    found: list[Tensor] = []
    seen: set[Node] = set()
    ahead = [output.grad_fn]
    while ahead:
        node = ahead.pop()
        for following, _ in node.next_functions if node is not None else ():
            if following is None or following in seen:
                continue
            leaf = getattr(following, "variable", None)
            if leaf is not None:
                found.append(leaf)
            else:
                seen.add(following)
                ahead.append(following)
    return found


@torch.no_grad()
def input_norms(over: Pass, names: Sequence[str]) -> Tensors:
    """‖x_j‖, the L2 norm of each input feature over all images, (in,), of the layers whose weights these are.

    Weights of which no layer's input is seen are missing from the result. Forward passes only.
    """
    module = over.feed.backbone.module
    over.feed.check(names)
    squares: Tensors = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = at_least_float32(args[0].detach())
            features = x.flatten(0, -2) if isinstance(layer, nn.Linear) else x.movedim(1, -1).flatten(0, -2)
            squares[name] = squares.get(name, 0) + features.square().sum(0)

        return see

    with ExitStack() as stack:
        for key, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and f"{key}.weight" in names:
                stack.callback(layer.register_forward_pre_hook(hook(f"{key}.weight")).remove)
        over.run(lambda inputs, _: over.feed(inputs))
    return {name: total.sqrt() for name, total in squares.items()}
