"""``shpeft sweep``: one configuration over seeds, folds and lists of settings, and one table of the results."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shpeft.cli import options, output
from shpeft.cli.interrupts import Interrupts
from shpeft.config.sweep import Sweep
from shpeft.errors import Cancelled
from shpeft.runs import RunFolder, runs_root
from shpeft.runs.listing import free_name, slug
from shpeft.runs.sweep import DEFINITION, SweepFolder
from shpeft.support.formatting import TITLES, interval, main_metrics, spread


def sweep(
    file: Path,
    /,
    *,
    out: Path | None = None,
    dry_run: bool = False,
    track: options.Track = None,
    json: options.Json = False,
) -> None:
    """Repeat a configuration over seeds, folds and lists of settings, and write one table of the results.

    Runs that are finished are not repeated: after an interruption, the same command continues.

    Args:
        file: A YAML file with config, seeds, folds and settings; or the folder of a sweep, to continue it.
        out: The folder of the results; by default a new one in runs/. The runs are written beside it.
        dry_run: List the runs and the expected time, and train nothing.
    """
    if (file / DEFINITION).is_file():
        folder = SweepFolder.open(file)
        carry_out(folder.sweep, folder.path, dry_run, json, track)
    else:
        carry_out(Sweep.from_yaml(file), out, dry_run, json, track)


def carry_out(
    definition: Sweep, out: Path | None, dry_run: bool = False, json: bool = False, track: str | None = None
) -> None:
    """Run a sweep and print its table."""
    from shpeft.pipeline.sweep import count_folds, run_sweep

    with output.progress_bar() as (progress, line):
        definition = count_folds(definition, progress)
    if dry_run:
        _print_expected(definition)
        return
    if out is None:
        root = runs_root()
        out = root / free_name(f"{slug(definition.config.dataset.source)}-sweep", root)
    folder = SweepFolder.create(out, definition)
    interrupts = Interrupts()
    try:
        with output.progress_bar(stages=False) as (progress, line), interrupts.handled():
            results = run_sweep(
                folder,
                progress=progress,
                on_run=lambda member, number, count: line(f"Run {number} of {count}: {member.name or 'run'}"),
                on_epoch=interrupts.count(lambda report: None),
                track=track,
                stop=lambda: interrupts.asked,
            )
    except (Cancelled, KeyboardInterrupt):
        print(f"To continue: shpeft sweep {folder.path}", file=sys.stderr)
        raise
    if json:
        output.as_json({"sweep": str(folder.path), **results})
    else:
        show(folder, results)


def show(folder: SweepFolder, results: Mapping[str, Any]) -> None:
    """Print the results of a sweep: a row a run, then each combination of settings, then the folds together."""
    runs, combinations = results["runs"], results["combinations"]
    shown = main_metrics(runs[0]["finetuned"]) if runs else ()
    if not runs:
        print("No run is finished.")
    else:
        metrics = [f"{TITLES[name]}{' of probe' * (model == 'probe')}" for name in shown for model in _MODELS]
        output.table(
            ["run", "test images", "val loss", *metrics],
            [
                [
                    row["run"],
                    " + ".join(f"{count} {name}" for name, count in row["test"].items()),
                    f"{row['val_loss']:.3f}",
                    *(_text(row[model][name]) for name in shown for model in _MODELS),
                ]
                for row in runs
            ],
        )
    for entry in combinations:
        settings = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in entry["settings"].items())
        print(
            f"\n{settings or 'All runs'}: {entry['val_loss']['runs']} runs, mean ± standard deviation [95 % interval]"
        )
        output.table(
            ["", "fine-tuned", "linear probe", "difference"],
            [
                [
                    TITLES[name],
                    *(spread(entry[model][name], sign=model == "difference") for model in (*_MODELS, "difference")),
                ]
                for name in shown
            ],
        )
    for entry in results["pooled"]:
        cases = entry["finetuned"]["cases"]
        which = f"combination {entry['combination'] + 1}, " if len(combinations) > 1 else ""
        print(f"\nAll folds together, {which}seed {entry['seed']}: {cases} images, each by a model that never saw it")
        output.table(
            ["", "fine-tuned", "linear probe", "difference"],
            [
                [
                    TITLES[name],
                    interval(entry["finetuned"][name]),
                    interval(entry["probe"][name]),
                    interval(entry["difference"][name], sign=True),
                ]
                for name in shown
            ],
        )
    if len(combinations) > 1:
        print(f"\nThe lowest mean validation loss is that of combination {results['best'] + 1}.")
    for name in results["missing"]:
        path = folder.path.with_name(name)
        state = RunFolder.open(path).state.read() if (path / "config.yaml").exists() else None
        print(f"{name} is missing: {f'{state.status}. {state.message}' if state else 'not run yet'}")
    print(f"Results: {folder.path}")
    output.notice()


_MODELS = ("finetuned", "probe")


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _print_expected(definition: Sweep) -> None:
    """Print the definition of a sweep, its runs, and how long they will take on this machine."""
    from shpeft.datasets import load_dataset
    from shpeft.pipeline import estimate_cost
    from shpeft.support.progress import format_duration

    print(definition.to_yaml(), end="")
    members, seconds = definition.members(), 0.0
    with output.progress_bar() as (progress, _):
        for member in members:
            data = load_dataset(**member.config.dataset.model_dump(), seed=member.config.seed, progress=progress)
            seconds += estimate_cost(member.config, [len(split) for split in data.splits]).seconds
            print(f"# {member.name or 'run'}: {', '.join(f'{len(split)} {split.name}' for split in data.splits)}")
    print(f"# {len(members)} runs. Expected on this machine: about {format_duration(seconds)}.")
