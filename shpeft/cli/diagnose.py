"""``shpeft diagnose``: single images to the screen and to files, one image to a report, many to a CSV."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import diagnose_series, diagnosis_files, options, output
from shpeft.cli.runs import open_run
from shpeft.config.schema import SeriesRule
from shpeft.errors import ConfigError, MissingExtra, ShpeftError
from shpeft.support.atomic_files import write_atomic
from shpeft.support.headless_browser import unavailable_reason
from shpeft.support.jsonable import to_jsonable

if TYPE_CHECKING:
    from shpeft.pipeline import LoadedRun

BatchSize = Annotated[int, Parameter(validator=Number(gte=1, lte=4096))]


def diagnose(
    run: Path,
    image: Path,
    /,
    *more: Path,
    csv: Path | None = None,
    names: Path | None = None,
    batch_size: BatchSize | None = None,
    report: Path | None = None,
    note: str = "",
    finding: str = "",
    saliency: str | None = None,
    target: str | None = None,
    out: Path | None = None,
    dicom_out: Path | None = None,
    series_rule: SeriesRule | None = None,
    weights: str | None = None,
    seed: int = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Diagnose images with a run's model. Files are named by number and content, never by the image's name.

    Args:
        run: A finished run; or a shared one: local-dir:FOLDER or hf-hub:OWNER/NAME, exported with --to hub.
        image: An image; with --csv, folders and zip files, too.
        more: More of them.
        csv: Write a CSV with a row per file, under opaque ids; an interrupted one is continued.
        names: With --csv, write a second CSV that says which id is which file. File names can identify patients.
        batch_size: With --csv, images that pass the model together; more are faster on a graphics card. The CSV names
            it, since it decides the last digits of a probability; 1 gives those of a single diagnosis.
        report: For one image, write an HTML or PDF file with map, checks and cards.
        note: A sentence for the report.
        finding: The reader's own finding for the report; by default a field to fill in by hand.
        saliency: A saliency method, such as integrated_gradients.
        target: The class to explain; by default the one that the answer is about.
        out: A folder for a JSON file and an overlay PNG per image.
        dicom_out: For DICOM files, a folder for results that an archive takes: structured report, map, PDF, window.
        series_rule: Take the files for slices of DICOM series, and answer each series: by the slice with the highest
            probability of the class that must not be missed, by the mean of all slices, or by their mean with attention
            to the riskier ones. With --csv, a series is a row, and other images are rows as before.
        weights: The new path of the base weights, if they were moved.
        seed: For the saliency methods that draw samples.
    """
    images = (image, *more)
    single = {"--saliency": saliency, "--target": target, "--out": out, "--dicom-out": dicom_out}
    _check(images, csv, {"--names": names, "--batch-size": batch_size}, report, single, series_rule)
    folder = open_run(str(run))
    from shpeft.explanation.saliency import check_method
    from shpeft.explanation.target import target_index
    from shpeft.pipeline import load_run

    loaded = load_run(folder, device, weights)
    if saliency is not None:
        check_method(saliency)
    if target is not None:
        target_index(target, loaded.backbone.classes)
    if csv is not None:
        _batch(loaded, images, csv, names, batch_size or 1, series_rule, json)
        return
    if report is not None:
        from shpeft.reports import as_pdf

        with output.progress_bar() as (progress, _):
            text = diagnosis_files.report_file(
                loaded,
                folder,
                images[0],
                saliency=saliency,
                target=target,
                note=note,
                finding=finding,
                seed=seed,
                progress=progress,
            )
        write_atomic(report, as_pdf(text) if _is_pdf(report) else text)
        if out is None and not json:
            print(f"The report is {report}.")
            output.notice()
            return
    for made in (out, dicom_out):
        if made is not None:
            diagnosis_files.make_folder(made)
    if series_rule is not None:
        diagnose_series.diagnose_all(
            loaded,
            folder,
            images,
            series_rule,
            saliency=saliency,
            target=target,
            note=note,
            finding=finding,
            seed=seed,
            out=out,
            results=dicom_out,
            json=json,
        )
        return
    entries, failed = [], False
    for number, path in enumerate(images, start=1):
        try:
            with output.progress_bar() as (progress, _):
                entry, diagnosis = diagnosis_files.diagnose_file(
                    loaded,
                    folder,
                    path,
                    number,
                    saliency=saliency,
                    target=target,
                    seed=seed,
                    out=out,
                    results=dicom_out,
                    note=note,
                    finding=finding,
                    progress=progress,
                )
        except ShpeftError as error:
            if len(images) == 1:
                raise
            print(error, file=sys.stderr)
            failed = True
            continue
        entries.append(entry)
        if not json:
            output.diagnosis(entry["id"], diagnosis)
            if entry.get("withheld"):
                print(f"  {entry['withheld']}")
            if dicom_out is not None:
                output.dicom_files(entry["dicom"], dicom_out)
    if json:
        output.as_json(entries)
    else:
        output.notice()
    if failed:
        sys.exit(2)


