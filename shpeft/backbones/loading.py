"""Weights for a backbone: from a local file, from the model hub, or embedded; never silently random."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from shpeft.backbones.packing import unpack
from shpeft.backbones.places import classifier
from shpeft.config import EMBEDDED
from shpeft.errors import UnknownBackbone, WeightsUnavailable, did_you_mean
from shpeft.network import unreachable
from shpeft.seeding import seeded

EMBEDDED_FORMAT = "shpeft.backbone/1"
"""The format of a file that says in its metadata how its model is made."""


def embedded_file() -> Path:
    """Where the embedded backbone's weights are: in the package, or in a checkout's ``assets``."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "assets", here.parent / "assets"):
        if (folder / "embedded_vit.safetensors").is_file():
            return folder / "embedded_vit.safetensors"
    raise WeightsUnavailable("The embedded backbone's file embedded_vit.safetensors is missing: reinstall shpeft.")


def architecture_of(name: str, own: Path | None = None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The timm model behind a name, its arguments, and changes to its pretrained configuration.

    Args:
        own: a file to take in place of the embedded one.
    """
    if name == EMBEDDED:
        path = own or embedded_file()
        with safetensors.safe_open(path, "pt") as file:
            meta = file.metadata() or {}
        if meta.get("format") != EMBEDDED_FORMAT:
            raise WeightsUnavailable(
                f"{path.name} does not say how its model is made (its format is not {EMBEDDED_FORMAT}). Name the timm"
                " model that its weights fit, instead of 'embedded'."
            )
        size = int(meta["image_size"])
        overlay = {
            "state_dict": unpack(safetensors.torch.load_file(path)),
            "custom_load": False,
            "input_size": (3, size, size),
            "mean": json.loads(meta["mean"]),
            "std": json.loads(meta["std"]),
            "interpolation": meta["interpolation"],
            "num_classes": 0,
        }
        return meta["architecture"], json.loads(meta["kwargs"]), overlay
    if not timm.is_model(name):
        known = [EMBEDDED, *timm.list_models()]
        hint = did_you_mean(name, known) or "`shpeft backbones PATTERN` lists the names."
        raise UnknownBackbone(f"There is no backbone {name!r}; {len(known)} timm models are known. {hint}")
    architecture, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise UnknownBackbone(f"There are no weights {tag!r} of {architecture}. {did_you_mean(name, tags)}".rstrip())
    return name, {}, {}


def takes_image_size(architecture: str) -> bool:
    """Whether the model has position embeddings of a fixed size; convolutional models take any image."""
    return bool(timm.get_pretrained_cfg_value(architecture, "fixed_input_size"))


def build(
    architecture: str, arguments: dict[str, Any], overlay: dict[str, Any], seed: int, *, pretrained: bool
) -> nn.Module:
    """Create the timm model with seeded initial weights, and load the pretrained ones over them when asked.

    Args:
        overlay: changes to the pretrained configuration, among them the ``file`` or the ``state_dict`` to load.
    """
    with seeded(seed):
        try:
            module: Any = timm.create_model(
                architecture, pretrained=pretrained, pretrained_cfg_overlay=overlay or None, **arguments
            ).eval()
            module.pretrained_cfg.pop("state_dict", None)  # else every copy of the model would carry the weights twice
            return module
        except (RuntimeError, ValueError, OSError, KeyError, AssertionError, safetensors.SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsUnavailable(f"The weights do not fit {architecture} or cannot be read: {reason}") from None


def local_file(path: Path) -> Path:
    """Check a file of weights before anything is made from it."""
    if not path.is_file():
        raise WeightsUnavailable(
            f"There is no file {path}. Give the path of a .safetensors file with the timm model's weights."
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            file.keys()
    except safetensors.SafetensorError as error:
        raise WeightsUnavailable(
            f"{path.name} is not a safetensors file ({error}). Pickled checkpoints can run code and are refused: "
            "convert it with safetensors.torch.save_file."
        ) from None
    return path


def check_nothing_random(module: nn.Module, fresh: nn.Module, path: Path) -> None:
    """Refuse a file that left matrices at their random start: timm loads loosely when the heads differ."""
    head_name, _ = classifier("", module)
    start = dict(fresh.named_parameters())
    random = [
        name
        for name, p in module.named_parameters()
        if p.ndim > 1 and not name.startswith(head_name + ".") and p.std() > 0 and torch.equal(p, start[name])
    ]
    if random:
        raise WeightsUnavailable(
            f"{path.name} has no weights for {len(random)} matrices of the model, {random[0]} among them. "
            "It may belong to another model; random weights have to be asked for with weights 'random'."
        )


def check_hub(name: str) -> None:
    """Say within seconds when pretrained weights cannot be had; timm alone would retry for minutes."""
    from huggingface_hub import constants, try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    advice = (
        "Give a local file of weights (--weights FILE.safetensors), use the backbone 'embedded', or ask for 'random'."
    )
    if config is None or not config.has_weights:
        tagged = timm.list_pretrained(f"{name.split('.')[0]}*")
        hint = f" Models with weights: {', '.join(tagged[:3])}." if tagged else ""
        raise WeightsUnavailable(f"timm publishes no pretrained weights for {name}.{hint} {advice}")
    if config.hf_hub_id:
        files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return
    host = constants.ENDPOINT.split("//")[-1]
    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(f"HF_HUB_OFFLINE is set and the weights of {name} are not in the cache. {advice}")

    reason = unreachable(constants.ENDPOINT)
    if reason is not None:
        raise WeightsUnavailable(
            f"The pretrained weights of {name} are on {host}, which could not be reached ({reason}). {advice}"
        )
