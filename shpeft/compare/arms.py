"""The arms: one training with one learning rate, of whatever kind, from the same head start and in the same loop."""

import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from shpeft.checkpoint import Checkpoint
from shpeft.compare.dense import Dense, tuner
from shpeft.compare.plan import Cell
from shpeft.compare.scores import ScoreBook, estimate, select_by
from shpeft.compare.tasks import Task
from shpeft.datasets import Split
from shpeft.delta import SparseDelta
from shpeft.deltafile import save_delta
from shpeft.errors import NonFiniteLoss
from shpeft.evaluation import Predictions, predict
from shpeft.feed import Feed
from shpeft.importance import head_written
from shpeft.probe import Head, fit_head
from shpeft.progress import Progress, silent
from shpeft.selection import Support
from shpeft.temperature import refinement_loss
from shpeft.trainable import lr_scale
from shpeft.training import EpochReport, finetune


@dataclass(frozen=True)
class Fitted:
    """A fine-tuned model.

    Attributes:
        predict: probabilities on a split.
        trained: how many weights of the backbone were trained.
        bytes: the size of the file that keeps what was trained.
        dense: what was trained densely.
    """

    predict: Callable[[Split], Predictions]
    trained: int
    bytes: int
    dense: Dense | None = None


@dataclass
class Trial:
    """One training: its epochs, and the best of them by the loss on the validation images; diverged where it failed.

    Attributes:
        loss_at_the_end: that of the model that is kept, where it is not the best epoch's as it stands.
    """

    history: list[EpochReport] = field(default_factory=list)
    seconds_a_step: float | None = None
    diverged: bool = False
    loss_at_the_end: float | None = None

    @property
    def best(self) -> EpochReport | None:
        """The epoch whose weights are kept."""
        return next((report for report in reversed(self.history) if report.best), None)

    @property
    def val_loss(self) -> float:
        """What learning rates are chosen by; infinite where nothing was learned."""
        if self.loss_at_the_end is not None:
            return self.loss_at_the_end
        return self.best.val_loss if self.best else math.inf


