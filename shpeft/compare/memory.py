"""What training takes beside the backbone itself: activations that one batch keeps, gradients and AdamW's moments."""

from collections.abc import Callable
from pathlib import Path

from torch.nn.functional import cross_entropy

from shpeft.backbones import Backbone
from shpeft.compare.arms import Trainings
from shpeft.compare.dense import tuner
from shpeft.compare.plan import Cell, Plan
from shpeft.compare.scores import ScoreBook
from shpeft.compare.table import Record, Table
from shpeft.compare.tasks import Tasks
from shpeft.delta import SparseDelta
from shpeft.feed import Feed
from shpeft.gradients import saved_bytes
from shpeft.progress import Progress, silent
from shpeft.trainable import Trainable, lr_scale

STATE = 3 * 4
"""Bytes of a trained value in float32: its gradient and AdamW's two moments."""


def training_memory(trainings: Trainings) -> int:
    """Bytes that training a cell keeps at a time, the backbone's own weights left out.

    The activations that autograd keeps of one training batch, and ``STATE`` for each trained value, the head's among
    them. To be called once a cell is trained: training caches features in its own batches.
    """
    task, arm, settings = trainings.task, trainings.arm, trainings.settings
    if arm.kind not in ("head", "sparse"):
        dense = tuner(arm, task, trainings.cell.seed)
        feed = task.feed(dense.backbone, dense.below, settings.precision)
        trained = sum(p.numel() for p in dense.trained.values())
        return _kept(dense.backbone, feed, trainings) + STATE * trained
    delta = SparseDelta.zeros(task.backbone, trainings.support, task.probe)
    scale = lr_scale(task.backbone, delta.support, arm.lr_scale) if delta.k else None
    with Trainable(task.backbone, delta, lr_scale=scale):
        return _kept(task.backbone, trainings.feed, trainings) + STATE * (delta.k + task.backbone.head_count)


def _kept(backbone: Backbone, feed: Feed, trainings: Trainings) -> int:
    """Bytes of the activations of one batch of training images."""
    inputs, target = next(iter(feed.batches(trainings.task.data.train, trainings.settings.batch_size)))
    there = (*backbone.module.parameters(), *backbone.module.buffers(), inputs, target)
    return saved_bytes(lambda: cross_entropy(feed(inputs), target), there)


def measure_memory(
    plan: Plan,
    out: str | Path,
    *,
    root: str | Path = ".",
    progress: Progress = silent,
    on_cell: Callable[[Cell, int], None] | None = None,
) -> Table:
    """Measure the memory of finished cells that were trained before it was recorded; nothing is trained.

    One cell of each arm, budget and dataset is measured, the first of the plan's order: seeds and masks hardly differ.

    Args:
        root: where the paths of datasets and of weights begin.
        on_cell: called with each cell that was measured, and its bytes.
    """
    table = Table(out)
    tasks = Tasks(plan, root, progress)
    book = ScoreBook(tasks, table)
    for cell, record in _unmeasured(plan, table.cells()):
        found = training_memory(Trainings(cell, tasks.get(cell.dataset, cell.seed), book, progress))
        table.add_cell(record | {"memory": found}, None)  # of lines with one key the last counts
        if on_cell is not None:
            on_cell(cell, found)
    return table


def _unmeasured(plan: Plan, finished: dict[str, Record]) -> list[tuple[Cell, Record]]:
    """Of each arm, budget and dataset the first trained cell, where none of them was measured."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in plan.cells():
        if plan.arms[cell.arm].kind not in ("probe", "revert") and cell.key in finished:
            groups.setdefault((cell.arm, cell.budget, cell.dataset), []).append(cell)
    missing = [cells[0] for cells in groups.values() if not any("memory" in finished[c.key] for c in cells)]
    return [(cell, finished[cell.key]) for cell in missing]
