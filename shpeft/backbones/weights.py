"""Create a timm model and load weights into it; a weight of the model is never silently random."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import safetensors.torch
import timm
import torch
from torch import nn

from shpeft.backbones.checkpoint import State, fitted, resamples_positions
from shpeft.backbones.feature_maps import patch_grid
from shpeft.backbones.model_arguments import unknown_argument
from shpeft.backbones.sources import FOLDER, HUB, Source
from shpeft.backbones.weight_info import classifier
from shpeft.errors import BackboneError, WeightsUnavailable
from shpeft.support.image_size import ImageSize, read_image_size
from shpeft.support.seeding import seeded


def build(source: Source, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Create a timm model with seeded initial weights.

    Args:
        source: the architecture, its arguments and its configuration.
        arguments: further arguments of ``timm.create_model``; they take precedence.
        seed: of the initial weights.

    Raises:
        BackboneError: the architecture cannot be created with these arguments.
    """
    keywords = source.arguments | dict(arguments)
    overlay: Any = source.overlay or None
    with seeded(seed):
        try:
            return timm.create_model(source.architecture, pretrained_cfg_overlay=overlay, **keywords).eval()
        except TypeError as error:
            unknown = str(error).rpartition("unexpected keyword argument ")[2].strip("'\"")
            owner = str(error).partition(".__init__()")[0]
            module_class = next((kind for kind in _module_classes() if kind.__name__ == owner), None)
            if unknown and module_class is not None:
                raise BackboneError(unknown_argument(module_class, unknown)) from None
            raise _not_created(source, arguments, error) from None
        except (
            RuntimeError,
            ValueError,
            OSError,
            KeyError,
            AssertionError,
            AttributeError,
            ZeroDivisionError,
        ) as error:
            raise _not_created(source, arguments, error) from None


def _module_classes() -> list[type[nn.Module]]:
    """Return the classes of timm's models that are loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("timm.models.")]
    return [value for module in modules for value in vars(module).values() if _is_module(value)]


def _is_module(value: object) -> TypeGuard[type[nn.Module]]:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _not_created(source: Source, arguments: Mapping[str, Any], error: Exception) -> BackboneError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    given = ", ".join(f"{name}={value}" for name, value in arguments.items() if name != "num_classes")
    advice = "Choose another image size or other arguments of the model."
    if isinstance(size := arguments.get("img_size"), tuple):
        advice = (
            f"Some models take squares alone: give a side, such as --image-size {size[0]}, or choose a vision "
            "transformer or a convolutional network."
        )
    return BackboneError(
        f"{source.architecture.removeprefix(FOLDER)} cannot be created{f' with {given}' if given else ''}: "
        f"{reason.rstrip('.')}. {advice}"
    )


def load(
    module: nn.Module, source: Source, rebuilt: Callable[[str], nn.Module | None], label: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load the weights of a source into a model; all of them fit, or it raises.

    Args:
        module: the model, changed in place.
        source: where the weights come from.
        rebuilt: builds the model with further arguments, on the meta device, to check what would fit.
        label: name of the backbone, for messages.

    Returns:
        the model, and phrases that say how the weights were converted.

    Raises:
        WeightsUnavailable: the weights cannot be read, or do not fit the model.
    """
    head_name, _ = classifier(label, module)
    steps: list[str] = []

    def converted(state: Mapping[str, Any], _: nn.Module) -> State:
        weights, phrases = fitted(state, module, head_name, source.file.name if source.file else label, rebuilt)
        steps.extend(phrases)
        return weights

    try:
        if source.file is None:
            config: Any = module.pretrained_cfg
            timm.models.load_pretrained(module, config, filter_fn=converted, strict=False)
        else:
            state = source.state or safetensors.torch.load_file(source.file)
            module.load_state_dict(converted(state, module), strict=False)
    except (RuntimeError, ValueError, OSError, KeyError, AssertionError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsUnavailable(f"The weights of {label} cannot be read: {reason}") from None
    return module, tuple(steps)


def takes_image_size(source: Source, arguments: Mapping[str, Any], size: ImageSize) -> bool:
    """Return whether the model is created for its input's size; convolutional models take any size."""
    if not source.architecture.startswith((HUB, FOLDER)):
        known = timm.get_pretrained_cfg(source.architecture)
        return known is not None and known.fixed_input_size
    model = on_meta(source, arguments)
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    grid = patch_grid(model)
    dynamic = grid is not None and (grid[0] != grid[1] or isinstance(size, str))  # its grid has to be the real one
    return bool(config.get("fixed_input_size")) or dynamic


def check_positions(module: nn.Module, source: Source, arguments: Mapping[str, Any], label: str) -> None:
    """Check that pretrained weights have a meaning for the positions of an input of other proportions.

    Weights of single positions have other shapes at another size, and are refused by these unless they are resampled.
    At a size with as many positions they would fit by their shapes alone, and be those of other positions.

    Raises:
        BackboneError: the model has such weights, and they are not resampled.
    """
    config: Any = module.pretrained_cfg
    height, width = config["input_size"][-2:]
    if "img_size" not in arguments or (height, width) == arguments["img_size"]:
        return

    def shapes(size: tuple[int, int]) -> dict[str, torch.Size]:
        model = on_meta(source, {**arguments, "img_size": size})
        return {name: value.shape for name, value in model.state_dict().items()}

    own = {name: value.shape for name, value in module.state_dict().items()}
    native, twice = shapes((height, width)), shapes((2 * height, 2 * width))
    bound = [name for name, shape in native.items() if own.get(name) == shape != twice.get(name)]
    if left := [name for name in bound if not resamples_positions(module, name)]:
        raise BackboneError(
            f"The weights of {label} belong to the positions of an image of {height} × {width} px ({left[0]}), and are "
            f"not resampled to other proportions. Use --image-size {read_image_size((height, width))}, or a vision "
            "transformer or a convolutional network."
        )


def on_meta(source: Source, arguments: Mapping[str, Any]) -> nn.Module:
    """Create a model without memory for its weights."""
    with torch.device("meta"):
        return build(source, arguments, 0)
