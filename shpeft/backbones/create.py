"""Create backbones by name: timm's models, and the embedded one that ships with shpeft."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from shpeft.backbones.model import Backbone
from shpeft.backbones.model_arguments import ModelArgs, arguments_of
from shpeft.backbones.sources import FOLDER, Source, source_of
from shpeft.backbones.weights import build, check_positions, load, on_meta, takes_image_size
from shpeft.config import EMBEDDED, BackboneConfig
from shpeft.config.schema import read_model_args
from shpeft.errors import BackboneError
from shpeft.images import InputTransform
from shpeft.images.transform import RESAMPLING
from shpeft.support.image_size import ImageSize, height_and_width, read_image_size
from shpeft.tasks import SINGLE_LABEL, Task

DEFAULTS = BackboneConfig()
"""The settings of a run that names none."""


def create_backbone(
    name: str = DEFAULTS.name,
    *,
    classes: Sequence[str],
    weights: str | Path = DEFAULTS.weights,
    model_args: ModelArgs = DEFAULTS.model_args,
    image_size: ImageSize | tuple[int, int] | None = DEFAULTS.image_size,
    mean: Sequence[float] | None = DEFAULTS.mean,
    std: Sequence[float] | None = DEFAULTS.std,
    seed: int = 0,
    device: torch.device | str = "cpu",
    task: Task = SINGLE_LABEL,
) -> Backbone:
    """Create a backbone with a new head for the classes.

    Args:
        name: a timm model name (see :func:`list_backbones`), ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER`` with
            ``config.json`` (timm's or transformers') and weights, or ``embedded`` for the small model of this package.
        classes: one name per output of the head, at least two where an image has one of them.
        weights: ``pretrained`` (of the hub or its cache, or of the folder), the path of a ``.safetensors`` file, or
            ``random``. A file may have timm's or transformers' names, with the prefixes that the field uses; all
            weights must fit. With ``embedded``, a file must describe its model in its metadata, as those of
            ``tools/distill_backbone.py`` do.
        model_args: arguments of the timm model by name, such as ``{"init_values": 1e-5}``; with ``{"in_chans": 1}`` the
            first layer is adapted as timm does, and images are read as gray.
        image_size: side of a square input in pixels, or height and width as ``"224x448"`` or ``(224, 448)``. Position
            embeddings are resampled to it. None: the model's own size.
        mean, std: of each channel, for values from 0 to 1. None: those of the weights.
        seed: for random weights, if any, and for the initial head.
        device: where to put the weights.
        task: what the logits mean, such as that of a dataset.

    Returns:
        The backbone, in evaluation mode.

    Raises:
        UnknownBackbone: there is no such name; the message offers the nearest ones.
        WeightsUnavailable: the file or the hub cannot be read, or the weights do not fit the model; the message names
            what differs, and arguments with which they would fit.
        BackboneError: the model has no single linear head, or the image size or an argument does not fit it.

    Examples:
        >>> import shpeft
        >>> backbone = shpeft.create_backbone("test_vit", classes=["healthy", "ill"], weights="random", image_size=32)
        >>> backbone
        Backbone('test_vit', 300,096 weights, 2 classes, 32 px, random, seed 0)
        >>> tuple(backbone(torch.zeros(1, 3, 32, 32)).shape)
        (1, 2)
    """
    size = _read_size(image_size)
    if len(classes) < task.fewest_classes:
        raise BackboneError(f"A backbone needs at least two classes; found {list(classes)}. Name two or more.")
    source = source_of(name, str(weights))
    arguments = arguments_of(model_args) | {"num_classes": len(classes)}
    if size is not None and takes_image_size(source, arguments, size):
        arguments["img_size"] = size if isinstance(size, int) else height_and_width(size)
    module = build(source, arguments, seed)
    _check_image_size(name, module, size)
    origin = f"random, seed {seed}"
    if str(weights) != "random":
        if isinstance(size, str):
            check_positions(module, source, arguments, name)
        module, steps = load(module, source, lambda text: _rebuilt(source, arguments, text), name)
        origin = "; ".join([source.origin, *steps])
    transform = _transform(module, size, mean, std, int(arguments.get("in_chans", 3)))
    if isinstance(transform.size, str):
        _check_runs(name, module, transform)
    given = mean is not None and std is not None
    return Backbone(
        _public(name),
        module,
        classes,
        transform,
        origin,
        model_args=read_model_args(model_args),
        remarks=() if given or str(weights) == "random" else source.remarks,
        task=task,
    ).to(device)


def _rebuilt(source: Source, arguments: Mapping[str, Any], text: str) -> nn.Module | None:
    """Return the model with further arguments, without memory for its weights; None if it cannot be built."""
    try:
        return on_meta(source, {**arguments, **arguments_of(text.split(","))})
    except BackboneError:
        return None


def _public(name: str) -> str:
    """Return a name without the path of a folder, for files that others read."""
    return FOLDER + Path(name.removeprefix(FOLDER)).name if name.startswith(FOLDER) else name


def _read_size(image_size: ImageSize | tuple[int, int] | None) -> ImageSize | None:
    try:
        return None if image_size is None else read_image_size(image_size)
    except ValueError as error:
        raise BackboneError(f"There is no such input: {error}.") from None


def _transform(
    module: nn.Module,
    size: ImageSize | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels: int,
) -> InputTransform:
    """Return the transform of a model's images: the given settings, else those of its configuration."""
    config = timm.data.resolve_data_config({}, model=module)
    red, green, blue = config["mean"] if mean is None else mean
    deviations = config["std"] if std is None else std
    if min(deviations) <= 0:
        raise BackboneError(f"The standard deviations are {tuple(deviations)}; each must be above 0.")
    interpolation = config["interpolation"]
    return InputTransform(
        size=size or read_image_size(config["input_size"][-2:]),
        mean=(red, green, blue),
        std=tuple(deviations),
        interpolation=interpolation if interpolation in RESAMPLING else "bicubic",
        channels=channels,
    )


