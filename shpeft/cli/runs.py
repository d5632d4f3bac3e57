"""``shpeft runs``: list, stop, rename, delete, restore and compare runs, and move them between computers."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from shpeft.cli import options, output
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
    runs_root,
)
from shpeft.runs.shared import is_shared, open_shared
from shpeft.support.atomic_files import write_atomic
from shpeft.support.formatting import interval, listed_metric

app = App("runs", help="List, stop, rename, delete, restore, compare and move runs.")

Run = Annotated[str, Parameter(help="A run folder, or the name of a run as `shpeft runs list` shows it.")]


def open_run(run: str) -> RunFolder:
    """Open a run by its folder, by its name under the runs root, or where it is shared.

    Raises:
        RunError: there is none, or it is damaged.
        WeightsUnavailable: a repository of the model hub cannot be had.
    """
    if is_shared(run):
        return open_shared(run)
    return RunFolder.open(run) if Path(run).is_dir() or Path(run).name != run else find_run(run)


@app.command(name="list")
def list_(*, json: options.Json = False) -> None:
    """List the runs, newest first.

    Runs live in $SHPEFT_RUNS, else in ./runs if that exists, else in the data folder of the user.
    """
    rows = []
    for run in list_runs():
        metrics = run.metrics.read() if run.state.status == "finished" else None
        measured = {} if metrics is None else metrics["finetuned"]
        result = ""
        if measured:
            name, title = listed_metric(measured)
            result = f"{title} {interval(measured[name])}"
        source = run.config.portable().dataset.source
        rows.append([run.name, run.state.status, source, run.config.backbone.name, result])
    header = ["run", "status", "dataset", "backbone", "main measure"]
    if json:
        output.as_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        output.table(header, rows)
        print(f"{len(rows)} runs in {runs_root().absolute()}", file=sys.stderr)


@app.command
def show(run: Run, /) -> None:
    """Print what a run achieves: its headline, and the results beside the linear probe."""
    folder = open_run(run)
    state, metrics = folder.state.read(), folder.metrics.read()
    if metrics is None:
        print(f"{folder.name} is {state.status}. {state.message}".rstrip())
        return
    output.headline(folder.reliability.read())
    output.results(metrics)
    output.notice()


@app.command
def card(run: Run, /, *, to: Literal["markdown", "html", "json", "chai"] = "markdown", out: Path | None = None) -> None:
    """Print or write the model card of a finished run.

    Args:
        to: markdown, html (one page without scripts or requests), json (for programs), or chai (XML by the schema of
            the Coalition for Health AI, version 0.2, in which a person has to fill in what shpeft cannot know).
        out: The file; by default the card is printed.
    """
    folder = open_run(run)
    from shpeft.reports import card as card_of

    text = card_of(folder, to)
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        print(out)


@app.command
def export(run: Run, /, *, out: Path | None = None) -> None:
    """Write a finished run as one file, without notes and without paths of this computer.

    Args:
        out: The file; by default RUN.zip in the working directory.
    """
    folder = open_run(run)
    print(export_run(folder, out or Path(f"{folder.name}.zip")))


@app.command(name="import")
def import_(file: Path, /, *, name: str = "") -> None:
    """Check an exported run and add it to the runs of this computer.

    Args:
        file: A file that 'shpeft runs export' wrote.
        name: The run's new name; by default its old one.
    """
    print(import_run(file, name=name).path)


@app.command
def rename(run: Run, name: str, /) -> None:
    """Give a run another name.

    Args:
        name: The new name.
    """
    print(rename_run(open_run(run), name).path)


@app.command
def stop(run: Run, /, *, discard: Annotated[bool, Parameter(negative="--keep")] = False) -> None:
    """Stop a run of any process: its best epoch so far is tested and kept.

    Args:
        discard: Move the run to the trash instead.
    """
    folder = open_run(run)
    folder.state.request_end("discard" if discard else "stop")
    end = "it is moved to the trash" if discard else "its best epoch so far is tested and kept"
    print(f"{folder.name} ends after the present step: {end}.")


@app.command
def delete(run: Run, /) -> None:
    """Move a run to the trash; 'shpeft runs restore' brings it back."""
    folder = open_run(run)
    delete_run(folder)
    print(f"{folder.name} is in the trash; to undo: shpeft runs restore {folder.name}")


@app.command
def restore(name: str, /) -> None:
    """Restore a run from the trash; of several with the same name, the last one deleted.

    Args:
        name: The run's name.
    """
    match = next((deleted for deleted in deleted_runs() if deleted.name == name), None)
    if match is None:
        raise RunError(f"There is no run {name} in the trash. 'shpeft runs trash' lists the deleted runs.")
    print(restore_run(match).path)


@app.command
def trash(*, empty: bool = False) -> None:
    """List the deleted runs, or delete them permanently.

    Args:
        empty: Delete all of them permanently.
    """
    if empty:
        print(f"{empty_trash()} runs were deleted permanently.")
        return
    for deleted in deleted_runs():
        print(f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(deleted.when))}  {deleted.name}")


@app.command
def diff(run: Run, /, *others: str, json: options.Json = False) -> None:
    """Print the settings in which runs differ.

    Args:
        others: More run folders or names.
    """
    names = (run, *others)
    folders = [open_run(name) for name in names]
    rows = differences([folder.config for folder in folders])
    if json:
        output.as_json({key: dict(zip(names, values, strict=True)) for key, values in rows.items()})
    elif rows:
        output.table(["", *(folder.name for folder in folders)], [[key, *row] for key, row in rows.items()])
    else:
        print("The settings are the same.")
