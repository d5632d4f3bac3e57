"""Save a model as timm's own format, a folder with its configuration and its weights, and load it with timm alone."""

from pathlib import Path

import timm
from timm.models import save_for_hf
from torch import nn

from shpeft.backbones.model import Backbone


def save_timm(backbone: Backbone, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` of a backbone, with its present weights and head.

    Args:
        backbone: with a delta merged or applied, if its weights are to be in the file.
        folder: is created.
    """
    transform = backbone.transform
    data = {
        "input_size": backbone.input_shape,
        "mean": transform.mean if transform.channels == 3 else (sum(transform.mean) / 3,),
        "std": transform.std if transform.channels == 3 else (sum(transform.std) / 3,),
        "interpolation": transform.interpolation,
        "crop_pct": 1.0,
        "crop_mode": "squash",  # resize the whole image, as InputTransform does
    }
    save_for_hf(
        backbone.module,
        str(folder),
        model_config={"label_names": list(backbone.classes), "pretrained_cfg": data},
        safe_serialization=True,
        data_config=data,
    )


def load_timm(folder: Path) -> nn.Module:
    """Load such a folder with timm alone; the module is in evaluation mode."""
    module: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return module.eval()
