"""Exact gradients of the selected weights without a dense gradient: taps on linear layers, gather-and-free elsewhere.

A tap leaves the layer as it is and passes its *output* through an identity whose backward hands the gradient on
unchanged and computes ∂L/∂v_j = Σ_n gy[n, row_j] · x[n, col_j] (``equations.sparse_gradient``). The columns of x come,
in this order, from memory that autograd holds anyway, from a copy of the columns, or from a cheap activation that is
computed again: saved activations stay close to those of the frozen model. For every other selected parameter
(convolution, norm, bias, embedding) autograd forms the whole gradient, of which the selected entries are taken and the
rest is freed at once.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from shpeft.delta.activation_memory import observe_inputs
from shpeft.delta.kernels import Kernel, SampledProduct, columns_of

COPIES = 0.04
"""Memory for copies of columns, as a fraction of what a frozen model saves for its backward pass. A copy is taken while
the input is in the processor's cache, which is faster than to compute the columns again; smaller copies go first."""

ELEMENTWISE = (nn.GELU, nn.SiLU)
"""Recomputable modules of which single columns can be computed."""

Remove = Callable[[], None]
"""Removes a hook."""

Restore = Callable[[Tensor], Tensor]
"""Returns the needed columns of a layer's input, (N, columns), from what was saved."""


class ImageGradients:
    """The gradients of each image by itself, which taps fill in while ``images`` is set.

    Attributes:
        images: B of the batch that runs; 0: taps compute sums alone.
        parts: for each tapped parameter, by its leaf, (B, k) of the batch.
    """

    def __init__(self) -> None:
        self.images = 0
        self.parts: dict[int, Tensor] = {}

    def add(self, leaf: Tensor, product: SampledProduct, gy: Tensor, x: Tensor) -> Tensor:
        """Note the gradients of a layer's images, and return their sum (k,); the tokens of an image lie together."""
        b = self.images
        each = product.by_image(gy.reshape(b, -1, gy.shape[-1]), x.reshape(b, -1, x.shape[-1]), leaf.dtype)
        self.parts[id(leaf)] = self.parts[id(leaf)] + each if id(leaf) in self.parts else each
        return each.sum(0)


class SparseTap(torch.autograd.Function):
    """The identity on a linear layer's output, whose backward computes the gradient of the selected weights."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        saved: Tensor,
        v: Tensor,
        product: SampledProduct,
        restore: Restore,
        each: ImageGradients | None = None,
    ) -> Tensor:
        """Return y; ``restore(saved)`` are the columns of x that ``product`` needs, (N, columns)."""
        ctx.save_for_backward(saved)
        ctx.product, ctx.restore, ctx.dtype = product, restore, v.dtype
        ctx.each, ctx.leaf = each, None if each is None else v
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        """Return gy unchanged, and the gradient of v."""
        (saved,) = ctx.saved_tensors
        if ctx.each is not None and ctx.each.images:
            return gy, None, ctx.each.add(ctx.leaf, ctx.product, gy, ctx.restore(saved)), None, None, None
        grad = ctx.product(gy.reshape(-1, gy.shape[-1]), ctx.restore(saved), ctx.dtype)
        return gy, None, grad, None, None, None


class RecomputedInput:
    """A cheap module whose output is the input of tapped layers; it holds its own input until all have taken it."""

    def __init__(self, module: nn.Module):
        self.module, self.taps = module, 0
        self._input: Tensor | None = None
        self._output = self._left = 0

    def note(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Remember the input: a forward hook of the module."""
        if torch.is_grad_enabled():
            self._input, self._output, self._left = args[0].detach(), output.data_ptr(), self.taps

    def take(self, x: Tensor) -> Tensor | None:
        """Return the input from which x was computed; None if x was not computed by the module."""
        origin = self._input if self._input is not None and x.data_ptr() == self._output else None
        self._left -= 1
        if self._left <= 0:
            self._input = None
        return origin

    def restore(self, columns: Tensor) -> Restore:
        """Return a function that computes columns of the output again, under the current autocast."""
        module, device = self.module, columns.device.type
        autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def compute(saved: Tensor) -> Tensor:
            with torch.autocast(device, dtype, autocast, cache_enabled=False):
                if isinstance(module, ELEMENTWISE):
                    return module.forward(columns_of(_rows(saved), columns))
                return columns_of(_rows(module.forward(saved)), columns)

        return compute