class Stopwatch:
    """A progress that measures steps of training, validation left out."""

    def __init__(self, inner: Progress):
        self._inner, self._last, self._steps = inner, 0.0, list[float]()
        self._running = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take the time between two reports of training."""
        now = time.perf_counter()
        if self._running and stage == "training":
            self._steps.append(now - self._last)
        self._running, self._last = stage == "training", now
        self._inner(stage, done, total)

    @property
    def median(self) -> float | None:
        """Seconds a step; the median, since other work only slows single steps."""
        return sorted(self._steps)[len(self._steps) // 2] if self._steps else None


def probed(task: Task, views: int = 1) -> Fitted:
    """The linear probe alone."""

    def on(split: Split) -> Predictions:
        with head_written(task.backbone, task.probe):
            return predict(task.backbone, split, feed=task.frozen, views=views)

    return Fitted(on, 0, _bytes(task.probe))


class Trainings:
    """The trainings of one cell, one a learning rate; they share the support and what is cached for it."""

    def __init__(self, cell: Cell, task: Task, book: ScoreBook, progress: Progress = silent):
        self.cell, self.task, self.book, self.progress = cell, task, book, progress
        self.arm = cell.plan.arms[cell.arm]
        self.settings = cell.plan.settings(self.arm)

    @cached_property
    def support(self) -> Support:
        """The weights that are trained; the head alone is sparse training of no weight at all."""
        if self.arm.kind == "head":
            return Support({}, {}, self.task.backbone.count)
        return self.book.support(self.cell)

    @cached_property
    def feed(self) -> Feed:
        """What lies below the support runs once an image."""
        return self.task.feed(self.task.backbone, self.support.indices, self.settings.precision)

    def run(self, lr: float) -> tuple[Trial, Fitted | None]:
        """Train with one learning rate; no model where it diverged."""
        trial, watch, fitted = Trial(), Stopwatch(self.progress), None
        try:
            fitted = (self._sparse if self.arm.kind in ("head", "sparse") else self._dense)(lr, trial, watch)
            if self.arm.average or self.arm.refit_head or self.arm.views > 1:
                found = fitted.predict(self.task.data.val)
                trial.loss_at_the_end = refinement_loss(found.probabilities, found.labels)
        except NonFiniteLoss:
            trial.diverged = True
        trial.seconds_a_step = watch.median
        return trial, fitted

    def _sparse(self, lr: float, trial: Trial, progress: Progress) -> Fitted:
        arm, task, settings, feed = self.arm, self.task, self.settings, self.feed
        delta, epochs = SparseDelta.zeros(task.backbone, self.support, task.probe), settings.epochs
        if arm.reselect_after:
            self._phase(delta, feed, lr, arm.reselect_after, trial, progress)
            delta, feed = self._selected_anew(delta)
            trial.history, epochs = [], epochs - arm.reselect_after
        after = self._phase(delta, feed, lr, epochs, trial, progress)
        if arm.average:
            delta.values, delta.head = mean_of(after)
        if arm.refit_head:
            with delta.applied(task.backbone):
                delta.head = fit_head(task.backbone, task.data.train, task.data.val, feed=feed)
        return applied(task, delta, feed, arm.views)

    def _phase(
        self, delta: SparseDelta, feed: Feed, lr: float, epochs: int, trial: Trial, progress: Progress
    ) -> deque[Checkpoint]:
        """Train; returns where the last epochs ended, as many as the arm averages."""
        backbone, settings, after = self.task.backbone, self.settings, deque[Checkpoint](maxlen=self.arm.average or 1)
        reports = finetune(
            backbone,
            delta,
            self.task.data,
            epochs=epochs,
            lr=lr,
            head_lr=settings.head_lr if self.arm.kind == "sparse" else lr,
            batch_size=settings.batch_size,
            weight_decay=settings.weight_decay,
            eps=settings.eps,
            lr_scale=lr_scale(backbone, delta.support, self.arm.lr_scale) if delta.k else None,
            augment=settings.augment,
            seed=self.cell.seed,
            feed=feed,
            progress=progress,
            on_checkpoint=after.append,
        )
        follow(reports, settings.patience, trial)
        return after

    def _selected_anew(self, delta: SparseDelta) -> tuple[SparseDelta, Feed]:
        """The delta on the weights that score best now that some have moved: those that stay keep their values."""
        arm, cell, task = self.arm, self.cell, self.task
        assert cell.budget is not None
        with delta.applied(task.backbone):
            specific = estimate(arm, task, task.data.train, delta.head, cell.seed, self.settings.batch_size)
            scores = self.book.join(arm, cell.dataset, cell.seed, task.backbone, specific)
        moved = delta.moved_to(select_by(arm, scores, cell.budget))
        return moved, task.feed(task.backbone, moved.support.indices, self.settings.precision)

    def _dense(self, lr: float, trial: Trial, progress: Progress) -> Fitted:
        """Full fine-tuning, BitFit and LoRA, on a copy of the backbone."""
        arm, data = self.arm, self.task.data
        dense = tuner(arm, self.task, self.cell.seed)
        feed = self.task.feed(dense.backbone, dense.below, self.settings.precision)
        reports = dense.finetune(data, feed, lr, self.settings, self.cell.seed, progress)
        follow(reports, self.settings.patience, trial)
        dense.keep_best()
        if arm.refit_head:
            fit_head(dense.backbone, data.train, data.val, feed=feed).write(dense.backbone)
        size = len(safetensors.torch.save({name: p.detach().contiguous() for name, p in dense.trained.items()}))
        return Fitted(
            lambda split: predict(dense.backbone, split, feed=feed, views=arm.views), dense.count, size, dense
        )


def mean_of(checkpoints: Collection[Checkpoint]) -> tuple[Tensor, Head]:
    """The mean of the values, (k,), and of the heads after some epochs."""
    heads = [checkpoint.head for checkpoint in checkpoints]
    head = Head(torch.stack([h.weight for h in heads]).mean(0), torch.stack([h.bias for h in heads]).mean(0))
    return torch.stack([checkpoint.values for checkpoint in checkpoints]).mean(0), head


def applied(task: Task, delta: SparseDelta, feed: Feed, views: int = 1) -> Fitted:
    """A delta as a fine-tuned model."""

    def on(split: Split) -> Predictions:
        with delta.applied(task.backbone):
            return predict(task.backbone, split, feed=feed, views=views)

    if not delta.k:
        return Fitted(on, 0, _bytes(delta.head))
    with tempfile.TemporaryDirectory() as folder:
        size = save_delta(delta, Path(folder) / "delta.safetensors").stat().st_size
    return Fitted(on, delta.k, size)


def follow(reports: Iterator[EpochReport], patience: int | None, trial: Trial) -> None:
    """Train until the end, or until the validation loss has not fallen for ``patience`` epochs.

    Raises:
        NonFiniteLoss: it was never a number.
    """
    with closing(reports):  # type: ignore[type-var]
        for report in reports:
            trial.history.append(report)
            if patience and report.epoch - (trial.best.epoch if trial.best else 0) >= patience:
                break
    if trial.best is None:
        raise NonFiniteLoss("The validation loss was not a number after any epoch. Lower the learning rate.")


def _bytes(head: Head) -> int:
    return len(safetensors.torch.save({"weight": head.weight.contiguous(), "bias": head.bias.contiguous()}))
