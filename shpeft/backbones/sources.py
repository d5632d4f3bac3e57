"""Sources of a backbone: timm's names, the model hub, local folders and files, and the embedded one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import timm

from shpeft.backbones import transformers_format
from shpeft.backbones.checkpoint import State
from shpeft.backbones.hub import check_hub, download
from shpeft.backbones.int4 import unpack
from shpeft.backbones.weight_files import local_file, read_json, weights_in
from shpeft.config.schema import EMBEDDED
from shpeft.errors import UnknownBackbone, WeightsUnavailable, did_you_mean
from shpeft.support.allowed_folders import check_allowed

EMBEDDED_FORMAT = "shpeft.backbone/1"
"""Format name of a file whose metadata describe its model."""

HUB, FOLDER = "hf-hub:", "local-dir:"
"""Prefixes of names that are not timm's own."""

INPUT_SETTINGS = ("mean", "std", "interpolation")


@dataclass(frozen=True)
class Source:
    """Where a model and its weights come from.

    Attributes:
        architecture: the name for ``timm.create_model``.
        arguments: of the architecture, as its configuration says.
        overlay: changes to timm's pretrained configuration: mean, std, interpolation, input size.
        file: the file of weights; None: timm reads them from the hub.
        state: the weights if they were read already.
        origin: a phrase that says where the weights come from.
        remarks: sentences on what could not be known.
    """

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    overlay: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None
    state: State | None = None
    origin: str = ""
    remarks: tuple[str, ...] = ()


def source_of(name: str, weights: str) -> Source:
    """Return the source of a backbone.

    Args:
        name: a timm model name, ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``, or ``embedded``.
        weights: ``pretrained``, ``random``, or the path of a file, or of a folder in place of that of the name.

    Raises:
        UnknownBackbone: there is no such model, or no such weights of it.
        WeightsUnavailable: the file or the folder cannot be read, or does not describe its model.
    """
    given = Path(weights) if weights not in ("pretrained", "random") else None
    if given is not None:
        check_allowed(given, WeightsUnavailable)
    if name == EMBEDDED:
        return _embedded(None if given is None else local_file(given))
    if name.startswith(FOLDER):
        folder = given if given is not None and given.is_dir() else Path(name.removeprefix(FOLDER)).expanduser()
        source = _folder(folder)
        return source if given in (None, folder) else _with_file(source, given, name)
    if name.startswith((HUB, "hf_hub:")):
        source = _hub(HUB + name.partition(":")[2])
    else:
        _check_name(name)
        source = Source(name, origin="timm, from the model hub")
        if weights == "pretrained":
            check_hub(name)
    return source if given is None else _with_file(source, given, name)


