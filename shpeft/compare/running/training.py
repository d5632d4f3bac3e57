"""Train one cell with one learning rate: every kind of arm starts from the linear probe and runs the same loop."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch

from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell
from shpeft.compare.running.baselines import DenseTuner, make_tuner
from shpeft.compare.running.score_cache import ScoreCache, estimate, select_by
from shpeft.compare.running.task import Task
from shpeft.datasets import Split
from shpeft.delta.file import save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.equations import interpolate
from shpeft.errors import NonFiniteLoss
from shpeft.evaluation.ensemble import mean_of
from shpeft.evaluation.predict import Predictions, predict
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.selection.top_k import Support, budget_to_count
from shpeft.support.progress import Progress, silent
from shpeft.training.gradual_pruning import GradualPruning
from shpeft.training.laplace import LaplacePosterior
from shpeft.training.loop import EpochReport, averaged_epochs, finetune
from shpeft.training.loss import TrainingLoss

MEMBERS = 1000
"""What each further member adds to the seed of order and augmentation."""


@dataclass(frozen=True)
class FittedModel:
    """A fine-tuned model.

    Attributes:
        predict: return the predictions for a split.
        trained: number of trained weights of the backbone; of several members the sum.
        bytes: size of the file that holds the trained values; of several members the sum.
        dense: the densely trained copy; None for deltas.
        members: the models whose mean this one predicts; empty for a single model.
    """

    predict: Callable[[Split], Predictions]
    trained: int
    bytes: int
    dense: DenseTuner | None = None
    members: "tuple[FittedModel, ...]" = ()

    def predict_each(self, split: Split) -> list[Predictions]:
        """Return the predictions of every member; of a single model its own."""
        return [model.predict(split) for model in self.members or (self,)]


@dataclass
class Trial:
    """One training with one learning rate.

    Attributes:
        history: a report for each epoch.
        seconds_a_step: median duration of a training step.
        diverged: whether the loss was not finite.
        final_loss: the final model's validation loss, where the final model is not simply that of the best epoch.
    """

    history: list[EpochReport] = field(default_factory=list)
    seconds_a_step: float | None = None
    diverged: bool = False
    final_loss: float | None = None

    @property
    def best(self) -> EpochReport | None:
        """The epoch with the lowest validation loss, whose weights are kept."""
        return next((report for report in reversed(self.history) if report.best), None)

    @property
    def val_loss(self) -> float:
        """The validation loss that learning rates are chosen by; infinite where training failed."""
        if self.final_loss is not None:
            return self.final_loss
        return self.best.val_loss if self.best else math.inf


class Stopwatch:
    """A progress callback that measures the duration of training steps, without validation."""

    def __init__(self, inner: Progress):
        self._inner, self._last, self._steps = inner, 0.0, list[float]()
        self._running = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Record the time between two reports of training."""
        now = time.perf_counter()
        if self._running and stage == "training":
            self._steps.append(now - self._last)
        self._running, self._last = stage == "training", now
        self._inner(stage, done, total)

    @property
    def median(self) -> float | None:
        """Median seconds a step, which a few steps slowed by other work do not change."""
        return sorted(self._steps)[len(self._steps) // 2] if self._steps else None


def probe_model(task: Task, views: int = 1) -> FittedModel:
    """Return the frozen backbone with its linear probe."""

    def on(split: Split) -> Predictions:
        with task.probe.applied(task.backbone):
            return predict(task.backbone, split, forward_pass=task.frozen, views=views)

    return FittedModel(on, 0, _bytes(task.probe))


class Trainings:
    """The trainings of one cell, one for each learning rate; they share the support and its cached features."""

    def __init__(self, cell: Cell, task: Task, score_cache: ScoreCache, progress: Progress = silent):
        self.cell, self.task, self.score_cache, self.progress = cell, task, score_cache, progress
        self.arm = cell.plan.arms[cell.arm]
        self.settings = cell.plan.settings(self.arm)
        self._seed = cell.seed

    @property
    def averaged(self) -> int:
        """How many of the last epochs are averaged; 0: none."""
        return averaged_epochs(self.arm.average or self.settings.average, self.settings.epochs)

    @cached_property
    def support(self) -> Support:
        """The weights that training begins with; an arm that trains the head alone has an empty support."""
        if self.arm.kind == "head":
            return Support({}, {}, self.task.backbone.weight_count)
        return self.score_cache.support(replace(self.cell, budget=self.arm.prune_from or self.cell.budget))

    @cached_property
    def forward_pass(self) -> ForwardPass:
        """The forward pass, which caches the features below the support."""
        return self.task.forward_pass(self.task.backbone, self.support.indices, self.settings.precision)

    def run(self, rate: Rate) -> tuple[Trial, FittedModel | None]:
        """Train with one choice of learning rates; the model is None where training diverged.

        Of several members the trial has the epochs of the first one and the loss of their mean.
        """
        if rate.head_lr is not None:
            self.settings = self.settings.model_copy(update={"head_lr": rate.head_lr})
        trials, models = list[Trial](), list[FittedModel]()
        for member in range(self.arm.members):
            self._seed = self.cell.seed + MEMBERS * member
            trial, fitted = self._train(rate.lr)
            if fitted is None:
                return trial, None
            trials.append(trial)
            models.append(fitted)
        fitted = models[0] if len(models) == 1 else mean_model(models)
        arm = self.arm
        if arm.refit_head or arm.views > 1 or arm.posterior or arm.wise is not None or fitted.members:
            loss = TrainingLoss.of(self.task.data.train, self.settings.balance)
            trials[0].final_loss = loss.validation(fitted.predict(self.task.data.val))
        return trials[0], fitted

    def _train(self, lr: float) -> tuple[Trial, FittedModel | None]:
        """Train one model; it is None where training diverged."""
        trial, watch, fitted = Trial(), Stopwatch(self.progress), None
        try:
            fitted = (self._sparse if self.arm.kind in ("head", "sparse") else self._dense)(lr, trial, watch)
        except NonFiniteLoss:
            trial.diverged = True
        trial.seconds_a_step = watch.median
        return trial, fitted

    def _sparse(self, lr: float, trial: Trial, progress: Progress) -> FittedModel:
        arm, task, settings, forward_pass = self.arm, self.task, self.settings, self.forward_pass
        delta, epochs = SparseDelta.zeros(task.backbone, self.support, task.probe), settings.epochs
        if arm.reselect_after:
            self._phase(delta, forward_pass, lr, arm.reselect_after, trial, progress)
            delta, forward_pass = self._reselect(delta)
            trial.history, epochs = [], epochs - arm.reselect_after
        pruning = self._pruning(delta.support) if arm.prune_from else None
        self._phase(delta, forward_pass, lr, epochs, trial, progress, pruning)
        if pruning is not None:
            delta = delta.restricted_to(pruning.support_of(delta.support))
        if arm.wise is not None:
            delta = interpolated(delta, task.probe, arm.wise)
        if arm.refit_head:
            with delta.applied(task.backbone):
                delta.head = fit_linear_probe(task.backbone, task.data.train, task.data.val, forward_pass=forward_pass)
        model = delta_model(task, delta, forward_pass, arm.views)
        if arm.posterior is None:
            return model
        posterior = LaplacePosterior.fit(forward_pass, delta, task.data.train, self.progress)
        return replace(model, predict=posterior.predict)

    def _pruning(self, support: Support) -> GradualPruning:
        """Prune in the first half of the epochs to the arm's budget."""
        assert self.cell.budget is not None
        k = budget_to_count(self.cell.budget, self.task.backbone.weight_count)
        return GradualPruning(self.score_cache.squared_gradients(self.cell, support), k, self.settings.epochs // 2)

    def _phase(
        self,
        delta: SparseDelta,
        forward_pass: ForwardPass,
        lr: float,
        epochs: int,
        trial: Trial,
        progress: Progress,
        prune: GradualPruning | None = None,
    ) -> None:
        """Train for some epochs."""
        backbone, settings = self.task.backbone, self.settings
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
            lr_scale=self.score_cache.lr_scale(self.cell, delta.support) if delta.k else None,
            warmup=settings.warmup,
            average=min(self.averaged, epochs),
            keep_start=settings.keep_start,
            prune=prune,
            **settings.variation,
            seed=self._seed,
            forward_pass=forward_pass,
            progress=progress,
        )
        run_with_patience(reports, settings.patience, trial)

    def _reselect(self, delta: SparseDelta) -> tuple[SparseDelta, ForwardPass]:
        """Select weights again at the trained values; weights selected both times keep their values."""
        arm, cell, task = self.arm, self.cell, self.task
        assert cell.budget is not None
        with delta.applied(task.backbone):
            specific = estimate(arm, task, task.data.train, delta.head, cell.seed, self.settings.batch_size)
            scores = self.score_cache.join(arm, cell.dataset, cell.seed, task.backbone, specific)
        moved = delta.restricted_to(select_by(arm, scores, cell.budget))
        return moved, task.forward_pass(task.backbone, moved.support.indices, self.settings.precision)

    def _dense(self, lr: float, trial: Trial, progress: Progress) -> FittedModel:
        """Full fine-tuning, BitFit and LoRA, on a copy of the backbone."""
        arm, data = self.arm, self.task.data
        dense = make_tuner(arm, self.task, self.cell.seed)
        forward_pass = self.task.forward_pass(dense.backbone, dense.below, self.settings.precision)
        reports = dense.finetune(data, forward_pass, lr, self.settings, self.cell.seed, progress, self.averaged)
        run_with_patience(reports, self.settings.patience, trial)
        dense.keep_best()
        if arm.wise is not None:
            dense.interpolate(self.task.backbone, self.task.probe, arm.wise)
        if arm.refit_head:
            fit_linear_probe(dense.backbone, data.train, data.val, forward_pass=forward_pass).write(dense.backbone)
        size = len(safetensors.torch.save({name: p.detach().contiguous() for name, p in dense.trained.items()}))
        return FittedModel(
            lambda split: predict(dense.backbone, split, forward_pass=forward_pass, views=arm.views),
            dense.count,
            size,
            dense,
        )


def interpolated(delta: SparseDelta, head: Head, alpha: float) -> SparseDelta:
    """Return the delta α·v, with the head between the one of the start and the trained one.

    Args:
        delta: the trained values and head.
        head: of the start, where all values are 0.
        alpha: α; 1 is the delta itself, 0 the start.
    """
    values = interpolate(torch.zeros_like(delta.values), delta.values, alpha)
    pairs = ((getattr(head, part), getattr(delta.head, part)) for part in ("weight", "bias"))
    return replace(delta, values=values, head=Head(*(interpolate(a.to(b), b, alpha) for a, b in pairs)))


def delta_model(task: Task, delta: SparseDelta, forward_pass: ForwardPass, views: int = 1) -> FittedModel:
    """Return the backbone with a delta as a fine-tuned model."""

    def on(split: Split) -> Predictions:
        with delta.applied(task.backbone):
            return predict(task.backbone, split, forward_pass=forward_pass, views=views)

    if not delta.k:
        return FittedModel(on, 0, _bytes(delta.head))
    with tempfile.TemporaryDirectory() as folder:
        size = save_delta(delta, Path(folder) / "delta.safetensors").stat().st_size
    return FittedModel(on, delta.k, size)


def mean_model(members: Sequence[FittedModel]) -> FittedModel:
    """Return several fine-tuned models as one, which predicts the mean of their probabilities."""

    def on(split: Split) -> Predictions:
        return mean_of([model.predict(split) for model in members])

    trained, size = (sum(getattr(model, name) for model in members) for name in ("trained", "bytes"))
    return FittedModel(on, trained, size, members=tuple(members))


def run_with_patience(reports: Iterator[EpochReport], patience: int | None, trial: Trial) -> None:
    """Run a training to its end, or until the validation loss has not fallen for ``patience`` epochs.

    Raises:
        NonFiniteLoss: the validation loss was never finite.
    """
    with closing(reports):  # type: ignore[type-var]
        for report in reports:
            trial.history.append(report)
            if patience and report.epoch - (trial.best.epoch if trial.best else 0) >= patience:
                break
    if trial.best is None:
        raise NonFiniteLoss("The validation loss was not finite after any epoch. Lower the learning rate.")


def _bytes(head: Head) -> int:
    return len(safetensors.torch.save({"weight": head.weight.contiguous(), "bias": head.bias.contiguous()}))
