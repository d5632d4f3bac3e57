"""``shpeft importance``: which blocks and matrices hold the important weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shpeft.cli import options, output
from shpeft.config import RunConfig, option
from shpeft.config.schema import TrainingConfig
from shpeft.errors import ConfigError
from shpeft.runs import RunFolder
from shpeft.support.atomic_files import write_atomic

if TYPE_CHECKING:
    from shpeft.importance.layer_summaries import LayerSummary

SCORING_OPTIONS = {"--batch-size", "--cache", "--checkpointing"}
"""Options of the training section that decide how scores are computed; the others would have no effect."""


def importance(
    run: Path | None = None,
    /,
    *,
    config: options.Config = None,
    preset: options.Preset = None,
    settings: options.Settings = options.UNSET,
    which: Literal["hybrid", "task-specific", "task-agnostic"] = "hybrid",
    quantity: Literal["selected", "density", "mean", "maximum"] = "selected",
    csv: Path | None = None,
    npz: Path | None = None,
    json: options.Json = False,
) -> None:
    """Print which blocks and matrices hold the important weights.

    Args:
        run: A run folder; without it, the weights of a configuration are scored now.
        which: The score, or one of its halves.
        quantity: What is printed for each matrix.
        csv: Write a row per matrix to this file.
        npz: Write the summaries, histograms included, to this file.
    """
    given = options.given_options(settings)
    given += [f"--{name}" for name, value in (("config", config), ("preset", preset)) if value is not None]
    if run is not None and given:
        raise ConfigError(f"A run folder has its own configuration: leave out {given[0]}.")
    training = {option(f"training.{name}", field) for name, field in TrainingConfig.model_fields.items()}
    if unused := [name for name in given if name in training - SCORING_OPTIONS]:
        raise ConfigError(f"Nothing is trained here, so {unused[0]} has no effect: leave it out.")
    if run is not None:
        layers = RunFolder.open(run).scores.summaries(which)
    else:
        layers = _score(options.configuration(config, preset, settings), which)
    if csv is not None:
        from shpeft.runs.summaries import summaries_csv

        write_atomic(csv, summaries_csv(layers))
    if npz is not None:
        from shpeft.runs.summaries import summaries_bytes

        write_atomic(npz, summaries_bytes({which: layers}))
    if json:
        output.as_json(layers)
    else:
        output.blocks(layers, quantity)


def _score(config: RunConfig, which: str) -> "list[LayerSummary]":
    """Score the weights of a configuration, and summarize a score or a half of it by layer."""
    from shpeft import pipeline

    with output.progress_bar() as (progress, _):
        meter = pipeline.RunProgress(progress)
        chosen = pipeline.score_and_select(config, pipeline.set_up(config, meter), meter)
    if which not in chosen.summaries:
        raise ConfigError(
            f"The score {chosen.scores.name} has no part {which!r}; it has {', '.join(chosen.summaries)}."
        )
    return chosen.summaries[which]