def embedded_file() -> Path:
    """Return the path of the embedded backbone's weights, in the package or in the ``assets`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "assets", package.parent / "assets"):
        if (folder / "embedded_vit.safetensors").is_file():
            return folder / "embedded_vit.safetensors"
    raise WeightsUnavailable("The file embedded_vit.safetensors of the embedded backbone is missing. Reinstall shpeft.")


def _embedded(own: Path | None) -> Source:
    """Return the source of the embedded backbone, or of another file that describes its model."""
    path = own or embedded_file()
    with safetensors.safe_open(path, "pt") as file:
        meta = file.metadata() or {}
    if meta.get("format") != EMBEDDED_FORMAT:
        raise WeightsUnavailable(
            f"{path.name} does not describe its model (its format is not {EMBEDDED_FORMAT}). Name the timm model"
            " that its weights fit instead of 'embedded'."
        )
    size = int(meta["image_size"])
    overlay = {
        "input_size": (3, size, size),
        "mean": tuple(json.loads(meta["mean"])),
        "std": tuple(json.loads(meta["std"])),
        "interpolation": meta["interpolation"],
        "num_classes": 0,
    }
    state = unpack(safetensors.torch.load_file(path))
    origin = "embedded in shpeft" if own is None else f"local file {path.name}"
    return Source(meta["architecture"], json.loads(meta["kwargs"]), overlay, path, state, origin)


def _check_name(name: str) -> None:
    """Raise if timm has no such model, or no such weights of it."""
    if not timm.is_model(name):
        known = [EMBEDDED, *timm.list_models()]
        hint = did_you_mean(name, known) or "`shpeft backbones PATTERN` lists the names."
        if "/" in name:
            hint = f"A model of the hub is {HUB}{name}, a folder {FOLDER}{name}."
        raise UnknownBackbone(f"There is no backbone {name!r}; {len(known)} timm models are known. {hint}")
    architecture, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise UnknownBackbone(f"There are no weights {tag!r} of {architecture}. {did_you_mean(name, tags)}".rstrip())


def _folder(folder: Path) -> Source:
    """Return the source of a folder with ``config.json``, in timm's or in transformers' format, and weights."""
    check_allowed(folder, WeightsUnavailable)
    if not folder.is_dir():
        raise WeightsUnavailable(
            f"There is no folder {folder}. Give {FOLDER}FOLDER with config.json and model.safetensors, or the "
            "folder as weights (--weights FOLDER)."
        )
    config = read_json(folder / "config.json")
    if config is None:
        raise WeightsUnavailable(
            f"The folder {folder.name} has no config.json, so its model is unknown. Give the timm model as backbone "
            "and the file as weights (--weights FILE.safetensors)."
        )
    file = weights_in(folder)
    source = _configured(config, read_json(folder / "preprocessor_config.json") or {}, f"the folder {folder.name}")
    if source is None:  # timm reads its own format, of several versions
        source = Source(FOLDER + str(folder))
    return Source(source.architecture, source.arguments, source.overlay, file, None, f"local folder {folder.name}")


def _configured(config: Mapping[str, Any], preprocessor: Mapping[str, Any], label: str) -> Source | None:
    """Return the model of a transformers configuration; None for timm's format.

    Raises:
        WeightsUnavailable: neither format.
    """
    if "architecture" in config:
        return None
    if "model_type" not in config:
        raise WeightsUnavailable(
            f"The config.json of {label} is neither timm's (no 'architecture') nor transformers' (no 'model_type'). "
            "Give the timm model as backbone and the file as weights (--weights FILE.safetensors)."
        )
    architecture, arguments = transformers_format.architecture(config)
    size = arguments.pop("img_size")
    height, width = (size, size) if isinstance(size, int) else size
    overlay = {"input_size": (3, height, width)} | transformers_format.input_settings(preprocessor)
    return Source(architecture, arguments, overlay)


def _hub(name: str) -> Source:
    """Return the source of a repository of the model hub; its files are read from the cache or downloaded."""
    repository = name.removeprefix(HUB)
    origin = f"model hub, {repository}"
    config = read_json(download(repository, "config.json"))
    try:
        preprocessor = (
            read_json(download(repository, "preprocessor_config.json")) if "model_type" in (config or {}) else {}
        )
    except WeightsUnavailable:
        preprocessor = {}
    source = _configured(config or {}, preprocessor or {}, repository)
    if source is None:
        return Source(name, origin=origin)
    file = download(repository, "model.safetensors")
    return Source(source.architecture, source.arguments, source.overlay, file, None, origin)


def _with_file(source: Source, path: Path, name: str) -> Source:
    """Return the source with a file of weights, whose input settings are read from a ``config.json`` beside it."""
    file, overlay = local_file(path), dict(source.overlay)
    config = read_json(path.parent / "config.json")
    settings = {} if config is None else _input_settings(config, path.parent)
    remarks: tuple[str, ...] = ()
    if settings:
        overlay |= settings
    elif not overlay:
        remarks = (
            f"{path.name} has no config.json beside it, so mean, standard deviation and interpolation of the images "
            f"are those of timm's {name}. If the weights were trained with others, give mean and std.",
        )
    return Source(source.architecture, source.arguments, overlay, file, None, f"local file {path.name}", remarks)


def _input_settings(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return mean, std and interpolation of a ``config.json`` in either format; crops are never applied."""
    if "model_type" in config:
        return transformers_format.input_settings(read_json(folder / "preprocessor_config.json") or {})
    inner = config.get("pretrained_cfg", config)
    settings = {name: inner[name] for name in INPUT_SETTINGS if inner.get(name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
