"""``shpeft runs``: list, stop, rename, delete and restore runs, say how they differ, carry them to other computers."""

import time
from pathlib import Path
from typing import Annotated

import typer

from shpeft.cli import console, options
from shpeft.cli.sentences import Sentences
from shpeft.config import differences
from shpeft.errors import RunError
from shpeft.runs import (
    RunFolder,
    delete_run,
    deleted_runs,
    empty_trash,
    export_run,
    find_run,
    import_run,
    list_runs,
    rename_run,
    restore_run,
)
from shpeft.runs.card import interval

app = typer.Typer(cls=Sentences, no_args_is_help=True, rich_markup_mode=None, help="Look after runs.")

Run = Annotated[str, typer.Argument(help="A run folder, or the name of a run in runs/.")]


def opened(run: str) -> RunFolder:
    """The run of this folder, or of this name.

    Raises:
        RunError: there is none, or it is damaged.
    """
    return RunFolder.open(run) if Path(run).is_dir() or Path(run).name != run else find_run(run)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the runs, newest first."""
    rows = []
    for run in list_runs():
        metrics = run.metrics() if run.state.status == "finished" else None
        auroc = interval(metrics["finetuned"]["macro_auroc"]) if metrics else ""
        rows.append([run.name, run.state.status, run.config.portable().dataset.source, run.config.backbone.name, auroc])
    header = ["run", "status", "dataset", "backbone", "AUROC"]
    if json:
        console.as_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        console.table(header, rows)


@app.command()
def export(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="The file; by default RUN.zip here.")] = None,
) -> None:
    """Write a finished run as one file, without notes and without places on this computer."""
    folder = opened(run)
    typer.echo(export_run(folder, out or Path(f"{folder.name}.zip")))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that 'shpeft runs export' wrote.")],
    name: Annotated[str, typer.Option(help="What the run is called here; by default as it was.")] = "",
) -> None:
    """Check an exported run and put it beside the others."""
    typer.echo(import_run(file, name=name).path)


@app.command()
def rename(run: Run, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a run another name."""
    typer.echo(rename_run(opened(run), name).path)


@app.command()
def stop(
    run: Run,
    discard: Annotated[bool, typer.Option("--discard/--keep", help="Put it into the trash instead.")] = False,
) -> None:
    """End a run that is under way, of whichever process: its best epoch so far is tested and kept."""
    folder = opened(run)
    folder.ask("discard" if discard else "stop")
    end = "it goes into the trash" if discard else "its best epoch so far is tested and kept"
    typer.echo(f"{folder.name} ends after the present step: {end}.")


@app.command()
def delete(run: Run) -> None:
    """Put a run into the trash; 'shpeft runs restore' takes it out again."""
    folder = opened(run)
    delete_run(folder)
    typer.echo(f"{folder.name} is in the trash; to undo: shpeft runs restore {folder.name}")


@app.command()
def restore(name: Annotated[str, typer.Argument(help="What the run was called.")]) -> None:
    """Take a run out of the trash; of several of a name the one that was deleted last."""
    found = next((deleted for deleted in deleted_runs() if deleted.name == name), None)
    if found is None:
        raise RunError(f"There is no run {name} in the trash. 'shpeft runs trash' lists what is.")
    typer.echo(restore_run(found).path)


@app.command()
def trash(empty: Annotated[bool, typer.Option("--empty", help="Delete all of it for good.")] = False) -> None:
    """List the deleted runs, or delete them for good."""
    if empty:
        typer.echo(f"{empty_trash()} runs were deleted for good.")
        return
    for deleted in deleted_runs():
        typer.echo(f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(deleted.when))}  {deleted.name}")


@app.command()
def diff(
    runs: Annotated[list[str], typer.Argument(help="Two or more run folders or names.")],
    json: options.Json = False,
) -> None:
    """Print the settings in which runs differ."""
    folders = [opened(run) for run in runs]
    found = differences([folder.config for folder in folders])
    if json:
        console.as_json({key: dict(zip(runs, values, strict=True)) for key, values in found.items()})
    elif found:
        console.table(["", *(folder.name for folder in folders)], [[key, *row] for key, row in found.items()])
    else:
        typer.echo("Their settings are the same.")
