"""``shpeft compare``: fill a table of arms × seeds × datasets × budgets, and report on it."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from shpeft.cli import options, output
from shpeft.errors import ConfigError, RunError
from shpeft.jobs import Engine, engine_named
from shpeft.support.progress import format_duration

if TYPE_CHECKING:
    from shpeft.compare import Cell, Plan

app = App("compare", help="Compare ways to fine-tune over arms, seeds, datasets and budgets.")

Out = Annotated[Path | None, Parameter(help="The table's folder; by default beside the configuration.")]
Root = Annotated[
    Path | None,
    Parameter(
        "--data-root",
        env_var="SHPEFT_DATA_ROOT",
        help="Folder that paths of datasets and weights are relative to; by default the configuration's folder.",
    ),
]


@app.default
@app.command(name="run")
def run(
    config: Path,
    /,
    *,
    out: Out = None,
    data_root: Root = None,
    only: list[str] | None = None,
    reuse: Path | None = None,
    dry_run: bool = False,
    engine: options.Engine = "thread",
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
) -> None:
    """Compute every cell that the table lacks, with a line for each. Several processes can share the work.

    Args:
        config: The comparison: backbone, datasets, arms, budgets, seeds.
        only: Cells whose DATASET/ARM matches a pattern such as 'busi/*', or DATASET/ARM/SEED one such as '*/*/3';
            repeatable.
        reuse: The folder of another table, whose finished cells are copied.
        dry_run: Print how many cells and trainings are left and how long they take on this machine; train nothing.
        workers: How many processes of the engine share the cells.
    """
    plan = _plan(config)
    folder, root = out or config.with_suffix(""), data_root or config.parent
    carrier = engine_named(engine)
    if carrier is None and workers > 1:
        raise ConfigError("The engine thread works alone: add --engine process, or --engine ray.")
    if dry_run:
        _print_work(plan, folder, root, only or ())
        return
    from shpeft import compare

    if caution := compare.slow_precision(plan):
        print(caution, file=sys.stderr)
    if carrier is not None:
        cells = compare.matching_cells(plan, only or ())
        command = ["shpeft", "compare", str(config.resolve()), "--out", str(folder.resolve())]
        command += ["--data-root", str(root.resolve()), *(part for name in only or () for part in ("--only", name))]
        command += [] if reuse is None else ["--reuse", str(reuse.resolve())]

        def finished() -> list[bool]:
            keys = compare.Table(folder).cells()
            return [cell.key in keys for cell in cells]

        _share(carrier, workers, command, finished)
        print(f"{len(compare.Table(folder).cells())} cells in {folder}")
        return
    with output.progress_bar(stages=False) as (progress, line):
        table = compare.run(
            plan,
            folder,
            root=root,
            only=only or (),
            reuse=reuse,
            progress=progress,
            on_cell=lambda cell, record, done, total, left: line(_sentence(cell, record, done, total, left)),
        )
    print(f"{len(table.cells())} cells in {table.folder}")
    if waiting := sum(cell.key not in table.cells() for cell in compare.matching_cells(plan, only or ())):
        print(f"{waiting} cells wait for others that --only leaves out.")


@app.command
def report(
    config: Path,
    /,
    *,
    out: Out = None,
    to: Path | None = None,
    resamples: Annotated[int, Parameter(validator=Number(gte=100))] = 2000,
) -> None:
    """Write RESULTS.md, table.csv and figures from the table, which may be incomplete.

    Args:
        config: The comparison.
        to: The folder to write to; by default the table's.
        resamples: Bootstrap resamples.
    """
    plan = _plan(config)
    from shpeft import compare

    path = compare.write_report(plan, out or config.with_suffix(""), to=to, resamples=resamples)
    print(f"Report: {path}")


@app.command
def overlaps(config: Path, /, *, out: Out = None, data_root: Root = None) -> None:
    """Compare the weights that tasks, scores and seeds select, and magnitude with the consensus of the tasks.

    Args:
        config: The comparison.
    """
    plan = _plan(config)
    from shpeft import compare

    with output.progress_bar(stages=False) as (progress, _):
        path = compare.write_overlaps(
            plan, out or config.with_suffix(""), root=data_root or config.parent, progress=progress
        )
    print(f"Overlaps: {path}")


@app.command
def memory(config: Path, /, *, out: Out = None, data_root: Root = None) -> None:
    """Measure the memory of training for finished cells that lack the number; nothing is trained.

    Args:
        config: The comparison.
    """
    plan = _plan(config)
    from shpeft import compare

    with output.progress_bar(stages=False) as (progress, line):
        table = compare.measure_memory(
            plan,
            out or config.with_suffix(""),
            root=data_root or config.parent,
            progress=progress,
            on_cell=lambda cell, size: line(f"{cell.title}: {size / 2**20:,.1f} MiB"),
        )
    print(f"Memory: {table.folder / 'cells.jsonl'}")


@app.command
def pack(config: Path, /, *, out: Out = None) -> None:
    """Move the test probabilities of finished cells into one file; 'run' does so once all cells are finished.

    Args:
        config: The comparison.
    """
    plan_folder = out or config.with_suffix("")
    from shpeft import compare

    packed = compare.Table.existing(plan_folder).pack()
    print(f"{packed} cells packed into {plan_folder / 'predictions.npz'}")


def _share(engine: Engine, workers: int, command: Sequence[str], finished: Callable[[], list[bool]]) -> None:
    """Have several processes of an engine carry out one command, which shares its cells among them.

    Raises:
        RunError: one of them ended early; finished cells stay.
    """
    tickets = [engine.submit(command, "auto") for _ in range(workers)]
    try:
        with output.progress_bar(stages=False) as (progress, _):
            while None in (outcomes := [engine.outcome(ticket) for ticket in tickets]):
                state = finished()
                progress(f"{outcomes.count(None)} processes", sum(state), len(state))
                time.sleep(2)
    finally:
        for ticket in tickets:
            engine.kill(ticket)
    if reasons := list(filter(None, outcomes)):
        raise RunError(
            f"{len(reasons)} of {workers} processes ended early ({reasons[0]}). Run the command again: finished cells "
            "stay."
        )


def _sentence(cell: "Cell", record: dict[str, Any], done: int, total: int, left: float | None) -> str:
    """Return a line for a finished cell, with the time left."""
    if record["status"] == "failed":
        outcome = f"failed: {record.get('failure', 'every training diverged')}"
    else:
        from shpeft.compare.analysis.results import describe_record

        outcome = describe_record(record)
    rate = ""
    if "lr" in record:
        edge = " (edge of the grid)" if record["edge"] else ""
        rate = f", lr {record['lr']:g}{edge}, epoch {record['epoch']}/{record['epochs']}"
    rest = "" if left is None else f"; about {format_duration(left)} of work left"
    return f"[{done}/{total}] {cell.title}: {outcome}{rate}, {record['seconds']:.0f} s{rest}"


def _plan(config: Path) -> "Plan":
    from shpeft.compare.plan import Plan

    return Plan.from_yaml(config)


def _print_work(plan: "Plan", folder: Path, root: Path, only: "Sequence[str]") -> None:
    """Print how many cells and trainings are left, by arm and budget, and how long they take here."""
    from shpeft import compare
    from shpeft.compare.analysis.results import Entry
    from shpeft.compare.arm import UNTRAINED
    from shpeft.compare.cost import trainings

    finished = compare.Table(folder, make=False).cells()
    left = [cell for cell in compare.matching_cells(plan, only) if cell.key not in finished]
    with output.progress_bar() as (progress, _):
        costs = compare.estimate_costs(plan, left, finished, root, progress)
    rows = []
    for entry in dict.fromkeys(Entry(cell.arm, cell.budget) for cell in left):
        own = [cell for cell in left if Entry(cell.arm, cell.budget) == entry]
        arm = plan.arms[entry.arm]
        grid = plan.grid(arm, entry.budget) if arm.kind not in UNTRAINED else ()
        rates = ", ".join(f"{lr:g}" for lr in grid) or "-"
        rows.append([entry.title, len(own), sum(map(trainings, own)), rates, _hours(costs.total(own))])
    rows.append(["all", len(left), sum(map(trainings, left)), "", _hours(costs.total(left))])
    output.table(["arm", "cells", "trainings", "learning rates", "hours"], rows)
    if len(left) < len(compare.matching_cells(plan, only)):
        print("Cells that the table has are not counted.")
    if caution := compare.slow_precision(plan):
        print(caution)


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:.2f}"
