"""Passes over the training images that scores are made of: Ē|g| and Ē g² of gradients, and norms of layers' inputs.

Ē g² over single images is the diagonal of the empirical Fisher information (no sampled labels: those of the data are
used), and does not depend on the batch size. Times |w| or w² the same means are the first-order Taylor criterion of
pruning (Molchanov et al., 2017). A dense gradient exists only until it is added to the mean, one parameter at a time.
Every pass leaves the model unchanged.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.grad import conv2d_weight
from torch.utils.hooks import RemovableHandle

from shpeft import equations
from shpeft.config.schema import Expectation
from shpeft.datasets import Split
from shpeft.equations import Norm
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import CrossFittedHeads
from shpeft.support.progress import Progress, silent
from shpeft.support.team import Team
from shpeft.tasks.base import Reduction

EXPECTATIONS: tuple[Expectation, ...] = get_args(Expectation)
"""What the mean Ē is taken over: gradients of batches, of single images, or the one gradient of all images."""

Tensors = dict[str, Tensor]
"""Tensors by parameter name."""


@dataclass(frozen=True, eq=False)
class ScoringPass:
    """The images that scores are estimated on, and how the model runs on them.

    Attributes:
        order: the rows of the split, in the order in which they are used.
        batch_size: images per forward pass.
        heads: under which gradients are taken, each of the images that it leaves out; None: the backbone's own.
    """

    forward_pass: ForwardPass
    split: Split
    order: Sequence[int]
    batch_size: int = 16
    progress: Progress = silent
    heads: CrossFittedHeads | None = None

    def __repr__(self) -> str:
        return f"ScoringPass({len(self.order)} images of {self.split.name} in batches of {self.batch_size})"

    def share(self, whole_batches: bool = False) -> "ScoringPass":
        """Return the part of these images that this process of the team takes; alone it takes all.

        Args:
            whole_batches: take whole batches, for means over batches; else every n-th image.
        """
        team = self.forward_pass.team
        rows = enumerate(self.order)
        group = self.batch_size if whole_batches else 1
        return replace(self, order=[row for at, row in rows if at // group % team.size == team.rank])

    def run(self, step: Callable[[Tensor, Tensor], object]) -> None:
        """Call ``step(inputs, labels)`` for each batch."""
        done = 0
        for inputs, target in self.forward_pass.batches(self.split, self.batch_size, order=self.order):
            self.progress("importance of the weights", done, len(self.order))
            step(inputs, target)
            done += len(target)
        self.progress("importance of the weights", done, len(self.order))

    def backward(self, reduction: Reduction) -> None:
        """Run the backward pass of each batch's loss, reduced by ``mean`` or ``sum``."""

        def step(inputs: Tensor, target: Tensor) -> None:
            with torch.enable_grad():
                self.split.task.loss(self.forward_pass(inputs), target, reduction).backward()

        if self.heads is None:
            self.run(step)
            return
        for head, rows in self.heads.parts(self.order):
            with head.applied(self.forward_pass.backbone):
                replace(self, order=rows).run(step)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor as float32, or as float64 if it is float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def task_specific_scores(
    scoring: ScoringPass, names: Sequence[str], norm: Norm, expectation: Expectation = "batch"
) -> Tensors:
    """Return Ē|g| (L1) or Ē g² (L2) of each named parameter: Ē ``equations.task_specific(g)``.

    Per-image gradients of a batch are computed side by side where every named parameter belongs to a layer of
    ``per_image_gradient_layers``. Elsewhere the model runs on one image at a time, with the same result.

    Args:
        names: the parameters to score.
        expectation: ``batch``: g is the gradient of a batch's mean loss, and Ē the mean over batches. ``image``: g is
            the gradient of one image's loss, and Ē g² the empirical Fisher diagonal. ``all``: g is the gradient of the
            mean loss of all images, in which opposite gradients cancel.

    Returns:
        for each parameter a tensor of its shape, float32 or wider, on the CPU.

    Raises:
        SelectionError: a parameter lies in a part of the model whose features are cached.
    """
    forward_pass = scoring.forward_pass
    forward_pass.check(names)
    parameters = {name: forward_pass.backbone.parameters[name] for name in names}
    with forward_pass.backbone.frozen(), ExitStack() as stack:
        layers = per_image_gradient_layers(scoring, parameters) if expectation == "image" else None
        own, finish = scoring.share(whole_batches=expectation == "batch"), partial(_summed, forward_pass.team)
        if layers is not None:
            totals = {name: _wide_zeros(p) for name, p in parameters.items()}
            for key, layer in layers.items():
                stack.callback(_PerImageGradients(key, layer, totals, norm).attach().remove)
            own.backward("sum")
            count = len(scoring.order)
        else:
            totals = {name: torch.zeros_like(at_least_float32(p.detach())) for name, p in parameters.items()}
            for name, p in parameters.items():
                hook = _accumulate(totals[name], None if expectation == "all" else norm)
                stack.callback(p.requires_grad_(True).register_post_accumulate_grad_hook(hook).remove)
            if expectation == "all":
                own.backward("sum")
                count = len(scoring.order)
                return finish(totals, lambda total: equations.task_specific(total.div_(count), norm))
            size = scoring.batch_size if expectation == "batch" else 1
            replace(own, batch_size=size).backward("mean")
            count = math.ceil(len(scoring.order) / size)
    return finish(totals, lambda total: total.div_(count))


