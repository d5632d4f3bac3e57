"""A backbone that hears in the midst of a pass that its work is no longer wanted."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from shpeft.backbones import Backbone


def attentive(backbone: Backbone, ask: Callable[[], None]) -> None:
    """Have ``ask`` called after each block, forward and backward, from now on; what it raises ends the pass.

    A step with a large model takes many seconds on a processor. No value, gradient or kept activation is another one.
    """

    def forward(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        ask()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(backward)

    def backward(_: Tensor) -> None:
        ask()

    for name in dict.fromkeys(info.block for info in backbone.weight_infos("matrices")):
        backbone.module.get_submodule(name).register_forward_hook(forward)
