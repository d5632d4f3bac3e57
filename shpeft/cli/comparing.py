"""``shpeft compare``: fill a table of arms × seeds × datasets × budgets, and report what is in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shpeft.cli import console
from shpeft.cli.sentences import Sentences
from shpeft.progress import about

if TYPE_CHECKING:
    from shpeft.compare import Cell, Plan

FIRST = "run"
"""What ``shpeft compare CONFIG`` means."""


class _RunFirst(Sentences):
    """Sub-commands, of which the first may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Put the first sub-command in where a configuration is named at once."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [FIRST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunFirst,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare ways to fine-tune: `shpeft compare CONFIG.yaml`, then `shpeft compare report CONFIG.yaml`.",
)

Config = Annotated[Path, typer.Argument(help="The comparison: backbone, datasets, arms, budgets, seeds.")]
Out = Annotated[Path | None, typer.Option(help="The table's folder; by default beside the configuration.")]
Root = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        envvar="SHPEFT_DATA_ROOT",
        help="Where paths of datasets and weights begin; by default the configuration's folder.",
    ),
]


@app.command()
def run(
    config: Config,
    out: Out = None,
    data_root: Root = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Cells whose DATASET/ARM matches a pattern such as 'busi/*'; repeatable.")
    ] = None,
    reuse: Annotated[
        Path | None, typer.Option(help="The folder of another table: cells that it has finished are copied.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print how many cells and trainings there are.")] = False,
) -> None:
    """Finish every cell that is not in the table yet: a line for each. Start it once for each processor to share."""
    plan = _plan(config)
    if dry_run:
        _foresee(plan)
        return
    from shpeft import compare

    folder = out or config.with_suffix("")
    began = _Pace()
    with console.progress_bar(stages=False) as (progress, line):
        table = compare.run(
            plan,
            folder,
            root=data_root or config.parent,
            only=only or (),
            reuse=reuse,
            progress=progress,
            on_cell=lambda cell, record, done, total: line(began.sentence(cell, record, done, total)),
        )
    typer.echo(f"{len(table.cells())} cells in {table.folder}")


@app.command()
def report(
    config: Config,
    out: Out = None,
    to: Annotated[Path | None, typer.Option(help="The folder to write into; by default the table's.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 2000,
) -> None:
    """Write RESULTS.md, table.csv and figures from the table as it is, complete or not."""
    plan = _plan(config)
    from shpeft import compare

    path = compare.write_report(plan, out or config.with_suffix(""), to=to, resamples=resamples)
    typer.echo(f"Report: {path}")


@app.command()
def overlaps(config: Config, out: Out = None, data_root: Root = None) -> None:
    """Compare the weights that tasks, scores and seeds choose, and magnitude with what the tasks agree on."""
    plan = _plan(config)
    from shpeft import compare

    with console.progress_bar(stages=False) as (progress, _):
        path = compare.write_overlaps(
            plan, out or config.with_suffix(""), root=data_root or config.parent, progress=progress
        )
    typer.echo(f"Overlaps: {path}")


@app.command()
def memory(config: Config, out: Out = None, data_root: Root = None) -> None:
    """Measure the memory that training takes where a finished cell does not say so; nothing is trained."""
    plan = _plan(config)
    from shpeft import compare

    with console.progress_bar(stages=False) as (progress, line):
        table = compare.measure_memory(
            plan,
            out or config.with_suffix(""),
            root=data_root or config.parent,
            progress=progress,
            on_cell=lambda cell, found: line(f"{cell.title}: {found / 2**20:,.1f} MiB"),
        )
    typer.echo(f"Memory: {table.folder / 'cells.jsonl'}")


class _Pace:
    """One line a cell, with what is left at the pace so far."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._finished = 0

    def sentence(self, cell: "Cell", record: dict[str, Any], done: int, total: int) -> str:
        self._seconds += record["seconds"]
        self._finished += 1
        left = about((total - done) * self._seconds / self._finished)
        if record["status"] == "failed":
            found = "failed: every training diverged"
        else:
            found = f"balanced accuracy {100 * record['balanced_accuracy']:.1f}"
            if record["macro_auroc"] is not None:
                found += f", AUROC {100 * record['macro_auroc']:.1f}"
        rate = ""
        if "lr" in record:
            edge = " (edge of the grid)" if record["edge"] else ""
            rate = f", lr {record['lr']:g}{edge}, epoch {record['epoch']}/{record['epochs']}"
        return f"[{done}/{total}] {cell.title}: {found}{rate}, {record['seconds']:.0f} s; about {left} left"


def _plan(config: Path) -> "Plan":
    from shpeft.compare.plan import Plan

    return Plan.from_yaml(config)


def _foresee(plan: "Plan") -> None:
    """How many cells and trainings a plan comes to, by arm and budget."""
    from shpeft.compare.results import Entry

    cells = plan.cells()
    rows, total = [], 0
    for name, arm in plan.arms.items():
        for budget in plan.sizes(arm):
            mine = [cell for cell in cells if (cell.arm, cell.budget) == (name, budget)]
            grid = plan.grid(arm, budget) if arm.kind not in ("probe", "revert") else ()
            trainings = sum(len(grid) if plan.tuning(c).key == c.key else min(1, len(grid)) for c in mine)
            rows.append([Entry(name, budget).title, len(mine), trainings, ", ".join(f"{lr:g}" for lr in grid) or "-"])
            total += trainings
    rows.append(["all", len(cells), total, ""])
    console.table(["arm", "cells", "trainings", "learning rates"], rows)
