"""``shpeft finetune``: a configuration in, a run folder out."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from shpeft.cli import console, options
from shpeft.cli.running import opened
from shpeft.cli.stopping import Interrupts
from shpeft.config import RunConfig
from shpeft.errors import Cancelled, ConfigError, RunError, ShpeftError
from shpeft.flags import PLACES
from shpeft.runs import RunFolder, delete_run, new_run


def finetune(
    config: options.Config = None,
    preset: options.Preset = None,
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    image_size: options.ImageSize = None,
    data: options.Data = None,
    val_fraction: options.ValFraction = None,
    test_fraction: options.TestFraction = None,
    window: options.Window = None,
    frame: options.Frame = None,
    columns: options.Columns = None,
    on_unreadable: options.OnUnreadable = None,
    leakage: options.Leakage = None,
    image_cache: options.ImageCache = None,
    budget: options.Budget = None,
    score: options.Score = None,
    formula: options.Formula = None,
    norm: options.Norm = None,
    lam: options.Lam = None,
    normaliser: options.Normaliser = None,
    scope: options.Scope = None,
    score_images: options.ScoreImages = None,
    expectation: options.Expectation = None,
    spread: options.Spread = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    head_lr: options.HeadLr = None,
    weight_decay: options.WeightDecay = None,
    augment: options.Augment = None,
    cache: options.Cache = None,
    checkpointing: options.Checkpointing = None,
    compiled: options.Compiled = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; by default a new one in runs/.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration and what it will cost.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an older run in the same folder.")] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with this unfinished run; it has its settings.")] = None,
    json: options.Json = False,
) -> None:
    """Choose weights, train them, test them beside the linear probe, and leave a run folder.

    Control-C ends training with the best epoch so far, which is tested and kept; a second one cancels the run.
    """
    flags = locals()
    if resume is not None:
        folder = _unfinished(resume, flags)
    else:
        wanted = options.configuration(config, flags)
        if dry_run:
            _foresee(wanted)
            return
        folder = RunFolder.create(out, wanted, overwrite=overwrite) if out else new_run(wanted)
    try:
        from shpeft import pipeline

        interrupts = Interrupts()
        with console.progress_bar() as (progress, line), interrupts.heard():
            metrics = pipeline.run(
                folder.config,
                folder,
                progress=progress,
                on_epoch=interrupts.count(line),
                stop=lambda: interrupts.asked,
            )
    except (Cancelled, KeyboardInterrupt):
        if folder.ending == "discard":
            delete_run(folder)
            typer.echo(f"It was discarded; to undo: shpeft runs restore {shlex.quote(folder.name)}", err=True)
        elif folder.history():
            typer.echo(f"To go on with it: shpeft finetune --resume {shlex.quote(str(folder.path))}", err=True)
        raise
    except ShpeftError:
        if resume is None and not folder.history():  # nothing was learned: leave nothing in the way of the next try
            folder.discard()
        raise
    if json:
        console.as_json({"run": str(folder.path), **metrics})
        return
    console.results(metrics)
    if remark := folder.state.message:
        typer.echo(remark)
    typer.echo(f"Run folder: {folder.path}")
    console.notice()


def _unfinished(run: str, flags: dict[str, Any]) -> RunFolder:
    """The run that is to be resumed, where nothing else was asked.

    Raises:
        ConfigError: settings were given, too.
        RunError: there is no such run, or it is finished.
    """
    given = [name for name in ("config", "preset", "out", *PLACES) if flags[name] is not None]
    given += [name for name in ("dry_run", "overwrite") if flags[name]]
    if given:
        raise ConfigError(f"A run that is resumed has its own settings: leave out --{given[0].replace('_', '-')}.")
    folder = opened(run)
    if folder.state.status == "finished":
        raise RunError(f"The run {folder.name} is finished: there is nothing to resume.")
    return folder


def _foresee(config: RunConfig) -> None:
    """The whole configuration, and how long it will take on this machine."""
    from shpeft.datasets import load_dataset
    from shpeft.pipeline import expected

    typer.echo(config.to_yaml(), nl=False)
    with console.progress_bar() as (progress, _):
        data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=progress)
    cost = expected(config, [len(split) for split in data.splits])
    typer.echo(f"# Expected on this machine: about {cost}.")
