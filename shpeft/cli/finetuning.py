"""``shpeft finetune``: a configuration in, a run folder out."""

from pathlib import Path
from typing import Annotated

import typer

from shpeft.cli import console, options
from shpeft.config import RunConfig
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder, new_run


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
    json: options.Json = False,
) -> None:
    """Choose weights, train them, test them beside the linear probe, and leave a run folder."""
    wanted = options.configuration(config, locals())
    if dry_run:
        _foresee(wanted)
        return
    folder = RunFolder.create(out, wanted, overwrite=overwrite) if out else new_run(wanted)
    try:
        from shpeft import pipeline

        with console.progress_bar() as (progress, line):
            metrics = pipeline.run(folder.config, folder, progress=progress, on_epoch=line)
    except ShpeftError:
        if not folder.history():  # nothing was learned: leave nothing in the way of the next try
            folder.discard()
        raise
    if json:
        console.as_json({"run": str(folder.path), **metrics})
        return
    console.results(metrics)
    typer.echo(f"Run folder: {folder.path}")
    console.notice()


def _foresee(config: RunConfig) -> None:
    """The whole configuration, and how long it will take on this machine."""
    from shpeft.datasets import load_dataset
    from shpeft.pipeline import expected

    typer.echo(config.to_yaml(), nl=False)
    with console.progress_bar() as (progress, _):
        data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=progress)
    cost = expected(config, [len(split) for split in data.splits])
    typer.echo(f"# Expected on this machine: about {cost}.")