def list_backbones(pattern: str = "") -> list[str]:
    """Return the names that contain the pattern, the embedded backbone first.

    Args:
        pattern: a part of the name, or with ``*`` a pattern for the whole name.

    Examples:
        >>> import shpeft
        >>> shpeft.list_backbones()[0]
        'embedded'
        >>> shpeft.list_backbones("vit_small_patch14_dinov2*")
        ['vit_small_patch14_dinov2']
    """
    glob = pattern if "*" in pattern else f"*{pattern}*"
    own = [EMBEDDED] if fnmatch(EMBEDDED, glob) else []
    return own + timm.list_models(glob)


def resolve_device(device: str = "auto") -> torch.device:
    """Return the device to work on; ``auto`` selects the GPU if there is one.

    Raises:
        BackboneError: this machine does not have the device.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"The device {device!r} cannot be used ({reason}). Use 'auto' or 'cpu'.") from None
    return torch.device(device)


def _check_image_size(name: str, module: nn.Module, size: ImageSize | None) -> None:
    """Raise if a side is not a multiple of the patch size; timm would silently drop the remaining pixels."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if size is None or patch is None:
        return
    patches = patch if isinstance(patch, tuple) else (int(patch), int(patch))
    for pixels, side in zip(height_and_width(size), patches, strict=True):
        if pixels % side:
            near = pixels - pixels % side
            raise BackboneError(
                f"{name} cuts images into patches of {side} px, which {pixels} px is not a multiple of. Use a multiple "
                f"of {side}, such as {near or side} or {near + side}."
            )


@torch.no_grad()
def _check_runs(name: str, module: nn.Module, transform: InputTransform) -> None:
    """Raise if the model cannot run on its input; that of some families has to be square, or a multiple of a window."""
    height, width = transform.shape
    parameter = next(module.parameters())
    try:
        module(torch.zeros(1, transform.channels, height, width, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise BackboneError(
            f"{name} cannot run on inputs of {height} × {width} px (height x width): {reason}. Give the side of a "
            f"square, such as --image-size {height}, or choose a vision transformer or a convolutional network."
        ) from None
