"""Carry out a sweep: its runs one after the other, and one table of their results."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shpeft.config.sweep import Member, Sweep
from shpeft.datasets import load_dataset
from shpeft.datasets.folds import fold_count
from shpeft.errors import RunError, TrainingError
from shpeft.evaluation.by_task import difference, metric_names, metrics_of
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.replicates import pool_folds, summarize_replicates
from shpeft.pipeline.run_pipeline import run
from shpeft.pipeline.tracking import Tracker, epoch_values, result_values, tracked
from shpeft.runs import RunFolder
from shpeft.runs.predictions import predictions_text
from shpeft.runs.sweep import SweepFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent
from shpeft.support.spreadsheet import as_text
from shpeft.training.loop import EpochReport, never

MODELS = ("finetuned", "probe", "difference")


def count_folds(sweep: Sweep, progress: Progress = silent) -> Sweep:
    """Return a sweep with the number of its folds, which for ``site`` and ``fold`` the images say.

    Raises:
        DatasetError: the images have no such column, or cannot be read.
    """
    if sweep.folds is None or sweep.fold_count is not None:
        return sweep
    data = load_dataset(**sweep.config.dataset.model_dump(), seed=sweep.config.seed, progress=progress)
    return sweep.with_fold_count(fold_count(data, sweep.column))


def run_sweep(
    folder: SweepFolder,
    *,
    progress: Progress = silent,
    on_run: Callable[[Member, int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    stop: Callable[[], bool] = never,
    track: str | None = None,
) -> dict[str, Any]:
    """Finish the runs of a sweep that are not finished yet, and write its results after each of them.

    After an interruption, a second call resumes with the next epoch. A run whose loss is not finite is left out, and
    the results name it.

    Args:
        folder: the sweep.
        progress: of the run that is carried out.
        on_run: called before each run with its number, from 1, and the number of runs.
        track: a tracker that follows each run; see :func:`shpeft.pipeline.tracking.tracked`.
        on_epoch, stop: see :func:`shpeft.run`; a training that ends early ends the sweep after it.

    Returns:
        the results, see :func:`summarize_sweep`.

    Raises:
        RunError: another run has the name of one of the sweep's.
        ShpeftError: images, backbone or settings cannot be used.

    Examples:
        >>> import tempfile
        >>> from shpeft.config.sweep import Sweep
        >>> from shpeft.runs.sweep import SweepFolder
        >>> config = {
        ...     "dataset": {"source": "phantom:fundus?n=36&size=64"},
        ...     "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        ...     "selection": {"budget": 40, "images": 8},
        ...     "training": {"epochs": 1},
        ... }
        >>> sweep = Sweep.parse({"config": config, "seeds": "0..1"})
        >>> with tempfile.TemporaryDirectory() as root:
        ...     results = run_sweep(SweepFolder.create(f"{root}/first", sweep))
        >>> [row["run"] for row in results["runs"]]
        ['first-seed0', 'first-seed1']
    """
    members = folder.members
    for number, member in enumerate(members, start=1):
        path = folder.run_path(member)
        own = RunFolder.open(path) if (path / "config.yaml").exists() else RunFolder.create(path, member.config)
        if own.config != member.config:
            raise RunError(f"{path} is a run with other settings than those of {folder.name}. Rename or delete it.")
        if own.state.status == "finished":
            continue
        if on_run is not None:
            on_run(member, number, len(members))
        try:
            with tracked(track, own.name, own.config, folder.path.parent) as tracker:

                def follow(report: EpochReport, tracker: Tracker = tracker) -> None:
                    tracker.log(report.epoch, epoch_values(report))
                    if on_epoch is not None:
                        on_epoch(report)

                metrics = run(member.config, own, progress=progress, on_epoch=follow, stop=stop)
                tracker.finish(result_values(metrics))
        except TrainingError:
            continue  # the run's own state has the reason
        _write(folder)
        if stop():
            break
    return _write(folder)


def _write(folder: SweepFolder) -> dict[str, Any]:
    finished = folder.finished()
    predictions = _pooled(finished, folder.sweep.fold_count)
    summary = summarize_sweep(folder, finished, predictions)
    several = len(folder.sweep.combinations()) > 1
    files = {}
    for (number, seed), models in predictions.items():
        parts = ["predictions"] + [str(number + 1)] * several + [f"seed{seed}"] * (len(folder.sweep.seeds) > 1)
        files["-".join(parts) + ".csv"] = predictions_text(models)
    folder.write(summary, _table(summary["runs"]), files)
    return summary


def summarize_sweep(
    folder: SweepFolder,
    finished: Sequence[tuple[Member, RunFolder]],
    predictions: dict[tuple[int, int], dict[str, Predictions]],
) -> dict[str, Any]:
    """Return the results of a sweep as JSON types.

    Returns:
        ``runs``: for each finished run its settings, test images by class, validation loss and metrics; ``missing``:
        the names of the others; ``combinations``: for each combination of settings the mean, standard deviation and
        interval of each metric over its runs; ``pooled``: for each combination and seed with all folds the metrics of
        the predictions of all folds; ``best``: the number of the combination with the lowest mean validation loss.
    """
    rows = [_row(member, run) for member, run in finished]
    combinations: list[dict[str, Any]] = []
    for number, settings in enumerate(folder.sweep.combinations()):
        own = [row for row in rows if row["combination"] == number]
        if own:
            metrics = {
                model: {name: summarize_replicates([row[model][name] for row in own]) for name in names_of(own[0])}
                for model in MODELS
            }
            loss = summarize_replicates([row["val_loss"] for row in own])
            combinations.append({"number": number, "settings": settings, "val_loss": loss, **metrics})
    pooled = [
        {
            "combination": number,
            "seed": seed,
            "finetuned": metrics_of(models["finetuned"]),
            "probe": metrics_of(models["probe"]),
            "difference": difference(models["finetuned"], models["probe"]),
        }
        for (number, seed), models in predictions.items()
    ]
    names = {folder.run_path(member).name for member in folder.members}
    best = min(combinations, key=lambda entry: entry["val_loss"].mean, default=None)
    result: dict[str, Any] = to_jsonable(
        {
            "runs": rows,
            "missing": sorted(names - {row["run"] for row in rows}),
            "combinations": combinations,
            "pooled": pooled,
            "best": None if best is None else best["number"],
        }
    )
    return result


def _row(member: Member, folder: RunFolder) -> dict[str, Any]:
    metrics = folder.metrics.read()
    assert metrics is not None
    best = next(report for report in reversed(folder.history.read()) if report.best)
    task = folder.predictions.test().task
    values = {model: {name: _number(metrics[model][name]["value"]) for name in metric_names(task)} for model in MODELS}
    by_class = metrics["finetuned"].get("per_class")
    counts = {row["name"]: row["cases"] for row in by_class or ()} or {"images": metrics["finetuned"]["cases"]}
    return {
        "run": folder.name,
        "combination": member.combination,
        "settings": member.settings,
        "seed": member.config.seed,
        "fold": member.fold,
        "test": counts,
        "val_loss": best.val_loss,
        **values,
    }


def names_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of a run of a sweep, which its task has."""
    return tuple(row["finetuned"])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _pooled(
    finished: Sequence[tuple[Member, RunFolder]], folds: int | None
) -> dict[tuple[int, int], dict[str, Predictions]]:
    """Return the predictions of both models for all folds, by combination and seed; those with all folds only."""
    runs: dict[tuple[int, int], list[RunFolder]] = {}
    for member, run_folder in finished if folds else ():
        runs.setdefault((member.combination, member.config.seed), []).append(run_folder)
    return {
        key: {model: pool_folds([run.predictions.test(model) for run in own]) for model in ("finetuned", "probe")}
        for key, own in runs.items()
        if len(own) == folds
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the runs as CSV, a row a run."""
    out = io.StringIO()
    if rows:
        first = rows[0]
        writer = csv.writer(out, lineterminator="\n")
        names = names_of(first)
        metrics = [f"{model}:{name}" for model in MODELS for name in names]
        classes = [f"test:{name}" for name in first["test"]]
        writer.writerow(["run", "seed", "fold", *first["settings"], *map(as_text, classes), "val_loss", *metrics])
        for row in rows:
            values = [row[model][name] for model in MODELS for name in names]
            fold = "" if row["fold"] is None else row["fold"]
            settings = [as_text(value) for value in row["settings"].values()]
            writer.writerow([row["run"], row["seed"], fold, *settings, *row["test"].values(), row["val_loss"], *values])
    return out.getvalue()
