"""Run a plan: finish each cell once, in one process or in several that share the cells."""

import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.cost import CostEstimate, TableProgress
from shpeft.compare.plan import Plan
from shpeft.compare.running.cell_runner import CellRunner, can_run
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.compare.running.work_clock import WorkClock
from shpeft.compare.table import PLAN, Record, Table
from shpeft.errors import ConfigError
from shpeft.support.atomic_files import write_atomic
from shpeft.support.progress import Progress, silent

WAITING = "waiting for the cells of other processes"
"""The stage of a process that has nothing to begin."""

PAUSE = 2.0
"""Seconds between two looks at the cells of other processes."""


def run(
    plan: Plan,
    out: str | Path,
    *,
    root: str | Path = ".",
    only: Sequence[str] = (),
    reuse: str | Path | None = None,
    progress: Progress = silent,
    on_cell: Callable[[Cell, Record, int, int, float | None], None] | None = None,
) -> Table:
    """Finish every cell of a plan that is not in the table yet.

    After an interruption, a second call resumes with the next training. Calls in several processes share the cells, on
    one machine or, over a shared folder, on many: one with nothing to begin waits for the cells of the others and takes
    over those of a process that ends. Once all cells of the plan are finished, their probabilities are packed into one
    file.

    Args:
        plan: what is compared.
        out: the table's folder.
        root: the folder that relative paths of datasets and weights start from.
        only: patterns such as ``busi/*`` for ``dataset/arm``, or ``*/*/3`` for ``dataset/arm/seed``; other cells are
            skipped.
        reuse: the folder of another table, whose finished cells are copied where this plan has the same ones.
        progress: called as ``progress(stage, done, total)``.
        on_cell: called with each cell that this process has finished, its record, the number of finished cells, the
            number of all cells, and the seconds of work that are left, by the costs of the finished ones.

    Returns:
        The table.

    Raises:
        ConfigError: a pattern matches no cell.
        RunError: images or weights differ from those of earlier cells; or there is no table to reuse.
        ShpeftError: loading, scoring or training failed; finished cells are kept.
    """
    table = Table(out)
    cells = matching_cells(plan, only)
    earlier = None if reuse is None else Table.existing(reuse)
    if not _is_part(plan, table):
        write_atomic(table.folder / PLAN, plan.to_yaml())
    if earlier is not None:
        table.copy_cells(earlier, (cell.key for cell in list_cells(plan)))
    costs = CostEstimate()
    whole = TableProgress(progress, cells, costs)
    clock = WorkClock(whole)
    plans = {own.images_per_class.train: own for own in plan.by_images}

    @lru_cache(maxsize=1)  # the images and features of one number of training images are held at a time
    def runner_of(images: int | None) -> CellRunner:
        tasks = Tasks(plans[images], root, clock)
        return CellRunner(plans[images], tasks, table, ScoreCache(tasks, table), clock)

    advanced, waiting, finished = True, False, table.cells()
    for cell in cells:
        if cell.key in finished:
            costs.add(cell, finished[cell.key])
    while advanced or waiting:
        if not advanced:
            progress(WAITING, len(cells) - sum(cell.key not in finished for cell in cells), len(cells))
            time.sleep(PAUSE)
        advanced = waiting = False
        for cell in cells:
            finished = table.cells()
            if cell.key in finished or not can_run(cell, finished):
                continue
            with table.claim(cell.key) as claimed:
                waiting = waiting or not claimed
                if not claimed or cell.key in table.cells():
                    continue
                whole.begin(cell, finished)
                record = runner_of(cell.images).run(cell)
            advanced, finished = True, table.cells()
            costs.add(cell, record)
            if on_cell is not None:
                left = [c for c in cells if c.key not in finished]
                on_cell(cell, record, len(cells) - len(left), len(cells), costs.total(left))
    if finished_all(plan, table):
        table.pack()
    return table


def matching_cells(plan: Plan, only: Sequence[str] = ()) -> list[Cell]:
    """List the cells of a plan whose ``dataset/arm`` or ``dataset/arm/seed`` matches a pattern; without patterns, all.

    Raises:
        ConfigError: no cell matches.
    """

    def matches(cell: Cell) -> bool:
        name = f"{cell.dataset}/{cell.arm}"
        return any(fnmatch(text, pattern) for text in (name, f"{name}/{cell.seed}") for pattern in only)

    cells = [cell for cell in list_cells(plan) if not only or matches(cell)]
    if not cells:
        raise ConfigError(
            f"No cell matches {', '.join(only)}. Give patterns of DATASET/ARM, such as 'busi/*', or of "
            "DATASET/ARM/SEED, such as '*/*/3'."
        )
    return cells


def _is_part(plan: Plan, table: Table) -> bool:
    """Return whether the table's plan has all cells of this plan and more, so that it stays the table's plan."""
    path = table.folder / PLAN
    if not path.exists():
        return False
    try:
        stored = {cell.key for cell in list_cells(Plan.from_yaml(path))}
    except ConfigError:  # a plan of another version is replaced
        return False
    return {cell.key for cell in list_cells(plan)} < stored


def finished_all(plan: Plan, table: Table) -> bool:
    """Return whether a table holds every cell of a plan."""
    finished = table.cells()
    return all(cell.key in finished for cell in list_cells(plan))
