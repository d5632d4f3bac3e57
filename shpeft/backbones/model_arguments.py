"""Arguments of a timm model: read from text, checked, and suggested from what a file of weights holds."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm.layers
from torch import Tensor, nn

from shpeft.config.schema import read_model_args
from shpeft.errors import BackboneError, did_you_mean

OWN_SETTINGS = {
    "num_classes": "The classes of the dataset decide it",
    "img_size": "Use the image size (--image-size)",
    "pretrained": "Use the weights (--weights)",
    "pretrained_cfg": "Use the weights (--weights)",
    "checkpoint_path": "Use the weights (--weights)",
    "cache_dir": "Set HF_HOME instead",
    "features_only": "A backbone needs its classifier",
    "in_chans": "Images are read as RGB or as gray, so a model has 3 channels or 1",
}
"""Arguments that shpeft sets itself, and what to use instead."""

ModelArgs = Mapping[str, Any] | Sequence[str]
"""Arguments by name, or texts such as ``init_values=1e-5``."""


def arguments_of(model_args: ModelArgs) -> dict[str, Any]:
    """Return the keyword arguments for ``timm.create_model``.

    Args:
        model_args: by name, or as texts. ``true`` and ``false`` are booleans. The value of an argument that ends in
            ``_layer`` may be a class of ``timm.layers``.

    Raises:
        BackboneError: a text without an equals sign, or an argument that shpeft sets itself.

    Examples:
        >>> arguments_of(["init_values=1e-5", "class_token=false", "global_pool=avg"])
        {'class_token': False, 'global_pool': 'avg', 'init_values': 1e-05}
    """
    try:
        pairs = [text.partition("=") for text in read_model_args(model_args)]
    except ValueError as error:
        raise BackboneError(f"The arguments of the model cannot be read: {error}.") from None
    arguments: dict[str, Any] = {}
    for name, _, text in pairs:
        if name in OWN_SETTINGS and (name, text) not in (("in_chans", "3"), ("in_chans", "1")):
            raise BackboneError(f"{name}={text} cannot be set as an argument of the model. {OWN_SETTINGS[name]}.")
        arguments[name] = _layer(name, _scalar(text))
    return arguments


def unknown_argument(module_class: type[nn.Module], name: str) -> str:
    """Return a sentence that offers the arguments of a model whose names are near."""
    known = [p for p in inspect.signature(module_class).parameters if p not in ("args", "kwargs")]
    return f"{module_class.__name__} has no argument {name!r}. {did_you_mean(name, known)}".rstrip()


def suggested(state: Mapping[str, Tensor], module: nn.Module, unexpected: Sequence[str], missing: Sequence[str]) -> str:
    """Return arguments with which a vision transformer would fit the weights, joined by commas; empty if unknown.

    Args:
        state: the weights, in timm's names.
        module: the model that they do not fit.
        unexpected, missing: names that the model lacks, and names that the weights lack.
    """
    more, less = set(unexpected), set(missing)
    hints: dict[str, object] = {}
    if any(name.endswith("ls1.gamma") for name in more):
        hints["init_values"] = 1e-5
    if any(name.endswith("ls1.gamma") for name in less):
        hints["init_values"] = 0
    if "fc_norm.weight" in more and "norm.weight" in less:
        hints["global_pool"] = "avg"
    if "norm.weight" in more and "fc_norm.weight" in less:
        hints["global_pool"] = "token"
    if any(name.startswith("attn_pool.") for name in less) and not any(name.startswith("attn_pool.") for name in state):
        hints["global_pool"] = "token" if "cls_token" in state else "avg"
    if "reg_token" in more | less:
        hints["reg_tokens"] = state["reg_token"].shape[1] if "reg_token" in state else 0
    if "cls_token" in more | less:
        hints["class_token"] = "cls_token" in state
        if "cls_token" in less:
            hints["global_pool"] = "avg"
    depth, own_depth = _depth(state), _depth(module.state_dict())
    if depth and depth != own_depth:
        hints["depth"] = depth
    hints |= _shape_hints(state, module)
    if any("q_norm" in name for name in more | less):
        hints["qk_norm"] = any("q_norm" in name for name in more)
    return ",".join(read_model_args(hints))


def _shape_hints(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, object]:
    """Return arguments that follow from the shapes of the patch embedding and of the first block."""
    own, hints = module.state_dict(), dict[str, object]()
    patches, fc1, fc2 = "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"
    if patches in state and patches in own and state[patches].ndim == 4:
        if state[patches].shape[0] != own[patches].shape[0]:
            hints["embed_dim"] = state[patches].shape[0]
        if state[patches].shape[-1] != own[patches].shape[-1]:
            hints["patch_size"] = state[patches].shape[-1]
    if fc1 in state and fc1 in own:
        ratio = state[fc1].shape[0] / state[fc1].shape[1]
        if ratio != own[fc1].shape[0] / own[fc1].shape[1]:
            hints["mlp_ratio"] = _ratio(*state[fc1].shape)
        if fc2 in state and state[fc1].shape[0] == 2 * state[fc2].shape[1]:
            hints |= {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    return hints


def _ratio(hidden: int, width: int) -> float:
    """Return a ratio of five digits whose product with the width timm truncates to the hidden layer's width."""
    ratio = round(hidden / width, 5)
    return ratio if int(width * ratio) == hidden else round(ratio + 1e-5, 5)


def _depth(state: Mapping[str, Tensor]) -> int:
    numbers = [name.split(".")[1] for name in state if name.startswith("blocks.")]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def _layer(name: str, value: Any) -> Any:
    """Return the class of ``timm.layers`` that a layer argument names, and any other value as it is."""
    layer = getattr(timm.layers, value, None) if name.endswith("_layer") and isinstance(value, str) else None
    return layer if isinstance(layer, type | partial) else value


def _scalar(text: str) -> bool | int | float | str:
    """Read a value as people write it: ``true`` and ``false``, a number, or text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
