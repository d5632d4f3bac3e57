"""How long a plan takes on this machine, and whether its precision is slower than the other one."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.cost import CostEstimate
from shpeft.compare.plan import Plan
from shpeft.compare.running.task import load_splits
from shpeft.compare.table import Record
from shpeft.config.schema import Precision
from shpeft.forward.precision import has_bfloat16
from shpeft.pipeline.cost_estimate import seconds_a_pass
from shpeft.support.progress import Progress, silent

SLOWER = 1.1
"""From which ratio of times bfloat16 is called slower."""


def estimate_costs(
    plan: Plan,
    cells: Iterable[Cell],
    finished: Mapping[str, Record],
    root: str | Path = ".",
    progress: Progress = silent,
) -> CostEstimate:
    """Return the costs of cells: by finished cells of the same arm, kind or table, or by a measured forward pass.

    Args:
        cells: those that are left; the images of a dataset without a finished cell are read.
        finished: the table's records, by key.
        root: the folder that relative paths start from.
    """
    costs = CostEstimate(_seconds(plan, plan.training.precision))
    done = [cell for cell in list_cells(plan) if cell.key in finished]
    for cell in done:
        costs.add(cell, finished[cell.key])
    known = {(cell.dataset, cell.images) for cell in done}
    for cell in {(cell.dataset, cell.images): cell for cell in cells}.values():
        if (cell.dataset, cell.images) not in known:
            data = load_splits(cell.plan, Path(root), cell.dataset, plan.seeds[0], progress)
            costs.set_cases(cell, {split.name: len(split) for split in data.splits})
    return costs


def slow_precision(plan: Plan) -> str | None:
    """Return a sentence if the plan trains in bfloat16 where that is slower than float32.

    Both are measured, and only where the processor does not multiply in bfloat16: beside other work, threads that wait
    for each other can make the shorter pass look the longer one.
    """
    if "bfloat16" not in {plan.settings(arm).precision for arm in plan.arms.values()}:
        return None
    if has_bfloat16(torch.device("cpu")):
        return None
    whole, half = _seconds(plan, "float32"), _seconds(plan, "bfloat16")
    if half < SLOWER * whole:
        return None
    return (
        f"bfloat16 takes {half / whole:.1f} times as long as float32 on this processor. Unless the cells are to be "
        "compared with finished ones, set training.precision to float32."
    )


def _seconds(plan: Plan, precision: Precision) -> float:
    untrained = plan.backbone.model_copy(update={"weights": "random"})
    seconds: float = seconds_a_pass(untrained, precision, "cpu")
    return seconds
