"""Let a callback cancel work inside a forward or backward pass, not only between steps."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from shpeft.backbones import Backbone


def call_after_each_block(backbone: Backbone, callback: Callable[[], None]) -> None:
    """Call ``callback`` after every block, forward and backward; an exception in it ends the pass.

    A step of a large model takes many seconds on a CPU. Values, gradients and saved activations stay the same.
    """

    def forward_hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        callback()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(gradient_hook)

    def gradient_hook(_: Tensor) -> None:
        callback()

    for name in dict.fromkeys(info.block for info in backbone.weight_infos("matrices")):
        backbone.module.get_submodule(name).register_forward_hook(forward_hook)
