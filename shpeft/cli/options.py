"""The command line's options that make up a configuration, and the configuration that they make up."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from shpeft.config import PRESETS, RunConfig
from shpeft.errors import ConfigError, did_you_mean
from shpeft.flags import PLACES

Config = Annotated[Path | None, typer.Option("--config", help="A YAML configuration; flags override it.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="fast (only the last quarter of the blocks may change), balanced (half), thorough, or paper (all, scored "
        "by gradients of batches)."
    ),
]
BackboneName = Annotated[str | None, typer.Option("--backbone", help="A timm model name, or 'embedded'.")]
Weights = Annotated[str | None, typer.Option(help="'pretrained', 'random' or a local .safetensors file.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the square input in pixels.")]
Data = Annotated[
    str | None, typer.Option(help="A folder, a table, 'recipe:NAME=FOLDER', 'medmnist:NAME' or 'phantom:NAME'.")
]
ValFraction = Annotated[float | None, typer.Option(help="Share of the training images kept for validation.")]
TestFraction = Annotated[float | None, typer.Option(help="Share kept for testing where no split is given.")]
Window = Annotated[str | None, typer.Option(help="Of 16-bit and DICOM images: auto, full, LOW:HIGH or a CT window.")]
Frame = Annotated[int | None, typer.Option(help="Which of several frames, counted from 0; a DICOM's middle one.")]
Columns = Annotated[str | None, typer.Option(help="What a table's columns are called: path=image,label=dx,group=id.")]
OnUnreadable = Annotated[str | None, typer.Option(help="'skip' or 'refuse' damaged images.")]
Leakage = Annotated[
    str | None,
    typer.Option(help="Of cases in several given splits: report, drop (the training side's twin) or refuse."),
]
ImageCache = Annotated[
    bool | None, typer.Option("--image-cache/--no-image-cache", help="Keep resized images for the next run.")
]
Budget = Annotated[str | None, typer.Option(help="A share (1e-4 or 0.01%) of the backbone's weights, or a count.")]
Score = Annotated[str | None, typer.Option(help="hybrid, gradient, fisher, magnitude, wanda or random.")]
Formula = Annotated[str | None, typer.Option(help="How the hybrid joins its halves: product, sum or quota.")]
Norm = Annotated[str | None, typer.Option(help="l1 or l2.")]
Lam = Annotated[float | None, typer.Option(help="Weight of the task-agnostic half in sum and quota, 0 to 1.")]
Normaliser = Annotated[str | None, typer.Option(help="What the sum divides each half by: mean, max or rank.")]
Scope = Annotated[str | None, typer.Option(help="Eligible weights: all, matrices, or last:N or last:P% of the blocks.")]
ScoreImages = Annotated[int | None, typer.Option(help="Training images that scores are estimated on.")]
Expectation = Annotated[
    str | None,
    typer.Option(help="Gradients of each 'batch', of each 'image' (exact Fisher), or of 'all' images at once."),
]
Spread = Annotated[
    str | None,
    typer.Option(help="'row': as few weights of a row as the budget allows; 'none': the highest scores, anywhere."),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.")]
Lr = Annotated[float | None, typer.Option(help="Peak learning rate of the selected weights.")]
HeadLr = Annotated[float | None, typer.Option(help="Peak learning rate of the head.")]
WeightDecay = Annotated[float | None, typer.Option(help="Pulls the selected weights to their pretrained values.")]
Augment = Annotated[str | None, typer.Option(help="none or flip.")]
Cache = Annotated[
    bool | None, typer.Option("--cache/--no-cache", help="Run blocks below the earliest chosen weight once an image.")
]
Checkpointing = Annotated[
    bool | None,
    typer.Option("--checkpointing/--no-checkpointing", help="Compute activations anew: less memory, no cache."),
]
Compiled = Annotated[
    bool | None, typer.Option("--compiled/--no-compiled", help="Let torch.compile fuse the steps (C++ compiler).")
]
Seed = Annotated[int | None, typer.Option(help="Decides everything random.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str | None, typer.Option(help="float32, or bfloat16 for autocast.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]


def configuration(file: Path | None, flags: dict[str, Any]) -> RunConfig:
    """The configuration of a YAML file, of a preset and of the flags that were given; the later one wins.

    Raises:
        ConfigError: an unknown preset; else all problems at once.
    """
    raw: dict[str, Any] = RunConfig.from_yaml(file).model_dump() if file else {}
    if (preset := flags.get("preset")) is not None:
        if preset not in PRESETS:
            raise ConfigError(f"There is no preset {preset!r}. {did_you_mean(preset, PRESETS)}")
        for section, settings in PRESETS[preset].items():
            raw.setdefault(section, {}).update(settings)
    for flag, place in PLACES.items():
        value = flags.get(flag)
        if value is not None:
            *within, key = place.split(".")
            target = raw.setdefault(within[0], {}) if within else raw
            target[key] = PARSERS[flag](value) if flag in PARSERS else value
    return RunConfig.parse(raw)


def parse_budget(text: str) -> int | float:
    """``1e-4`` and ``0.01%`` are shares, ``2000`` is a count.

    Raises:
        ConfigError: the text is no number.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(%?)\s*", text)
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if match is None or number is None:
        raise ConfigError(f"The budget {text!r} is no number. Give a share such as 1e-4 or 0.01%, or a count.")
    if match[2]:
        return number / 100
    return int(match[1]) if match[1].isdigit() else number


def parse_columns(text: str) -> dict[str, str]:
    """``path=image,label=dx`` as a dictionary.

    Raises:
        ConfigError: a part without an equals sign.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(equals and name.strip() and column.strip() for name, equals, column in pairs):
        raise ConfigError(f"The columns {text!r} cannot be understood. Give them as path=image,label=dx,group=patient.")
    return {name.strip(): column.strip() for name, _, column in pairs}


PARSERS = {"budget": parse_budget, "columns": parse_columns}
"""Flags whose text means something else."""
