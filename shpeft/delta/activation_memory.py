"""Measure what autograd saves for the backward pass: which inputs it holds anyway, and how many bytes."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RECOMPUTABLE = (nn.LayerNorm, nn.RMSNorm, nn.GELU, nn.SiLU)
"""Activations that cost little beside a matrix product, and whose input autograd holds."""


@dataclass(frozen=True, eq=False)
class ObservedInput:
    """What a dry run shows about a layer's input.

    Attributes:
        held: whether autograd holds it anyway.
        recompute: a cheap module that computes it from a tensor that autograd holds; None if there is none, or if the
            layer is called more than once.
        copy_bytes: the size of a copy of the columns that are needed.
    """

    held: bool
    recompute: nn.Module | None
    copy_bytes: int


def observe_inputs(
    module: nn.Module, columns: Mapping[nn.Module, int], dry_run: Callable[[], object]
) -> tuple[dict[nn.Module, ObservedInput], int]:
    """Observe the inputs of some layers in a dry run.

    Args:
        columns: for each layer the number of input features that are needed in the backward pass.
        dry_run: runs ``module`` once, on any images.

    Returns:
        an observation for each layer that is called, in the order of the calls; and the bytes that autograd saves
        besides parameters and buffers.
    """
    saved: list[Tensor] = []
    alive: list[object] = []  # nothing is freed meanwhile, so that each address belongs to one tensor
    inputs: dict[nn.Module, list[Tensor]] = {}
    made: dict[tuple[int, int], tuple[nn.Module, Tensor]] = {}

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    def note_input(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        inputs.setdefault(layer, []).append(args[0])
        return y if y.requires_grad else y.detach().requires_grad_()

    def note_output(maker: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        made[y.data_ptr(), y.numel()] = maker, args[0]
        alive.append(y)

    with ExitStack() as stack:
        for child in module.modules():
            if isinstance(child, RECOMPUTABLE):
                stack.callback(child.register_forward_hook(note_output).remove)
        for layer in columns:
            stack.callback(layer.register_forward_hook(note_input).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor))
        alive.append(dry_run())
        held = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in saved}
    observed: dict[nn.Module, ObservedInput] = {}
    for layer, seen in inputs.items():
        maker, origin = made.get((seen[0].data_ptr(), seen[0].numel()), (None, None))
        once = len(seen) == 1
        observed[layer] = ObservedInput(
            once and _storage(seen[0]) in held,
            maker if once and origin is not None and _storage(origin) in held else None,
            sum(x.nbytes // x.shape[-1] for x in seen) * columns[layer],
        )
    own = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return observed, sum(size for address, size in held.items() if address not in own)


def saved_bytes(forward: Callable[[], object], excluded: Iterable[Tensor] = ()) -> int:
    """Return the bytes that autograd saves in a forward pass for its backward pass.

    Each storage counts once and whole, since any view keeps all of it alive.

    Args:
        excluded: tensors that exist anyway, such as parameters and images.
    """
    known = {_storage(tensor) for tensor in excluded}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        for part in _parts(tensor.detach()):
            saved.setdefault(_storage(part), part)  # held, so that each address belongs to one storage
        return tensor.detach()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in known)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the dense tensors that a tensor consists of."""
    return (tensor._indices(), tensor._values()) if tensor.layout == torch.sparse_coo else (tensor,)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
