"""Exact gradients of a few weights, with nothing dense: taps for linear layers, gather-and-free for the rest.

A tap leaves the layer as it is and passes its *output* through an identity whose backward hands the gradient on
unchanged and, besides, computes ∂L/∂v_j = Σ_n gy[n, row_j] · x[n, col_j]. What it needs of x it takes, in this order,
from memory that autograd holds anyway, from a cheap activation computed once more, or from a copy of the needed
columns: saved activations stay those of the frozen model. Every other selected parameter (convolution, norm, bias,
embedding) lets autograd form its gradient, takes the selected entries and drops the rest at once.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from shpeft.kernels import Kernel, Product, columns_of

COPIES = 0.04
"""Share of what a frozen model saves for its backward that copies of columns may add. A copy is taken while the input
is in the processor's cache, which is quicker than to compute the columns anew; the smallest copies come first."""

RECOMPUTABLE = (nn.LayerNorm, nn.RMSNorm, nn.GELU, nn.SiLU)
"""Activations that cost little beside a matrix product and whose input autograd holds."""

ELEMENTWISE = (nn.GELU, nn.SiLU)
"""Those of which single columns can be computed."""

Remove = Callable[[], None]


class SparseTap(torch.autograd.Function):
    """Identity on a linear layer's output; in backward the exact gradient of the selected weights."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, kept: Tensor, v: Tensor, product: Product, restore: "Restore") -> Tensor:
        """``restore(kept)`` are the columns of x that ``product`` needs, (N, columns)."""
        ctx.save_for_backward(kept)
        ctx.product, ctx.restore, ctx.dtype = product, restore, v.dtype
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        """Hand gy on, and give v its gradient."""
        (kept,) = ctx.saved_tensors
        grad = ctx.product(gy.reshape(-1, gy.shape[-1]), ctx.restore(kept), ctx.dtype)
        return gy, None, grad, None, None


Restore = Callable[[Tensor], Tensor]


class Source:
    """A cheap module whose output feeds taps: what it saw last, until every one of them has taken it."""

    def __init__(self, module: nn.Module):
        self.module, self.taps = module, 0
        self._input: Tensor | None = None
        self._output = self._left = 0

    def see(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook."""
        if torch.is_grad_enabled():
            self._input, self._output, self._left = args[0].detach(), output.data_ptr(), self.taps

    def take(self, x: Tensor) -> Tensor | None:
        """The input from which x was computed; None when x comes from elsewhere."""
        found = self._input if self._input is not None and x.data_ptr() == self._output else None
        self._left -= 1
        if self._left <= 0:
            self._input = None
        return found

    def restore(self, columns: Tensor) -> Restore:
        """Computes the columns of the output anew, under the present autocast."""
        module, device = self.module, columns.device.type
        autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def compute(kept: Tensor) -> Tensor:
            with torch.autocast(device, dtype, autocast, cache_enabled=False):
                if isinstance(module, ELEMENTWISE):
                    return module.forward(columns_of(_rows(kept), columns))
                return columns_of(_rows(module.forward(kept)), columns)

        return compute


def _rows(x: Tensor) -> Tensor:
    """(..., features) as (N, features)."""
    return x.reshape(-1, x.shape[-1])


