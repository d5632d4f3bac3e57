"""``shpeft diagnose``: single images to the screen and to files, one image to a report, many to a CSV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shpeft.cli import console, exports, options
from shpeft.errors import ConfigError, MissingExtra, ShpeftError
from shpeft.files import write_atomic
from shpeft.printing import obstacle
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from shpeft.pipeline import LoadedRun


def diagnose(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Images; with --csv folders and zips, too.")],
    csv: Annotated[
        Path | None, typer.Option(help="A CSV with a row a file, under opaque ids. One that was interrupted goes on.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="With --csv: a second CSV that says which id is which file. It names patients.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Of one image: an HTML file, or a PDF, with map, checks and cards.")
    ] = None,
    note: Annotated[str, typer.Option(help="A sentence for the report.")] = "",
    saliency: Annotated[str | None, typer.Option(help="A saliency method, such as integrated_gradients.")] = None,
    target: Annotated[str | None, typer.Option(help="The class to explain; by default the predicted one.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for a JSON and an overlay PNG an image.")] = None,
    weights: Annotated[str | None, typer.Option(help="Where the base weights are now, if they were moved.")] = None,
    seed: Annotated[int, typer.Option(help="For the saliency methods that draw samples.")] = 0,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Diagnose images with a run's model. Files are named by number and content, never by the image's name."""
    _check(images, csv, names, report, {"--saliency": saliency, "--target": target, "--out": out})
    folder = RunFolder.open(run)
    from shpeft.pipeline import load_run

    loaded = load_run(folder, device or "auto", weights)
    if csv is not None:
        _batch(loaded, images, csv, names, json)
        return
    if report is not None:
        from shpeft.reports import as_pdf

        with console.progress_bar() as (progress, _):
            text = exports.report_file(
                loaded, folder, images[0], saliency=saliency, target=target, note=note, seed=seed, progress=progress
            )
        write_atomic(report, as_pdf(text) if _printed(report) else text)
        if out is None and not json:
            typer.echo(f"The report is {report}.")
            console.notice()
            return
    if out is not None:
        exports.make_folder(out)
    found, failed = [], False
    for number, path in enumerate(images, start=1):
        try:
            with console.progress_bar() as (progress, _):
                entry = exports.diagnose_file(
                    loaded, path, number, saliency=saliency, target=target, seed=seed, out=out, progress=progress
                )
        except ShpeftError as error:
            if len(images) == 1:
                raise
            typer.echo(str(error), err=True)
            failed = True
            continue
        found.append(entry)
        if not json:
            console.judged(entry)
    if json:
        console.as_json(found)
    else:
        console.notice()
    if failed:
        raise typer.Exit(2)


def _check(
    images: Sequence[Path], csv: Path | None, names: Path | None, report: Path | None, single: dict[str, Any]
) -> None:
    """What does not go together, before a model is loaded."""
    many = [path for path in images if path.is_dir() or path.suffix.lower() == ".zip"]
    if csv is None and many:
        raise ConfigError("A folder or a zip is diagnosed to a CSV with a row a file: say where with --csv FILE.")
    if csv is None and names is not None:
        raise ConfigError("--names says which id of a CSV is which file: give --csv FILE, too.")
    given = [flag for flag, value in {**single, "--report": report}.items() if value is not None]
    if csv is not None and given:
        raise ConfigError(f"--csv diagnoses many images, and {given[0]} is for single ones: leave one of them out.")
    if report is not None and len(images) > 1:
        raise ConfigError(f"A report is about one image, and {len(images)} were given. Make one at a time.")
    if report is not None and _printed(report) and obstacle():
        raise MissingExtra(f"{obstacle()}; or name the report .html, and print it in any browser.")
    if csv is not None and names is not None and csv.absolute() == names.absolute():
        raise ConfigError("--csv and --names are two files: give two places.")


def _printed(report: Path) -> bool:
    return report.suffix.lower() == ".pdf"


def _batch(loaded: "LoadedRun", places: Sequence[Path], csv: Path, names: Path | None, json: bool) -> None:
    from shpeft.batch import diagnose_batch, names_csv, open_source, summary

    with _hint(csv), console.progress_bar() as (progress, _), open_source(places, progress) as source:
        result = diagnose_batch(loaded, source, csv, progress=progress)
    if names is not None:
        write_atomic(names, names_csv(result))
    counts = summary(csv.read_text(encoding="utf-8"))
    for name, reason in result.unreadable:
        typer.echo(f"{name}: {reason}", err=True)
    if json:
        console.as_json({"run": loaded.name, "others": result.others, **console.plain(counts)})
        return
    typer.echo(
        f"{counts.done:,} files, {counts.unreadable:,} of them unreadable; {result.others:,} others are no images."
    )
    console.table([], [[f"  {name}", f"{count:,}"] for name, count in counts.predicted.items()])
    typer.echo(
        f"The model abstains on {counts.abstained:,}; {counts.unlike_training:,} look unlike the training images."
    )
    console.notice()


@contextmanager
def _hint(csv: Path) -> Iterator[None]:
    """Whoever stops it is told that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        if csv.exists():
            typer.echo("What is done stands in the CSV. Give the same command again to go on.", err=True)
        raise