def _rows(x: Tensor) -> Tensor:
    """Reshape (..., features) to (N, features)."""
    return x.reshape(-1, x.shape[-1])


class Tap:
    """Adds the gradient of selected entries of ``layer.weight`` to ``leaf.grad`` whenever the layer runs.

    Attributes:
        held: whether autograd holds the layer's input anyway, so that saving it costs nothing.
        source: the cheap module that computes the layer's input, if its columns are to be computed again.
    """

    def __init__(
        self,
        layer: nn.Linear,
        index: Tensor,
        leaf: Tensor,
        kernel: Kernel | None = None,
        each: ImageGradients | None = None,
    ):
        """Prepare the product.

        Args:
            index: (k,) flat indices into the weight, ascending.
            leaf: (k,) the values whose gradient is computed.
            kernel: how; None: the fastest for this layer.
            each: receives the gradients of single images, where they are wanted.
        """
        self.layer, self.leaf, self.each = layer, leaf, each
        self.product = SampledProduct(index, (layer.out_features, layer.in_features), kernel)
        self.held = False
        self.source: RecomputedInput | None = None

    def attach(self) -> Remove:
        """Attach the tap; returns a function that removes it."""
        return self.layer.register_forward_hook(self._tap).remove

    def _tap(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return y
        x, columns = args[0].detach(), self.product.columns
        if torch.compiler.is_compiling():  # the compiler decides what to save and what to compute again
            return self._identity(y, columns_of(_rows(x), columns), _unchanged)
        if self.source is not None and (origin := self.source.take(args[0])) is not None:
            return self._identity(y, origin, self.source.restore(columns))
        if self.held:
            return self._identity(y, x, lambda saved: columns_of(_rows(saved), columns))
        return self._identity(y, columns_of(_rows(x), columns), _unchanged)

    def _identity(self, y: Tensor, saved: Tensor, restore: Restore) -> Tensor:
        tapped: Tensor = SparseTap.apply(y, saved, self.leaf, self.product, restore, self.each)
        return tapped


def _unchanged(saved: Tensor) -> Tensor:
    return saved


def attach(module: nn.Module, taps: Iterable[Tap], dry_run: Callable[[], object]) -> tuple[list[Remove], list[Tap]]:
    """Attach taps to a model, each with the cheapest exact way to keep its layer's input.

    Args:
        dry_run: runs the model once, on any images. It shows which layers are never called (a model may use a layer's
            weight without calling the layer) and which inputs autograd holds anyway.

    Returns:
        functions that remove what was attached, and the taps of layers that are never called, which are not attached.
    """
    by_layer: dict[nn.Module, Tap] = {tap.layer: tap for tap in taps}
    columns = {layer: len(tap.product.columns) for layer, tap in by_layer.items()}
    observed, saved = observe_inputs(module, columns, dry_run)
    spare = COPIES * saved
    sources: dict[nn.Module, RecomputedInput] = {}
    for layer, seen in sorted(observed.items(), key=lambda item: item[1].copy_bytes):
        tap = by_layer[layer]
        tap.held = seen.held
        if seen.held:
            continue
        spare -= seen.copy_bytes
        if spare < 0 and seen.recompute is not None:
            tap.source = sources.setdefault(seen.recompute, RecomputedInput(seen.recompute))
            tap.source.taps += 1
    remove = [source.module.register_forward_hook(source.note).remove for source in sources.values()]
    attached = [by_layer[layer].attach() for layer in observed]
    return remove + attached, [tap for layer, tap in by_layer.items() if layer not in observed]


def gather_and_free(p: nn.Parameter, index: Tensor, leaf: Tensor) -> Remove:
    """Let autograd form the whole gradient of ``p``, add the selected entries to ``leaf.grad``, and free the rest."""
    p.requires_grad_(True)
    coordinates = torch.unravel_index(index, p.shape)

    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        assert leaf.grad is not None
        leaf.grad += parameter.grad[coordinates].to(leaf.dtype)
        parameter.grad = None

    handle: RemovableHandle = p.register_post_accumulate_grad_hook(hook)
    return handle.remove


def tappable(module: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers that can be tapped, by their weight's name: plain ones whose weight is not shared."""
    owners: dict[int, int] = {}
    for child in module.modules():
        for p in child._parameters.values():
            if p is not None:
                owners[id(p)] = owners.get(id(p), 0) + 1
    return {
        f"{key}.weight": child
        for key, child in module.named_modules()
        if type(child) is nn.Linear and owners.get(id(child.weight)) == 1
    }
