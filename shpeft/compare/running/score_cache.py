"""Which weights an arm selects: scores of the training images of one or several tasks, kept on the disk."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import safetensors.torch
import torch

from shpeft.backbones import Backbone
from shpeft.compare.plan import Arm, Cell
from shpeft.compare.table import Table
from shpeft.compare.tasks import Task, Tasks
from shpeft.datasets import Split
from shpeft.errors import SelectionError
from shpeft.files import write_atomic
from shpeft.importance import Scores, consensus, estimate_importance, hybrid
from shpeft.probe import Head
from shpeft.selection import Support, best_first, budget_to_count, select, select_like, support_at

MASKS = 1000
"""What the number of a random mask adds to the seed."""


class ScoreBook:
    """Scores and supports of a plan's cells; gradients of each task are computed once."""

    def __init__(self, tasks: Tasks, table: Table):
        self._tasks, self._table, self._plan = tasks, table, tasks.plan

    def support(self, cell: Cell) -> Support:
        """The weights that a cell trains."""
        arm, task = self._plan.arms[cell.arm], self._tasks.get(cell.dataset, cell.seed)
        assert cell.budget is not None
        if arm.like is not None:
            wanted = self.support(replace(cell, arm=arm.like, mask=0))
            infos = task.backbone.weight_infos(self._plan.arms[arm.like].eligible)
            return select_like(wanted, infos, cell.seed + MASKS * cell.mask)
        return select_by(arm, self.scores(arm, cell.dataset, cell.seed, cell.mask), cell.budget)

    def scores(self, arm: Arm, dataset: str, seed: int, mask: int = 0) -> Scores:
        """The scores that an arm selects by, over its eligible weights."""
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
        specific = self.specific(arm, self._source(arm, dataset), seed, shuffled=arm.gradients == "shuffled")
        return self.join(arm, dataset, seed, backbone, specific)

    def join(self, arm: Arm, dataset: str, seed: int, backbone: Backbone, specific: Scores) -> Scores:
        """The task-specific score itself, or the hybrid that an arm makes of it."""
        if arm.score != "hybrid":
            return specific
        if arm.agnostic == "consensus":
            agnostic = self._consensus(arm, dataset, seed)
        else:
            train = self._tasks.get(dataset, seed).data.train
            agnostic = estimate_importance(backbone, train, "magnitude", norm=arm.norm, scope=arm.eligible)
        return hybrid(specific, agnostic, arm.formula, lam=arm.lam, normaliser=arm.normaliser)

    def specific(self, arm: Arm, dataset: str, seed: int, *, shuffled: bool = False) -> Scores:
        """The task-specific score of a dataset under its linear probe."""
        score, plan = task_specific_name(arm), self._plan
        parts = {
            "backbone": plan.backbone.model_dump(exclude_defaults=True),
            "dataset": plan.datasets[dataset].model_dump(exclude_defaults=True),
            "caps": plan.images_per_class.model_dump(),
            **({} if plan.tested_on == "test" else {"tested_on": plan.tested_on}),
            "seed": seed,
            "score": [score, arm.eligible, arm.images, arm.expectation, plan.training.batch_size, shuffled],
        }
        path = self._table.cached(f"scores-{_digest(parts)}.safetensors")
        if path.exists():  # another task's backbone has the same weights but for the head
            backbone = self._tasks.present.backbone
            infos, values = backbone.weight_infos(arm.eligible), safetensors.torch.load_file(path)
            return Scores(score, {info.name: values[info.name] for info in infos}, infos, backbone.count)
        task = self._tasks.get(dataset, seed)
        train = _shuffled(task.data.train, seed) if shuffled else task.data.train
        scores = estimate(arm, task, train, task.probe, seed, plan.training.batch_size)
        write_atomic(path, safetensors.torch.save(scores.values))
        return scores

    def _source(self, arm: Arm, dataset: str) -> str:
        """Whose gradients an arm takes: the dataset's own, or those of the next one in the plan."""
        names = list(self._plan.datasets)
        return names[(names.index(dataset) + 1) % len(names)] if arm.gradients == "other" else dataset

    def _consensus(self, arm: Arm, dataset: str, seed: int) -> Scores:
        others = [self.specific(arm, name, seed) for name in self._plan.datasets if name != dataset]
        return consensus(others, arm.normaliser)


def task_specific_name(arm: Arm) -> str:
    """``gradient`` (L1) or ``fisher`` (L2), for a hybrid's half and the consensus too."""
    return arm.score if arm.score in ("gradient", "fisher") else {"l1": "gradient", "l2": "fisher"}[arm.norm]


def estimate(arm: Arm, task: Task, train: Split, head: Head, seed: int, batch_size: int) -> Scores:
    """The task-specific score at the present weights of a task's backbone."""
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
        feed=task.feed(task.backbone, [info.name for info in infos]),
    )


def select_by(arm: Arm, scores: Scores, budget: int | float) -> Support:
    """The end of the scores that an arm wants.

    Raises:
        SelectionError: the smallest of a quota, which is no number.
    """
    if arm.order == "smallest":
        if not scores.values:
            raise SelectionError("The quota hybrid is a rule and not a number: it has no smallest scores.")
        scores = replace(scores, values={name: -v for name, v in scores.values.items()})
    if arm.spread == "line":
        return one_a_line(scores, budget_to_count(budget, scores.total))
    return select(scores, budget, arm.spread)


def one_a_line(scores: Scores, k: int) -> Support:
    """Greedily, the best weight first, at most one of each row and one of each column of a matrix.

    Raises:
        SelectionError: there are fewer than k such weights, or one of the parameters is no matrix.
    """
    if any(len(info.shape) != 2 for info in scores.infos):
        raise SelectionError("One of a row and column is for matrices: give the scope 'matrices'.")
    ends, lines, found = np.cumsum([info.numel for info in scores.infos]), set[Any](), list[int]()
    seen, looked = 0, min(k, scores.eligible)
    while len(found) < k:
        if seen == scores.eligible:
            raise SelectionError(f"Only {len(found):,} weights are the first of their rows and columns, not {k:,}.")
        places = best_first(scores, looked, "none")[0][seen:].numpy()
        for place, at in zip(places.tolist(), np.searchsorted(ends, places, side="right").tolist(), strict=True):
            info = scores.infos[at]
            row, column = divmod(place - int(ends[at]) + info.numel, info.shape[1])
            its = {(at, "row", row), (at, "column", column)}
            if len(found) < k and not its & lines:
                found.append(place)
                lines |= its
        seen, looked = looked, min(4 * looked, scores.eligible)
    return support_at(scores, torch.tensor(sorted(found)))


def _shuffled(split: Split, seed: int) -> Split:
    """The same images under each other's labels."""
    order = np.random.default_rng(seed).permutation(len(split))
    return replace(split, labels=tuple(split.labels[row] for row in order))


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
