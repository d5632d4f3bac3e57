"""The verbs of the command line.

Commands import what they need when they run, so that help appears at once.
"""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shpeft.cli import comparing, console, launch, options, running
from shpeft.cli.caching import cache
from shpeft.cli.calibrating import calibrate
from shpeft.cli.diagnosing import diagnose
from shpeft.cli.finetuning import finetune
from shpeft.cli.sentences import Sentences
from shpeft.errors import ConfigError, RunError, did_you_mean
from shpeft.files import write_atomic
from shpeft.flags import PLACES
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from shpeft.summaries import LayerSummary


app = typer.Typer(
    cls=Sentences, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)


@app.callback()
def shpeft() -> None:
    """Adapt a large vision model to a diagnosis task by training about 0.01 % of its weights.

    Research use only, not a medical device.
    """


app.command()(finetune)
app.command()(cache)
app.add_typer(comparing.app, name="compare")
app.add_typer(running.app, name="runs")
app.command()(calibrate)
app.command()(diagnose)


@app.command()
def importance(
    run: Annotated[Path | None, typer.Argument(help="A run folder; without it, give a backbone and data.")] = None,
    config: options.Config = None,
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    image_size: options.ImageSize = None,
    data: options.Data = None,
    budget: options.Budget = None,
    score: options.Score = None,
    formula: options.Formula = None,
    norm: options.Norm = None,
    lam: options.Lam = None,
    normaliser: options.Normaliser = None,
    scope: options.Scope = None,
    score_images: options.ScoreImages = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    device: options.Device = None,
    which: Annotated[str, typer.Option(help="hybrid, task-specific or task-agnostic.")] = "hybrid",
    quantity: Annotated[str, typer.Option(help="selected, density, mean or maximum.")] = "selected",
    csv: Annotated[Path | None, typer.Option(help="Write a row a matrix to this file.")] = None,
    npz: Annotated[Path | None, typer.Option(help="Write the summaries, histograms included, to this file.")] = None,
    json: options.Json = False,
) -> None:
    """Print which blocks and matrices the important weights are in."""
    if quantity not in console.QUANTITIES:
        raise ConfigError(f"There is no quantity {quantity!r}. {did_you_mean(quantity, console.QUANTITIES)}")
    flags = locals()
    given = [name for name in (*PLACES, "config") if flags.get(name) is not None]
    if run is not None and given:
        raise ConfigError(f"A run folder has its own configuration: leave out --{given[0].replace('_', '-')}.")
    layers = _summaries(run, config, flags, which)
    if csv is not None:
        from shpeft.runs.formats import summaries_csv

        write_atomic(csv, summaries_csv(layers))
    if npz is not None:
        from shpeft.runs.formats import summaries_bytes

        write_atomic(npz, summaries_bytes({which: layers}))
    if json:
        console.as_json(layers)
    else:
        console.blocks(layers, quantity)


@app.command()
def overlap(
    runs: Annotated[list[Path], typer.Argument(help="One or more run folders.")],
    json: options.Json = False,
) -> None:
    """Compare the weights that each half of the score chooses, and the weights that different runs chose."""
    from shpeft.pipeline import overlap_between, overlap_in

    folders = [RunFolder.open(path) for path in runs]
    found = {}
    for folder in folders:
        try:
            found[f"{folder.name}: task-specific and task-agnostic"] = overlap_in(folder)
        except RunError:
            if len(folders) == 1:
                raise
            typer.echo(f"{folder.name} was scored without halves; only its choice is compared.", err=True)
    for a, b in itertools.combinations(folders, 2):
        found[f"{a.name} and {b.name}"] = overlap_between(a, b)
    if json:
        console.as_json(found)
        return
    for title, result in found.items():
        console.overlaps(title, result)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="Other data of the same classes; by default the run's own.")] = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Test a finished run again, on its own test images or on those of other data."""
    folder = RunFolder.open(run)
    from shpeft.pipeline import evaluate_run

    with console.progress_bar() as (progress, _):
        _, found = evaluate_run(folder, data, device=device or "auto", progress=progress)
    if json:
        console.as_json({"run": folder.name, **found})
        return
    typer.echo(f"{folder.name} on {found['finetuned']['cases']} test images of {found['dataset']}")
    console.one_model(found["finetuned"])
    console.notice()


@app.command()
def datasets(
    source: Annotated[str | None, typer.Argument(help="A dataset to describe; without it, the built-in ones.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the split.")] = 0,
    leakage: options.Leakage = None,
    image_cache: options.ImageCache = None,
    json: options.Json = False,
) -> None:
    """List the built-in datasets, or describe one: its classes, splits, warnings and damaged images.

    Of a recipe without a folder: where to get the set, its licence, the expected layout, and its known problems.
    """
    from shpeft.datasets import known_sources, load_dataset, recipe_of

    if source is None:
        sources = known_sources()
        if json:
            console.as_json(sources)
        else:
            for entry in sources:
                place = "=FOLDER" * (entry["kind"] == "recipe")
                typer.echo(f"{entry['source'] + place:28} {entry['title']}")
            typer.echo(f"{'FOLDER':28} your own images: FOLDER/train/CLASS/*, FOLDER/test/CLASS/*, or FOLDER/CLASS/*")
        return
    if (recipe := recipe_of(source)) is not None and "=" not in source:
        if json:
            console.as_json(recipe.facts())
        else:
            typer.echo(recipe.explain())
        return
    wanted = options.configuration(None, {"data": source, "seed": seed, "leakage": leakage, "image_cache": image_cache})
    with console.progress_bar() as (progress, _):
        found = load_dataset(**wanted.dataset.model_dump(), seed=seed, progress=progress).card
    if json:
        console.as_json(found)
    else:
        console.card(found)


@app.command()
def backbones(
    pattern: Annotated[str, typer.Argument(help="A part of the name, or a pattern with *.")] = "",
    json: options.Json = False,
) -> None:
    """List the backbones: the embedded one and timm's models."""
    from shpeft.backbones import list_backbones

    names = list_backbones(pattern)
    if json:
        console.as_json(names)
        return
    for name in names:
        typer.echo(name)
    if not names:
        typer.echo(f"No backbone's name contains {pattern!r}.", err=True)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="The port on this machine.", min=1, max=65535)] = 8501,
) -> None:
    """Start the app, on this machine only, and print its address."""
    flags = ["--server.port", str(port)]
    main = launch.app_file()
    launch.start([sys.executable, "-m", "streamlit", "run", str(main), *launch.settings(main, flags), *flags])


def _summaries(run: Path | None, config: Path | None, flags: dict[str, Any], which: str) -> "list[LayerSummary]":
    """A run's layer summaries, or those of a configuration that is scored now."""
    if run is not None:
        return RunFolder.open(run).summaries(which)
    wanted = options.configuration(config, flags)
    from shpeft import pipeline

    with console.progress_bar() as (progress, _):
        meter = pipeline.Meter(progress)
        chosen = pipeline.choose(wanted, pipeline.prepare(wanted, meter), meter)
    if which not in chosen.summaries:
        raise ConfigError(
            f"The score {chosen.scores.name} has no part {which!r}; it has {', '.join(chosen.summaries)}."
        )
    return chosen.summaries[which]


def main() -> None:
    """The ``shpeft`` command."""
    app()