def _summed(team: Team, totals: Tensors, finish: Callable[[Tensor], Tensor]) -> Tensors:
    """Return ``finish`` of every total, summed over the team, on the CPU.

    The totals are emptied on the way: one parameter at a time is in memory twice.
    """
    return {name: finish(team.sum(totals.pop(name))).cpu().contiguous() for name in list(totals)}


def _accumulate(total: Tensor, norm: Norm | None) -> Callable[[Tensor], None]:
    """Return a hook that adds |g| or g², or without a norm g itself, to the total and frees the gradient."""

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
    """Return zeros like ``p``, a matrix with its longer side outermost in memory, which makes products faster."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    if p.ndim == 2 and p.shape[1] > p.shape[0]:
        return p.new_zeros(p.shape[::-1], dtype=dtype).t()
    return p.new_zeros(p.shape, dtype=dtype)


class _PerImageGradients:
    """Adds |g| or g² of a layer's per-image gradients to the totals when the backward pass reaches the layer."""

    def __init__(self, key: str, layer: nn.Module, totals: Tensors, norm: Norm):
        self.layer, self.norm = layer, norm
        self.weight, self.bias = totals.get(f"{key}.weight"), totals.get(f"{key}.bias")
        self._input: Tensor | None = None

    def attach(self) -> RemovableHandle:
        return self.layer.register_forward_hook(self._keep_input)

    def _keep_input(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        self._input = args[0].detach()
        if not y.requires_grad:  # nothing below is trained; a clone, since the model may change it in place
            y = y.detach().requires_grad_().clone()
        y.register_hook(self._add_gradients)
        return y

    def _add_gradients(self, gy: Tensor) -> None:
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
        """Return one image's gradient from gy (..., out) and x (..., in), or (out, H', W') and (in, H, W)."""
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            g: Tensor = conv2d_weight(
                x[None], layer.weight.shape, gy[None], layer.stride, layer.padding, layer.dilation, layer.groups
            )
            return g
        return torch.mm(gy.reshape(-1, gy.shape[-1]).t(), x.reshape(-1, x.shape[-1]), out=buffer)

    def _add(self, total: Tensor, g: Tensor) -> None:
        """Add |g| or g² to the total; overwrites g in place."""
        if self.norm == "l1":
            total.add_(g.abs_())
        else:
            total.addcmul_(g, g)


def per_image_gradient_layers(scoring: ScoringPass, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Module] | None:
    """Return the layers of these parameters, by name, if each allows per-image gradients; None if any does not.

    A layer does if it is a plain linear or convolutional layer, is called exactly once with the images as the first
    dimension, and its parameters are used nowhere else. A dry run on three images checks it.
    """
    module = scoring.forward_pass.backbone.module
    layers = {key: module.get_submodule(key) for key in {name.rpartition(".")[0] for name in parameters}}
    if not all(_plain(layer) for layer in layers.values()):
        return None
    images = (list(scoring.order) * 3)[:3]
    batches: dict[nn.Module, list[tuple[int, int]]] = {layer: [] for layer in layers.values()}
    uses: Counter[Tensor] = Counter()

    def note_batch(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        batches[layer].append((len(args[0]), len(y)))

    def step(inputs: Tensor, _: Tensor) -> None:
        with torch.enable_grad():
            uses.update(_leaves(scoring.forward_pass(inputs)))

    with scoring.forward_pass.backbone.frozen(), ExitStack() as stack:
        for layer in layers.values():
            stack.callback(layer.register_forward_hook(note_batch).remove)
        for p in parameters.values():
            p.requires_grad_(True)
        replace(scoring, order=images, batch_size=3, progress=silent).run(step)
    once = all(seen == [(3, 3)] for seen in batches.values()) and all(uses[p] == 1 for p in parameters.values())
    return layers if once else None


def _plain(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is nn.Linear


def _leaves(output: Tensor) -> list[Tensor]:
    """Return the leaves of an autograd graph, each as often as it is used."""
    leaves: list[Tensor] = []
    seen: set[Node] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        for following, _ in node.next_functions if node is not None else ():
            if following is None or following in seen:
                continue
            leaf = getattr(following, "variable", None)
            if leaf is not None:
                leaves.append(leaf)
            else:
                seen.add(following)
                stack.append(following)
    return leaves


@torch.no_grad()
def input_norms(scoring: ScoringPass, names: Sequence[str]) -> Tensors:
    """Return ‖x_j‖, the L2 norm of each input feature over all images, (in,), for each named weight.

    Weights that belong to no linear or convolutional layer, or to one that is never called, are missing. Forward passes
    only.
    """
    module = scoring.forward_pass.backbone.module
    scoring.forward_pass.check(names)
    squares: Tensors = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add_squares(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = at_least_float32(args[0].detach())
            features = x.flatten(0, -2) if isinstance(layer, nn.Linear) else x.movedim(1, -1).flatten(0, -2)
            squares[name] = squares.get(name, 0) + features.square().sum(0)

        return add_squares

    with ExitStack() as stack:
        for key, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and f"{key}.weight" in names:
                stack.callback(layer.register_forward_pre_hook(hook(f"{key}.weight")).remove)
        own = scoring.share()
        (own if own.order else replace(scoring, order=scoring.order[:1])).run(
            lambda inputs, _: own.forward_pass(inputs)
        )
    if not own.order:  # it takes part in the sum, of the shapes that one image has shown
        squares = {name: torch.zeros_like(total) for name, total in squares.items()}
    return {name: own.forward_pass.team.sum(total).sqrt() for name, total in squares.items()}