def _check(
    images: Sequence[Path],
    csv: Path | None,
    of_csv: dict[str, Any],
    report: Path | None,
    single: dict[str, Any],
    series_rule: str | None,
) -> None:
    """Refuse options that do not go together, before a model is loaded."""
    many = [path for path in images if path.is_dir() or path.suffix.lower() == ".zip"]
    if series_rule is not None and report is not None:
        raise ConfigError("--series-rule answers series, and --report is about a single image: leave one of them out.")
    if csv is None and many and series_rule is None:
        raise ConfigError(
            "A folder or a zip file is diagnosed into a CSV with a row per file: name it with --csv FILE. If it holds "
            "series of DICOM slices, --series-rule gives one answer to each series."
        )
    if csv is None and (useless := [flag for flag, value in of_csv.items() if value is not None]):
        raise ConfigError(f"{useless[0]} is about a CSV with a row per file: give --csv FILE, too.")
    given = [flag for flag, value in {**single, "--report": report}.items() if value is not None]
    if csv is not None and given:
        raise ConfigError(f"--csv diagnoses many images, and {given[0]} is for single images: leave one of them out.")
    if report is not None and len(images) > 1:
        raise ConfigError(f"A report is about one image, and {len(images)} were given. Make one at a time.")
    if report is not None and _is_pdf(report) and unavailable_reason():
        raise MissingExtra(f"{unavailable_reason()}; or name the report .html, and print it in any browser.")
    names = of_csv["--names"]
    if csv is not None and names is not None and csv.absolute() == names.absolute():
        raise ConfigError("--csv and --names are two files: give two different paths.")


def _is_pdf(report: Path) -> bool:
    return report.suffix.lower() == ".pdf"


def _batch(
    loaded: "LoadedRun",
    inputs: Sequence[Path],
    csv: Path,
    names: Path | None,
    batch_size: int,
    rule: SeriesRule | None,
    json: bool,
) -> None:
    from shpeft.batch import by_series, diagnose_batch, names_csv, open_source, summary

    with _continuable(csv), output.progress_bar() as (progress, _), open_source(inputs, progress) as source:
        cases = source if rule is None else by_series(source, rule, progress)
        result = diagnose_batch(loaded, cases, csv, batch_size=batch_size, progress=progress)
    if names is not None:
        write_atomic(names, names_csv(result))
    counts = summary(csv.read_text(encoding="utf-8"))
    for name, reason in result.unreadable:
        print(f"{name}: {reason}", file=sys.stderr)
    if json:
        output.as_json({"run": loaded.name, "others": result.others, **to_jsonable(counts)})
        return
    print(f"{counts.done:,} files, {counts.unreadable:,} of them unreadable; {result.others:,} others are not images.")
    output.table([], [[f"  {name}", f"{count:,}"] for name, count in counts.answers.items()])
    band = "" if counts.of_numbers else f"{counts.abstained:,} are inside the abstain band; "
    print(f"{band}{counts.unlike_training:,} are unlike the training images.")
    if counts.marked:
        print(f"Text or markers are visible in {counts.marked:,}: check that they show no name.")
    output.notice()


@contextmanager
def _continuable(csv: Path) -> Iterator[None]:
    """Say after an interruption how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        if csv.exists():
            print("The CSV holds the images that are done. Run the same command again to continue.", file=sys.stderr)
        raise