class Tap:
    """Gives ``leaf.grad`` the gradient of selected entries of ``layer.weight``, whenever the layer runs.

    Attributes:
        held: autograd keeps the layer's input anyway, so it is kept as it is, at no cost.
        source: the cheap module that makes the layer's input, when its columns are to be computed anew.
    """

    def __init__(self, layer: nn.Linear, index: Tensor, leaf: Tensor, kernel: Kernel | None = None):
        """``index`` (k,): flat indices into the weight, ascending; ``leaf`` (k,): what the gradient is added to."""
        self.layer, self.leaf = layer, leaf
        self.product = Product(index, (layer.out_features, layer.in_features), kernel)
        self.held = False
        self.source: Source | None = None

    def attach(self) -> Remove:
        """Returns a function that removes the tap."""
        return self.layer.register_forward_hook(self._tap).remove

    def _tap(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return y
        x, columns = args[0].detach(), self.product.columns
        if torch.compiler.is_compiling():  # the compiler decides what is kept and what is computed anew
            return SparseTap.apply(y, columns_of(_rows(x), columns), self.leaf, self.product, _as_it_is)
        if self.source is not None and (origin := self.source.take(args[0])) is not None:
            return SparseTap.apply(y, origin, self.leaf, self.product, self.source.restore(columns))
        if self.held:
            return SparseTap.apply(y, x, self.leaf, self.product, lambda kept: columns_of(_rows(kept), columns))
        return SparseTap.apply(y, columns_of(_rows(x), columns), self.leaf, self.product, _as_it_is)


def _as_it_is(kept: Tensor) -> Tensor:
    return kept


def attach(module: nn.Module, taps: Iterable[Tap], dry_run: Callable[[], object]) -> tuple[list[Remove], list[Tap]]:
    """Attach taps to a model, each with the cheapest exact way to keep its input.

    Args:
        dry_run: runs the model once, on anything. It finds taps that are never reached (a model may use a layer's
            weight without calling the layer) and the inputs that autograd holds anyway.

    Returns:
        functions that remove what was attached, and the taps that were never reached: they are not attached.
    """
    taps = list(taps)
    seen, saved = _observe(module, taps, dry_run)
    spare = COPIES * saved
    sources: dict[nn.Module, Source] = {}
    for tap, found in sorted(seen.items(), key=lambda item: item[1].copy):
        tap.held = found.held
        if found.held:
            continue
        spare -= found.copy
        if spare < 0 and found.maker is not None:
            tap.source = sources.setdefault(found.maker, Source(found.maker))
            tap.source.taps += 1
    remove = [source.module.register_forward_hook(source.see).remove for source in sources.values()]
    return remove + [tap.attach() for tap in seen], [tap for tap in taps if tap not in seen]


@dataclass(frozen=True)
class Input:
    """What a dry run tells of a layer's input.

    Attributes:
        held: autograd keeps it anyway.
        maker: else the cheap module that makes it from something held, if there is one.
        copy: bytes of a copy of the columns that the tap needs.
    """

    held: bool
    maker: nn.Module | None
    copy: int


def _observe(module: nn.Module, taps: list[Tap], dry_run: Callable[[], object]) -> tuple[dict[Tap, Input], int]:
    """The input of each tap that is reached, and the bytes that autograd saves besides parameters and buffers."""
    kept: list[Tensor] = []
    alive: list[object] = []  # nothing is freed meanwhile, so that an address stands for one tensor
    inputs: dict[Tap, list[Tensor]] = {}
    made: dict[tuple[int, int], tuple[nn.Module, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    def reach(tap: Tap) -> Callable[..., Tensor]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
            inputs.setdefault(tap, []).append(args[0])
            return y if y.requires_grad else y.detach().requires_grad_()

        return hook

    def make(maker: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        made[y.data_ptr(), y.numel()] = maker, args[0]
        alive.append(y)

    with ExitStack() as stack:
        for child in module.modules():
            if isinstance(child, RECOMPUTABLE):
                stack.callback(child.register_forward_hook(make).remove)
        for tap in taps:
            stack.callback(tap.layer.register_forward_hook(reach(tap)).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        alive.append(dry_run())
        held = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in kept}
    found: dict[Tap, Input] = {}
    for tap, seen in inputs.items():
        maker, origin = made.get((seen[0].data_ptr(), seen[0].numel()), (None, None))
        once = len(seen) == 1
        found[tap] = Input(
            once and _storage(seen[0]) in held,
            maker if once and origin is not None and _storage(origin) in held else None,
            sum(x.nbytes // x.shape[-1] for x in seen) * len(tap.product.columns),
        )
    own = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return found, sum(size for address, size in held.items() if address not in own)


def saved_bytes(forward: Callable[[], object], excluded: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps from a forward pass for its backward.

    Each storage counts once and whole, since a view keeps all of it alive.

    Args:
        excluded: tensors that are there anyway, such as parameters and images.
    """
    known = {_storage(tensor) for tensor in excluded}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        for part in _parts(tensor.detach()):
            kept.setdefault(_storage(part), part)  # kept alive, so that an address stands for one storage
        return tensor.detach()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in known)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that one is made of."""
    return (tensor._indices(), tensor._values()) if tensor.layout == torch.sparse_coo else (tensor,)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def gather_and_free(p: nn.Parameter, index: Tensor, leaf: Tensor) -> Remove:
    """Let autograd form the whole gradient of ``p``, add the selected entries to ``leaf.grad``, and drop the rest."""
    p.requires_grad_(True)
    coordinates = torch.unravel_index(index, p.shape)

    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        assert leaf.grad is not None
        leaf.grad += parameter.grad[coordinates].to(leaf.dtype)
        parameter.grad = None

    return p.register_post_accumulate_grad_hook(hook).remove


def tappable(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by their weight's name: only plain ones, whose weight no other module shares."""
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
