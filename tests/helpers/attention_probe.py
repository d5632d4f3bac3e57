"""The ground truth about attention heads: change the weights of one head and see which numbers change.

If the rows that belong to one head, ordered by part, head and feature, get other numbers, the output layer's input must
change in the columns of that head and nowhere else. Its change must be affine in the numbers of the values, which it is
not in those of queries and keys.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from shpeft.backbones import Backbone
from shpeft.importance.attention_parts import KEY, OUTPUT, PARTS, QUERY, VALUE

TOLERANCE = 1e-4
"""The difference that is taken for rounding, relative to the largest number."""


def heads_by_probing(backbone: Backbone) -> dict[str, int]:
    """Return the number of heads of each weight of attention whose first and last head a dry run confirms."""
    calls: dict[str, tuple[Any, Any]] = {}
    first = next(backbone.module.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *backbone.input_shape, generator=generator)

    def note_call(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, args: Any, options: Any) -> None:
            calls[name] = args, options

        return hook

    confirmed: dict[str, int] = {}
    with backbone.frozen(), torch.no_grad():
        with ExitStack() as stack:
            for name, module in backbone.module.named_modules():
                if isinstance(getattr(module, "num_heads", None), int):
                    stack.callback(module.register_forward_pre_hook(note_call(name), with_kwargs=True).remove)
            backbone(image.to(first))
        for name, (args, options) in calls.items():
            attention: Any = backbone.module.get_submodule(name)
            inputs, output = _layers(attention)
            if inputs and _confirmed(attention, inputs, output, args, options):
                confirmed |= {f"{name}.{layer}.weight": attention.num_heads for layer in (*inputs, output)}
    return confirmed


def _layers(module: Any) -> tuple[list[str], str]:
    """Return the layers of queries, keys and values, and that of the output."""
    linear = {name: layer for name, layer in module.named_children() if isinstance(layer, nn.Linear)}
    output = next((name for name in linear if PARTS.get(name) == (OUTPUT,)), "")
    if not output or linear[output].in_features % module.num_heads:
        return [], ""
    width = linear[output].in_features
    inputs = [name for name in linear if OUTPUT not in PARTS.get(name, (OUTPUT,))]
    return [name for name in inputs if linear[name].out_features == len(PARTS[name]) * width], output


def _confirmed(module: Any, inputs: Sequence[str], output: str, args: Any, options: Any) -> bool:
    heads, columns = module.num_heads, module.get_submodule(output).in_features
    width = columns // heads
    norm: Any = getattr(module, "norm", None)
    over_all_heads = getattr(getattr(norm, "weight", None), "shape", None) == (columns,)
    seen: list[Tensor] = []

    def joined(parts: Sequence[str], head: int, factor: float) -> Tensor:
        """Return the heads' outputs side by side, with ``factor`` × random numbers in these parts of one head."""
        changed = {f"{layer}.weight": module.get_submodule(layer).weight.clone() for layer in inputs}
        for layer, weight in zip(inputs, changed.values(), strict=True):
            for at, part in enumerate(PARTS[layer]):
                if part in parts:
                    rows = weight[at * columns :][head * width : (head + 1) * width]
                    rows.copy_(factor * torch.randn(rows.shape, generator=torch.Generator().manual_seed(at)))
        functional_call(module, changed, args, options)
        return seen.pop().reshape(-1, columns)

    last: Any = norm if over_all_heads else module.get_submodule(output)
    handle = last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        module(*args, **options)
        if len(seen) != 1 or seen.pop().shape[-1] != columns:  # its output is computed without the layer
            return False
        for head in {0, heads - 1}:
            none, once, twice = (joined((VALUE,), head, factor) for factor in (0, 1, 2))
            asked = joined((QUERY, KEY), head, 1) - joined((QUERY, KEY), head, 0)
            own = slice(head * width, (head + 1) * width)
            affine = _small(twice - 2 * once + none, twice)
            if not (affine and _only_in(own, once - none) and _only_in(own, asked)):
                return False
    finally:
        handle.remove()
    return True


def _only_in(columns: slice, change: Tensor) -> bool:
    """Return whether something changes in these columns and nothing in the others."""
    others = change.clone()
    others[:, columns] = 0
    return bool(change.any()) and _small(others, change)


def _small(difference: Tensor, reference: Tensor) -> bool:
    return bool(difference.abs().max() <= TOLERANCE * reference.abs().max())
