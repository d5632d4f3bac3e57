"""Scores and supports of cells; task-specific scores are cached on the disk."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from shpeft import equations
from shpeft.backbones import Backbone
from shpeft.compare.arm import Arm
from shpeft.compare.cells import Cell
from shpeft.compare.running.dense_weights import DenseWeights
from shpeft.compare.running.task import Task, Tasks
from shpeft.compare.table import Table
from shpeft.datasets import Split
from shpeft.delta.trainable import lr_scale
from shpeft.errors import SelectionError
from shpeft.importance.scores import LazyTensors, Scores, consensus, estimate_importance, hybrid, squared_gradients
from shpeft.linear_probe import CrossFittedHeads, Head
from shpeft.selection.counts import counts_by_importance, select_by_counts
from shpeft.selection.top_k import Support, best_first, budget_to_count, select, select_like, support_at
from shpeft.support.atomic_files import write_atomic

MASKS = 1000
"""What each further random mask adds to the seed."""


class ScoreCache:
    """Scores and supports of a plan's cells; the gradients of each task are computed once."""

    def __init__(self, tasks: Tasks, table: Table):
        self._tasks, self._table, self._plan = tasks, table, tasks.plan
        self._dense = DenseWeights(table)

    def support(self, cell: Cell) -> Support:
        """Return the weights that a cell trains."""
        arm, task = self._plan.arms[cell.arm], self._tasks.get(cell.dataset, cell.seed)
        assert cell.budget is not None
        if arm.like is not None:
            model = self.support(replace(cell, arm=arm.like, mask=0))
            infos = task.backbone.weight_infos(self._plan.arms[arm.like].eligible)
            return select_like(model, infos, cell.seed + MASKS * cell.mask)
        return select_by(arm, self.scores(arm, cell.dataset, cell.seed, cell.mask), cell.budget)

    def lr_scale(self, cell: Cell, support: Support) -> Tensor | None:
        """Return the factors of the selected weights' learning rates; None: 1. Any arm's steps may be scaled."""
        arm, task = self._plan.arms[cell.arm], self._tasks.get(cell.dataset, cell.seed)
        gradients = self.squared_gradients(cell, support) if arm.lr_scale == "sensitivity" else None
        return lr_scale(task.backbone, support, arm.lr_scale, gradients)

    def squared_gradients(self, cell: Cell, support: Support) -> Tensor:
        """Return F, the squared gradients of the selected weights at the linear probe, (k,), whatever selected them."""
        arm = self._plan.arms[cell.arm]
        if arm.like is not None:  # its support is drawn from the weights that are eligible for the other arm
            arm = arm.model_copy(update={"scope": self._plan.arms[arm.like].eligible})
        specific = self.specific(arm, cell.dataset, cell.seed)
        gradients = squared_gradients(specific, task_specific_name(arm), support.indices)
        assert gradients is not None, "a task-specific score has gradients"
        return gradients

    def scores(self, arm: Arm, dataset: str, seed: int, mask: int = 0) -> Scores:
        """Return the scores that an arm selects by, over its eligible weights."""
        backbone = self._tasks.get(dataset, seed).backbone
        if arm.score in ("magnitude", "random", "wanda"):
            task = self._tasks.get(dataset, seed)
            return estimate_importance(
                backbone,
                task.data.train,
                arm.score,
                norm=arm.norm,
                scope=arm.eligible,
                images=arm.images,
                batch_size=self._plan.training.batch_size,
                seed=seed + (MASKS * mask if arm.score == "random" else 0),
            )
        if arm.score == "consensus":
            return self._consensus(arm, dataset, seed)
        if arm.score == "change":
            return self._changes(arm, dataset, seed)
        source, shuffled = self._source(arm, dataset), arm.gradients == "shuffled"
        if arm.step_size is not None:
            return self._step(arm, arm.step_size, source, seed, shuffled)
        return self.join(arm, dataset, seed, backbone, self.specific(arm, source, seed, shuffled=shuffled))

    def _step(self, arm: Arm, alpha: float, dataset: str, seed: int, shuffled: bool) -> Scores:
        """Return ``equations.step_decrease``, of the scores of arms that select by |Ēg| and by Ēg² over images."""
        mean, squares = (
            self.specific(arm.model_copy(update=terms), dataset, seed, shuffled=shuffled)
            for terms in ({"score": "gradient", "expectation": "all"}, {"score": "fisher", "expectation": "image"})
        )

        def decrease(name: str) -> Tensor:
            return equations.step_decrease(mean.values[name], squares.values[name], alpha)

        return Scores(f"decrease by steps of {alpha:g}", LazyTensors(mean.values, decrease), mean.infos, mean.total)

    def join(self, arm: Arm, dataset: str, seed: int, backbone: Backbone, specific: Scores) -> Scores:
        """Return the task-specific score, or the hybrid of it and the arm's task-agnostic score."""
        if arm.score != "hybrid":
            return specific
        if arm.agnostic == "consensus":
            agnostic = self._consensus(arm, dataset, seed)
        elif arm.agnostic == "change":
            agnostic = self._changes(arm, dataset, seed)
        else:
            train = self._tasks.get(dataset, seed).data.train
            agnostic = estimate_importance(backbone, train, "magnitude", norm=arm.norm, scope=arm.eligible)
        return hybrid(specific, agnostic, arm.formula, lam=arm.lam, normalizer=arm.normalizer, exponent=arm.exponent)

    def specific(self, arm: Arm, dataset: str, seed: int, *, shuffled: bool = False) -> Scores:
        """Return the task-specific score of a dataset under its heads, from the cache where possible.

        Args:
            shuffled: permute the labels of the loss. The heads are those of the true labels, cross-fitted or not, so
                that the control differs from its arm in the labels that gradients are taken at, and in nothing else.
        """
        score, plan = task_specific_name(arm), self._plan
        parts = {
            "backbone": plan.backbone_of(dataset).model_dump(exclude_defaults=True),
            "dataset": plan.datasets[dataset].model_dump(exclude_defaults=True),
            "caps": plan.images_per_class.model_dump(),
            **({} if plan.tested_on == "test" else {"tested_on": plan.tested_on}),
            "seed": seed,
            "score": [score, arm.eligible, arm.images, arm.expectation, plan.training.batch_size, shuffled],
            **({} if arm.heads == "fitted" else {"heads": arm.heads}),
        }
        path = self._table.cached(f"scores-{_digest(parts)}.safetensors")
        if path.exists():  # all tasks' backbones have the same matrices
            backbone = self._tasks.latest.backbone
            infos, values = backbone.weight_infos(arm.eligible), safetensors.torch.load_file(path)
            return Scores(score, {info.name: values[info.name] for info in infos}, infos, backbone.weight_count)
        task = self._tasks.get(dataset, seed)
        train = _shuffled(task.data.train, seed) if shuffled else task.data.train
        head = task.cross_fitted if arm.heads == "cross-fitted" else task.probe
        scores = estimate(arm, task, train, head, seed, plan.training.batch_size)
        write_atomic(path, safetensors.torch.save(dict(scores.values)))
        return scores

    def _source(self, arm: Arm, dataset: str) -> str:
        """Return the dataset whose gradients an arm uses: its own, or the next one in the plan."""
        names = list(self._plan.datasets)
        return names[(names.index(dataset) + 1) % len(names)] if arm.gradients == "other" else dataset

    def _changes(self, arm: Arm, dataset: str, seed: int) -> Scores:
        """Return |Δw| or Δw² of the finished full fine-tuning that an arm names."""
        of = Cell(self._plan, dataset, str(arm.of), None, seed)
        return self._dense.changes(of, self._tasks.get(dataset, seed).backbone, arm.norm, arm.eligible)

    def _consensus(self, arm: Arm, dataset: str, seed: int) -> Scores:
        others = [self.specific(arm, name, seed) for name in self._plan.datasets if name != dataset]
        return consensus(others, arm.normalizer)


