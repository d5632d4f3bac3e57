"""Files of weights: safetensors only, alone or in a folder with ``config.json``."""

import json
from pathlib import Path
from typing import Any

import safetensors

from shpeft.errors import WeightsUnavailable

WEIGHT_FILES = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""Preferred files of a folder; otherwise its only .safetensors file."""


def local_file(path: Path) -> Path:
    """Return the path of a weight file after checking its format.

    Raises:
        WeightsUnavailable: there is no such file, or it is not a safetensors file.
    """
    if not path.is_file():
        raise WeightsUnavailable(
            f"There is no file {path}. Give the path of a .safetensors file with the weights of the timm model."
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            file.keys()
    except safetensors.SafetensorError as error:
        raise WeightsUnavailable(
            f"{path.name} is not a safetensors file ({error}). Pickled checkpoints can run code and are refused. "
            f"{_convert(path)}"
        ) from None
    return path


def _convert(path: Path) -> str:
    """Return how to convert a pickled file that its owner trusts."""
    return (
        f'If you trust {path.name}, convert it: python -c "import torch, safetensors.torch as s; '
        f"c = torch.load('{path.name}', weights_only=True, map_location='cpu'); "
        "c = c.get('model', c.get('state_dict', c)); "
        "s.save_file({k: v.contiguous() for k, v in c.items() if hasattr(v, 'shape')}, 'model.safetensors')\""
    )


def weights_in(folder: Path) -> Path:
    """Return the file of weights in a folder.

    Raises:
        WeightsUnavailable: there is none, or it is not clear which.
    """
    files = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    preferred = [files[name] for name in WEIGHT_FILES if name in files] or list(files.values())
    if not preferred:
        pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")])
        hint = f" {_convert(pickled[0])}" if pickled else ""
        raise WeightsUnavailable(f"The folder {folder.name} has no .safetensors file with weights.{hint}")
    if len(preferred) > 1 and preferred[0].name not in WEIGHT_FILES:
        raise WeightsUnavailable(
            f"The folder {folder.name} has several files of weights ({', '.join(files)}). Give one of them as weights "
            "(--weights FILE)."
        )
    return local_file(preferred[0])


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if there is no such file.

    Raises:
        WeightsUnavailable: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsUnavailable(f"{path.name} in {path.parent.name} cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict):
        raise WeightsUnavailable(f"{path.name} in {path.parent.name} is not a JSON object.")
    return content
