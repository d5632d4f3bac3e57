"""The arms: one training with one learning rate, of whatever kind, from the same head start and in the same loop."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch

from shpeft.compare.dense import Dense, tuner
from shpeft.compare.plan import Arm, Cell, Training
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
from shpeft.progress import Progress
from shpeft.selection import Support
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
    """One training: its epochs, and the best of them by the loss on the validation images; diverged where it failed."""

    history: list[EpochReport] = field(default_factory=list)
    seconds_a_step: float | None = None
    diverged: bool = False

    @property
    def best(self) -> EpochReport | None:
        """The epoch whose weights are kept."""
        return next((report for report in reversed(self.history) if report.best), None)

    @property
    def val_loss(self) -> float:
        """Infinite where nothing was learned."""
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


def probed(task: Task) -> Fitted:
    """The linear probe alone."""

    def on(split: Split) -> Predictions:
        with head_written(task.backbone, task.probe):
            return predict(task.backbone, split, feed=task.frozen)

    return Fitted(on, 0, _bytes(task.probe))


def train(
    cell: Cell, task: Task, book: ScoreBook, lr: float, progress: Progress, ready: "Ready | None" = None
) -> tuple[Trial, Fitted | None]:
    """Train a cell with one learning rate; no model where it diverged."""
    arm, settings = cell.plan.arms[cell.arm], cell.plan.settings(cell.plan.arms[cell.arm])
    trial, watch = Trial(), Stopwatch(progress)
    fit = _sparse if arm.kind in ("head", "sparse") else _dense
    try:
        fitted = fit(cell, arm, settings, task, book, lr, trial, watch, ready or Ready())
    except NonFiniteLoss:
        trial.diverged = True
        fitted = None
    trial.seconds_a_step = watch.median
    return trial, fitted


@dataclass
class Ready:
    """What the trials of a cell share: the support and the feed for it."""

    support: Support | None = None
    feed: Feed | None = None


def _sparse(
    cell: Cell,
    arm: Arm,
    settings: Training,
    task: Task,
    book: ScoreBook,
    lr: float,
    trial: Trial,
    progress: Progress,
    ready: Ready,
) -> Fitted:
    """Sparse training; the head alone is that of no weight at all."""
    backbone, data = task.backbone, task.data
    if ready.support is None:
        ready.support = book.support(cell) if arm.kind == "sparse" else Support({}, {}, backbone.count)
        ready.feed = task.feed(backbone, ready.support.indices)
    delta, feed, rest = SparseDelta.zeros(backbone, ready.support, task.probe), ready.feed, settings.epochs
    assert feed is not None

    def phase(epochs: int) -> None:
        rates = {"lr": lr, "head_lr": settings.head_lr if arm.kind == "sparse" else lr}
        reports = finetune(
            backbone,
            delta,
            data,
            epochs=epochs,
            **rates,
            batch_size=settings.batch_size,
            weight_decay=settings.weight_decay,
            eps=settings.eps,
            lr_scale=lr_scale(backbone, delta.support, arm.lr_scale) if delta.k else None,
            augment=settings.augment,
            seed=cell.seed,
            feed=feed,
            progress=progress,
        )
        follow(reports, settings.patience, trial)

    if arm.reselect_after:
        assert cell.budget is not None
        phase(arm.reselect_after)
        trial.history, rest = [], rest - arm.reselect_after
        with delta.applied(backbone):
            specific = estimate(arm, task, backbone, data.train, delta.head, cell.seed, settings.batch_size)
            scores = book.join(arm, cell.dataset, cell.seed, backbone, specific)
        delta = delta.moved_to(select_by(arm, scores, cell.budget))
        feed = task.feed(backbone, delta.support.indices)
    phase(rest)
    if arm.refit_head:
        with delta.applied(backbone):
            delta.head = fit_head(backbone, data.train, data.val, feed=feed)
    return applied(task, delta, feed)


def applied(task: Task, delta: SparseDelta, feed: Feed) -> Fitted:
    """A delta as a fine-tuned model."""

    def on(split: Split) -> Predictions:
        with delta.applied(task.backbone):
            return predict(task.backbone, split, feed=feed)

    if not delta.k:
        return Fitted(on, 0, _bytes(delta.head))
    with tempfile.TemporaryDirectory() as folder:
        size = save_delta(delta, Path(folder) / "delta.safetensors").stat().st_size
    return Fitted(on, delta.k, size)


def _dense(
    cell: Cell,
    arm: Arm,
    settings: Training,
    task: Task,
    book: ScoreBook,
    lr: float,
    trial: Trial,
    progress: Progress,
    ready: Ready,
) -> Fitted:
    """Full fine-tuning, BitFit and LoRA, on a copy of the backbone."""
    dense = tuner(arm, task, cell.seed)
    feed = task.feed(dense.backbone, dense.below)
    follow(dense.finetune(task.data, feed, lr, settings, cell.seed, progress), settings.patience, trial)
    dense.keep_best()
    if arm.refit_head:
        fit_head(dense.backbone, task.data.train, task.data.val, feed=feed).write(dense.backbone)
    size = len(safetensors.torch.save({name: p.detach().contiguous() for name, p in dense.trained.items()}))
    return Fitted(lambda split: predict(dense.backbone, split, feed=feed), dense.count, size, dense)


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
