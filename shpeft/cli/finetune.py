"""``shpeft finetune``: a configuration in, a run folder out."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from shpeft.cli import options, output
from shpeft.cli.interrupts import Interrupts
from shpeft.cli.runs import open_run
from shpeft.cli.sweep import carry_out
from shpeft.cli.teams import check_restartable, is_supervised, restarted_run, run_folder, silent_line
from shpeft.config import RunConfig
from shpeft.config.sweep import Sweep
from shpeft.errors import Cancelled, ConfigError, Interrupted, RunError, ShpeftError
from shpeft.jobs import Engine, engine_named
from shpeft.jobs.engines import run_on
from shpeft.runs import RunFolder, delete_run, new_run
from shpeft.support.progress import silent
from shpeft.support.team import Team


def finetune(
    *,
    config: options.Config = None,
    preset: options.Preset = None,
    settings: options.Settings = options.UNSET,
    out: Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    resume: str | None = None,
    seeds: str | None = None,
    folds: str | None = None,
    track: options.Track = None,
    engine: options.Engine = "thread",
    json: options.Json = False,
) -> None:
    """Select weights, train them, test them beside the linear probe, and write a run folder.

    Control-C ends training with the best epoch so far, which is tested and kept; a second one cancels the run.

    Args:
        out: The run folder; by default a new one in runs/.
        dry_run: Print the configuration and the expected time, and train nothing.
        overwrite: Delete an older run in the same folder.
        resume: Continue this unfinished run with its own settings.
        seeds: Repeat the run with each of these seeds, such as 0..4, and print one table.
        folds: Cross-validate: a number of folds by class and patient, or 'site' or 'fold' for one fold by each value of
            that column of the table.
    """
    carrier = engine_named(engine)
    if carrier is not None and (is_supervised() or seeds is not None or folds is not None):
        raise ConfigError(f"The engine {engine} carries out one run: leave out torchrun, --seeds and --folds.")
    if (seeds is not None or folds is not None) and resume is None:
        if is_supervised():
            raise ConfigError("A sweep runs in one process: leave out torchrun, or run its runs one by one.")
        if overwrite:
            raise ConfigError("A sweep is continued, not overwritten: leave out --overwrite, or choose another --out.")
        chosen = options.configuration(config, preset, settings)
        repeated = {"config": chosen.model_dump(), "seeds": () if seeds is None else seeds, "folds": folds}
        carry_out(Sweep.parse(repeated), out, dry_run, json, track)
        return
    if resume is not None:
        given = {
            "--config": config,
            "--preset": preset,
            "--out": out,
            "--dry-run": dry_run,
            "--overwrite": overwrite,
            "--seeds": seeds,
            "--folds": folds,
        }
        others = [name for name, value in given.items() if value] + options.given_options(settings)
        if others:
            raise ConfigError(f"A run that is resumed has its own settings: leave out {others[0]}.")
    else:
        chosen = options.configuration(config, preset, settings)
        if dry_run:
            _print_expected(chosen)
            return

    def open_folder(attempt: int) -> RunFolder:
        if resume is not None:
            return _unfinished(resume)
        if attempt and out is not None and out.exists():
            return restarted_run(out, chosen)
        return RunFolder.create(out, chosen, overwrite=overwrite) if out else new_run(chosen)

    check_restartable(out is not None or resume is not None)
    try:
        with Team.join() as team, run_folder(team, open_folder) as folder:
            metrics = _run(folder, team, resume is None, track, carrier)
            if team.leads:
                _print_results(folder, metrics, json)
    except Cancelled as error:
        if not is_supervised() or isinstance(error, Interrupted):
            raise


def _run(folder: RunFolder, team: Team, is_new: bool, track: str | None, engine: Engine | None) -> dict[str, Any]:
    """Carry out the run with a progress bar; say how to go on where it is cancelled."""
    try:
        from shpeft import pipeline
        from shpeft.pipeline.tracking import epoch_values, result_values, tracked
        from shpeft.training.loop import EpochReport

        interrupts = Interrupts()
        shown = output.progress_bar() if team.leads else nullcontext((silent, silent_line))
        with (
            tracked(track if team.leads else None, folder.name, folder.config, folder.path.parent) as tracker,
            shown as (progress, line),
            interrupts.handled(),
        ):

            def follow(report: EpochReport) -> None:
                line(report)
                tracker.log(report.epoch, epoch_values(report))

            callbacks: dict[str, Any] = {
                "progress": progress,
                "on_epoch": interrupts.count(follow),
                "stop": lambda: interrupts.asked,
            }
            if engine is None:
                metrics = pipeline.run(folder.config, folder, team=team, **callbacks)
            else:
                run_on(engine, folder, **callbacks)
                metrics = folder.metrics.read() or {}
            if team.leads:
                tracker.finish(result_values(metrics))
            return metrics
    except (Cancelled, KeyboardInterrupt):
        if folder.state.end_request == "discard":
            delete_run(folder)
            print(f"The run was discarded; to undo: shpeft runs restore {shlex.quote(folder.name)}", file=sys.stderr)
        elif team.leads and folder.history.read():
            print(f"To continue it: shpeft finetune --resume {shlex.quote(str(folder.path))}", file=sys.stderr)
        raise
    except ShpeftError:
        if is_new and not folder.history.read():  # nothing was trained: leave the folder free for the next try
            folder.discard()
        raise


def _print_results(folder: RunFolder, metrics: dict[str, Any], json: bool) -> None:
    if json:
        reliability = folder.reliability.read()
        output.as_json(
            {"run": str(folder.path), "headline": None if reliability is None else reliability.headline, **metrics}
        )
        return
    if remark := folder.state.read().message:
        print(remark)
    output.headline(folder.reliability.read())
    output.results(metrics)
    print(f"Run folder: {folder.path}")
    output.notice()


def _unfinished(run: str) -> RunFolder:
    """Return the run that is to be resumed.

    Raises:
        RunError: there is no such run, or it is finished.
    """
    folder = open_run(run)
    if folder.state.status == "finished":
        raise RunError(f"The run {folder.name} is finished: there is nothing to resume.")
    return folder


def _print_expected(config: RunConfig) -> None:
    """Print the whole configuration, and how long it will take on this machine."""
    from shpeft.datasets import load_dataset
    from shpeft.pipeline import estimate_cost

    print(config.to_yaml(), end="")
    with output.progress_bar() as (progress, _):
        data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=progress)
    cost = estimate_cost(config, [len(split) for split in data.splits])
    print(f"# Expected on this machine: about {cost}.")