def task_specific_name(arm: Arm) -> str:
    """Return the task-specific score of an arm, a hybrid or a consensus: ``gradient`` (L1) or ``fisher`` (L2)."""
    return arm.score if arm.score in ("gradient", "fisher") else {"l1": "gradient", "l2": "fisher"}[arm.norm]


def estimate(arm: Arm, task: Task, train: Split, head: Head | CrossFittedHeads, seed: int, batch_size: int) -> Scores:
    """Estimate an arm's task-specific score at the current weights of a task's backbone."""
    infos = task.backbone.weight_infos(arm.eligible)
    return estimate_importance(
        task.backbone,
        train,
        task_specific_name(arm),
        scope=arm.eligible,
        images=arm.images,
        batch_size=batch_size,
        expectation=arm.expectation,
        seed=seed,
        head=head,
        forward_pass=task.forward_pass(task.backbone, [info.name for info in infos]),
    )


def select_by(arm: Arm, scores: Scores, budget: int | float) -> Support:
    """Select by scores as an arm says: the largest or the smallest, spread or not, or so many of each parameter.

    Raises:
        SelectionError: the smallest scores of the quota hybrid, which ranks without scores.
    """
    if arm.order == "smallest":
        if not scores.values:
            raise SelectionError(
                "The quota hybrid ranks weights without a score, so there are no smallest scores: choose order largest."
            )
        scores = replace(scores, values={name: -v for name, v in scores.values.items()})
    if arm.count_exponent is not None:
        return select_by_counts(scores, counts_by_importance(scores, budget, arm.count_exponent))
    if arm.spread == "line":
        return select_one_per_line(scores, budget_to_count(budget, scores.total))
    return select(scores, budget, arm.spread)


def select_one_per_line(scores: Scores, k: int) -> Support:
    """Select greedily by score at most one weight of each row and of each column of a matrix.

    Raises:
        SelectionError: there are fewer than k such weights, or a parameter is not a matrix.
    """
    if any(len(info.shape) != 2 for info in scores.infos):
        raise SelectionError("One weight a row and column can be selected in matrices only: give the scope 'matrices'.")
    ends, lines, selected = np.cumsum([info.numel for info in scores.infos]), set[Any](), list[int]()
    seen, looked = 0, min(k, scores.eligible)
    while len(selected) < k:
        if seen == scores.eligible:
            raise SelectionError(
                f"Only {len(selected):,} weights can be selected, one a row and column; {k:,} were asked for."
            )
        order = best_first(scores, looked, "none")[0][seen:].numpy()
        for position, at in zip(order.tolist(), np.searchsorted(ends, order, side="right").tolist(), strict=True):
            info = scores.infos[at]
            row, column = divmod(position - int(ends[at]) + info.numel, info.shape[1])
            own = {(at, "row", row), (at, "column", column)}
            if len(selected) < k and not own & lines:
                selected.append(position)
                lines |= own
        seen, looked = looked, min(4 * looked, scores.eligible)
    return support_at(scores, torch.tensor(sorted(selected)))


def _shuffled(split: Split, seed: int) -> Split:
    """Return the same images with permuted labels."""
    order = np.random.default_rng(seed).permutation(len(split))
    return replace(split, labels=tuple(split.labels[row] for row in order))


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
