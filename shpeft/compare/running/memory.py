"""Memory of training beside the backbone's weights: saved activations, gradients and AdamW's moments."""

from collections.abc import Callable
from pathlib import Path

from shpeft.backbones import Backbone
from shpeft.compare.arm import UNTRAINED
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.plan import Plan
from shpeft.compare.running.baselines import make_tuner
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.compare.running.training import Trainings
from shpeft.compare.table import Record, Table
from shpeft.delta.activation_memory import saved_bytes
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.forward.base import ForwardPass
from shpeft.support.progress import Progress, silent

STATE = 3 * 4
"""Bytes for each trained float32 value: its gradient and AdamW's two moments."""


def training_memory(trainings: Trainings) -> int:
    """Return the bytes that a training step of a cell holds beside the backbone's weights.

    The sum of the activations that autograd saves for one training batch and of ``STATE`` for each trained value, the
    head's included. Call it after the cell is trained, because training caches features in its own batches.
    """
    task, arm, settings = trainings.task, trainings.arm, trainings.settings
    if arm.kind not in ("head", "sparse"):
        dense = make_tuner(arm, task, trainings.cell.seed)
        forward_pass = task.forward_pass(dense.backbone, dense.below, settings.precision)
        trained = sum(p.numel() for p in dense.trained.values())
        return _saved_activations(dense.backbone, forward_pass, trainings) + STATE * trained
    delta = SparseDelta.zeros(task.backbone, trainings.support, task.probe)
    scale = trainings.score_cache.lr_scale(trainings.cell, delta.support) if delta.k else None
    with Trainable(task.backbone, delta, lr_scale=scale):
        trained = delta.k + task.backbone.head_weight_count
        return _saved_activations(task.backbone, trainings.forward_pass, trainings) + STATE * trained


def _saved_activations(backbone: Backbone, forward_pass: ForwardPass, trainings: Trainings) -> int:
    """Return the bytes of the activations that autograd saves for one batch of training images."""
    inputs, target = next(iter(forward_pass.batches(trainings.task.data.train, trainings.settings.batch_size)))
    present = (*backbone.module.parameters(), *backbone.module.buffers(), inputs, target)
    loss = trainings.task.data.task.loss
    return saved_bytes(lambda: loss(forward_pass(inputs), target), present)


def measure_memory(
    plan: Plan,
    out: str | Path,
    *,
    root: str | Path = ".",
    progress: Progress = silent,
    on_cell: Callable[[Cell, int], None] | None = None,
) -> Table:
    """Measure training memory for finished cells whose records lack it, without training.

    One cell for each arm, budget and dataset is measured, since seeds and masks hardly differ.

    Args:
        root: the folder that relative paths of datasets and weights start from.
        on_cell: called with each measured cell and its bytes.
    """
    table = Table(out)
    for own in plan.by_images:
        tasks = Tasks(own, root, progress)
        score_cache = ScoreCache(tasks, table)
        for cell, record in _unmeasured(own, table.cells()):
            memory = training_memory(Trainings(cell, tasks.get(cell.dataset, cell.seed), score_cache, progress))
            table.add_cell(record | {"memory": memory}, None)  # the last line with a key counts
            if on_cell is not None:
                on_cell(cell, memory)
    return table


def _unmeasured(plan: Plan, finished: dict[str, Record]) -> list[tuple[Cell, Record]]:
    """Return the first trained cell of each arm, budget and dataset of which no cell is measured."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in list_cells(plan):
        if plan.arms[cell.arm].kind not in UNTRAINED and cell.key in finished:
            groups.setdefault((cell.arm, cell.budget, cell.dataset), []).append(cell)
    missing = [cells[0] for cells in groups.values() if not any("memory" in finished[c.key] for c in cells)]
    return [(cell, finished[cell.key]) for cell in missing]
