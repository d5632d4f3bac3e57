"""Backbones by name: timm's, and the one that ships with shpeft."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import timm
import torch
from torch import nn

from shpeft.backbones.loading import (
    architecture_of,
    build,
    check_hub,
    check_nothing_random,
    local_file,
    takes_image_size,
)
from shpeft.backbones.model import Backbone
from shpeft.config import EMBEDDED
from shpeft.errors import BackboneError
from shpeft.images import InputTransform


def create_backbone(
    name: str = EMBEDDED,
    *,
    classes: Sequence[str],
    weights: str | Path = "pretrained",
    image_size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Backbone:
    """Make a backbone with a new head for the classes.

    Args:
        name: a timm model name (``timm.list_models()``) or ``embedded``, the small one that ships with shpeft.
        classes: one name for each output of the head.
        weights: ``pretrained`` (timm's, from the model hub or its cache), the path of a ``.safetensors`` file with
            timm's parameter names, or ``random``, which has to be asked for. With ``embedded`` the file says in its
            metadata how its model is made, as one of ``tools/distill_backbone.py`` does.
        image_size: side of the square input in pixels; position embeddings are resampled to it. None: the model's own.
        seed: decides the random weights, where there are any, and the head's start.

    Raises:
        UnknownBackbone: no such name; the message offers the nearest.
        WeightsUnavailable: the file or the hub could not be read, or the file does not fit the model.
        BackboneError: the model cannot be used as asked (image size, no linear head).
    """
    if len(classes) < 2:
        raise BackboneError(f"A backbone needs at least two classes to tell apart; found {list(classes)}.")
    own = name == EMBEDDED and str(weights) not in ("pretrained", "random")
    architecture, arguments, overlay = architecture_of(name, local_file(Path(weights)) if own else None)
    if image_size is not None and takes_image_size(architecture):
        arguments = {**arguments, "img_size": image_size}
    arguments["num_classes"] = len(classes)

    if str(weights) == "random":
        module, origin = build(architecture, arguments, overlay, seed, pretrained=False), f"random, seed {seed}"
    elif name == EMBEDDED:
        module = build(architecture, arguments, overlay, seed, pretrained=True)
        origin = f"local file {Path(weights).name}" if own else "embedded in shpeft"
    elif str(weights) == "pretrained":
        check_hub(name)
        module, origin = build(architecture, arguments, overlay, seed, pretrained=True), "timm, from the model hub"
    else:
        overlay = {"file": str(local_file(Path(weights))), "custom_load": False}
        module = build(architecture, arguments, overlay, seed, pretrained=True)
        check_nothing_random(module, build(architecture, arguments, {}, seed, pretrained=False), Path(weights))
        origin = f"local file {Path(weights).name}"

    _check_image_size(name, module, image_size)
    config = timm.data.resolve_data_config({}, model=module)
    transform = InputTransform(
        size=image_size or config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    return Backbone(name, module, classes, transform, origin).to(device)


def list_backbones(pattern: str = "") -> list[str]:
    """Names that contain the pattern (or match it, where it has ``*``), the embedded one first."""
    glob = pattern if "*" in pattern else f"*{pattern}*"
    own = [EMBEDDED] if fnmatch(EMBEDDED, glob) else []
    return own + timm.list_models(glob)


def resolve_device(device: str = "auto") -> torch.device:
    """The device to work on: with ``auto`` the GPU when there is one.

    Raises:
        BackboneError: a device that this machine does not have.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"Device {device!r} cannot be used here ({reason}). Use 'auto' or 'cpu'.") from None
    return torch.device(device)


def _check_image_size(name: str, module: nn.Module, image_size: int | None) -> None:
    """Refuse a size that leaves part of a patch over: timm would drop those pixels without a word."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if image_size is None or patch is None:
        return
    side = patch[0] if isinstance(patch, tuple) else int(patch)
    if image_size % side:
        near = image_size - image_size % side
        raise BackboneError(
            f"{name} cuts images into patches of {side} px, so {image_size} px is no size for it: use a multiple of "
            f"{side}, such as {near or side} or {near + side}."
        )
