"""Fine-tune a delta: one explicit loop over epochs, as a generator that is cancelled by closing it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.config.schema import Augmentation, Average, Balance, Modality, TrainingConfig
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.errors import NonFiniteLoss, TrainingError
from shpeft.evaluation.by_task import validation_scores
from shpeft.evaluation.predict import predict
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward
from shpeft.support.progress import Progress, silent
from shpeft.training.batches import TrainingBatches
from shpeft.training.checkpoint import Checkpoint as Checkpoint
from shpeft.training.checkpoint import EpochReport as EpochReport
from shpeft.training.checkpoint import fingerprints, moments_of, restore
from shpeft.training.exchange import sum_gradients
from shpeft.training.gradual_pruning import GradualPruning, PrunedModel
from shpeft.training.loss import TrainingLoss

DEFAULTS = TrainingConfig()
"""The settings of a run, which are the defaults here."""


def never() -> bool:
    """Return False: do not stop."""
    return False


class TrainedModel(Protocol):
    """A model that the loop trains."""

    def parameters(self) -> Sequence[Tensor]:
        """Return what the optimizer trains, always in the same order."""

    def zero_grad(self) -> None:
        """Clear the gradients."""

    def write(self) -> None:
        """Write the optimizer's parameters into the model; called after each of its steps."""

    def load(self, tensors: Sequence[Tensor]) -> None:
        """Replace the parameters, in the order of ``parameters``, and write them into the model."""


def finetune(
    backbone: Backbone,
    delta: SparseDelta,
    data: Dataset,
    *,
    epochs: int = DEFAULTS.epochs,
    batch_size: int = DEFAULTS.batch_size,
    lr: float = DEFAULTS.lr,
    head_lr: float = DEFAULTS.head_lr,
    weight_decay: float = DEFAULTS.weight_decay,
    eps: float = 1e-8,
    lr_scale: Tensor | None = None,
    warmup: float = DEFAULTS.warmup,
    average: Average | int = DEFAULTS.average,
    keep_start: bool = True,
    prune: GradualPruning | None = None,
    augment: Augmentation = DEFAULTS.augment,
    modality: Modality = DEFAULTS.modality,
    mixup: float = DEFAULTS.mixup,
    label_smoothing: float = DEFAULTS.label_smoothing,
    balance: Balance = DEFAULTS.balance,
    checkpointing: bool = False,
    compiled: bool = DEFAULTS.compiled,
    seed: int = 0,
    forward_pass: ForwardPass | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] = never,
    resume: Checkpoint | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> Iterator[EpochReport]:
    """Train the delta's values and head with AdamW; yields a report of the start and after each epoch.

    Learning rates rise linearly at first and fall to zero on a cosine. The best epoch is the one with the lowest loss
    on the validation images at the temperature that fits them (``refinement_loss``); AUROC would not notice a collapse
    onto one class. The start, which is the delta as it was given, competes with the epochs, so that the result never
    has a higher validation loss than the start. When the generator ends or is closed, the backbone is as before, bit
    for bit, and the delta has the values and the head of the best epoch.

    With ``average`` other than ``none``, the epochs of the last quarter are evaluated as the mean of the weights after
    each of them so far, and the last mean that beats the start is the result. Single epochs do not compete with it:
    the lowest of many losses on a hundred validation images is partly luck, and the mean needs no choice. Where no
    mean beats the start, or training was stopped before the last quarter, the best single epoch or the start is the
    result.

    Args:
        lr: the peak learning rate of the selected weights.
        head_lr: the peak learning rate of the head.
        weight_decay: pulls the values to 0, that is, the selected weights to their pretrained values.
        eps: AdamW's ε. Below it gradients shrink the steps; above it a step has about the size of the learning rate.
        lr_scale: (k,) factors of ``lr`` for each selected weight, see ``delta.trainable.lr_scale``; None: 1.
        warmup: the share of the steps in which the learning rates rise from 0.
        average: ``none``, or the weights' mean over the last epochs: over a number of them, or over the
            ``last_quarter``, as ``auto`` does.
        keep_start: False lets the best epoch win even over a better start.
        prune: sets values back to 0 during the first epochs. Epochs before its last one do not compete; the caller
            restricts the delta to what remains.
        augment: ``none``; ``light``, ``medium`` or ``strong`` for random changes that the modality allows; ``flip`` for
            random left-right flips.
        modality: what augmentation may change; ``auto``: as the dataset's card says.
        mixup: a of Beta(a, a), from which the shares of two mixed images are drawn; 0: no mixtures.
        label_smoothing: the share of a label that is spread evenly over all classes.
        balance: ``loss`` weights every class alike in the loss, ``sampling`` draws images of every class equally often,
            with replacement; the validation loss then weighs every class alike, too. ``none``: neither.
        checkpointing: recompute activations in the backward pass instead of saving them: less memory, more time.
        compiled: fuse the step with ``torch.compile``; needs a C++ compiler.
        seed: of the order of the images, of augmentation and of mixtures.
        forward_pass: how the backbone runs; None: the whole backbone on each image.
        stop: called before each step; if it returns True, training ends there, with the best epoch so far.
        resume: continue after this epoch, with everything else as training began; its ``lr_scale`` counts. On a
            processor, with the same number of threads and the same library versions, the result has the same bits.
        on_checkpoint: called after each epoch, before its report is yielded.

    Yields:
        the report of the start, if it competes, and of each epoch.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite; the delta has the best epoch so far.
        SelectionError: a selected weight lies in blocks whose features are cached.
        TrainingError: gradient checkpointing together with cached features, or pruning that is to be resumed, or that
            goes on into epochs that are averaged.
        CheckpointMismatch: ``resume`` has other base weights, images, budget or number of epochs.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=100)
        >>> delta = shpeft.SparseDelta.zeros(model, support)
        >>> for report in shpeft.finetune(model, delta, data, epochs=2):
        ...     print(report.epoch, report.epochs)
        0 2
        1 2
        2 2
        >>> bool(delta.values.any())
        True
    """
    forward_pass = forward_pass or ForwardPass(backbone)
    forward_pass.check(delta.support.indices)
    if checkpointing and isinstance(forward_pass, CachedForward):
        raise TrainingError(
            "Gradient checkpointing runs the blocks again in the backward pass, where they do not receive cached "
            "features. Train without checkpointing, or without the cache."
        )
    averaged = averaged_epochs(average, epochs)
    if prune is not None and resume is not None:
        raise TrainingError("A checkpoint does not say which weights were pruned. Train from the beginning.")
    if prune is not None and prune.epochs > epochs - max(0, averaged - 1):
        raise TrainingError(
            f"Weights are pruned in the first {prune.epochs} of {epochs} epochs, and the last {averaged} are averaged. "
            "Average fewer, or train for longer."
        )
    past: tuple[EpochReport, ...] = ()
    past_mean: list[Tensor] | None = None
    if resume is not None:
        resume.check(delta, data, epochs)
        past, delta.values, delta.head = resume.history, resume.values, resume.head
        lr_scale = resume.lr_scale
        if resume.mean_values is not None and resume.mean_head is not None:
            past_mean = [resume.mean_values, resume.mean_head.weight, resume.mean_head.bias]
    with ExitStack() as stack:
        if checkpointing:
            stack.enter_context(backbone.checkpointing())
        trainable = stack.enter_context(Trainable(backbone, delta, lr_scale=lr_scale))
        optimizer = torch.optim.AdamW(
            [
                {"params": [trainable.values], "lr": lr, "weight_decay": weight_decay},
                {"params": trainable.head, "lr": head_lr, "weight_decay": 0.0},
            ],
            eps=eps,
        )
        if resume is not None:
            delta.values, delta.head = resume.best_values, resume.best_head
            restore(optimizer, resume.moments)
        batches = TrainingBatches(
            data, batch_size=batch_size, augment=augment, modality=modality, mixup=mixup, balance=balance, seed=seed
        )
        for report, evaluated, mean in run_epochs(
            trainable if prune is None else PrunedModel(trainable, prune, len(batches)),
            optimizer,
            forward_pass,
            data,
            forward=_compile(forward_pass) if compiled else forward_pass,
            batches=batches,
            loss=TrainingLoss.of(data.train, balance, label_smoothing),
            epochs=epochs,
            warmup=warmup,
            averaged=averaged,
            keep_start=keep_start,
            competing_from=1 if prune is None else prune.epochs,
            progress=progress,
            stop=stop,
            past=past,
            mean=past_mean and past_mean[: len(trainable.parameters())],  # a head may lack a bias
        ):
            past = (*past, report)
            if report.best:
                delta.values, delta.head = trainable.snapshot(evaluated)
            if on_checkpoint is not None and report.epoch:
                best, moments = (delta.values, delta.head), moments_of(optimizer)
                means = (None, None) if mean is None else trainable.snapshot(mean)
                state = Checkpoint(delta.base, fingerprints(data), *trainable.snapshot(), *best, moments, past)
                on_checkpoint(replace(state, mean_values=means[0], mean_head=means[1], lr_scale=lr_scale))
            yield report


def averaged_epochs(average: Average | int, epochs: int) -> int:
    """Return how many of the last epochs are averaged; a quarter of a single epoch is no mean, and the best one counts.

    Examples:
        >>> averaged_epochs("auto", 16), averaged_epochs("last_quarter", 10), averaged_epochs("auto", 4)
        (4, 3, 0)
    """
    if isinstance(average, int):
        return average
    quarter = math.ceil(epochs / 4)
    return 0 if average == "none" or quarter < 2 else quarter


def run_epochs(
    model: TrainedModel,
    optimizer: torch.optim.Optimizer,
    forward_pass: ForwardPass,
    data: Dataset,
    *,
    batches: TrainingBatches,
    loss: TrainingLoss,
    forward: Callable[[Tensor], Tensor] | None = None,
    epochs: int = DEFAULTS.epochs,
    warmup: float = DEFAULTS.warmup,
    averaged: int = 0,
    keep_start: bool = True,
    competing_from: int = 1,
    progress: Progress = silent,
    stop: Callable[[], bool] = never,
    past: Sequence[EpochReport] = (),
    mean: list[Tensor] | None = None,
) -> Iterator[tuple[EpochReport, list[Tensor], list[Tensor] | None]]:
    """Train any model: the task's loss, warm-up and cosine, validation before training and after each epoch.

    ``finetune`` runs this loop on a delta and says which weights win; comparisons also run it on other methods.

    Args:
        batches: the batches of each epoch, from the first one on.
        loss: of a batch, and of the validation images.
        optimizer: its groups' learning rates are the peaks; errors name that of the first group.
        forward: returns logits for what ``forward_pass.batches`` yields; None: ``forward_pass`` itself.
        averaged: the number of last epochs that are evaluated as the mean of their weights so far; 0: none.
        keep_start: whether the start competes with the epochs.
        competing_from: the first epoch that may be the best one.
        stop: called before each step; if it returns True, the loop ends there.
        past: the reports before; the model and the optimizer must be in the state after the last of them.
        mean: the mean of the weights over the past epochs that are averaged; None if there are none.

    Yields:
        a report, copies of the parameters that it evaluates, and the mean so far, or None. The model itself always has
        the parameters that training continues with.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite.
    """
    team, steps_per_epoch = forward_pass.team, len(batches)
    resumed = past[-1].epoch if past else 0
    steps, done = epochs * steps_per_epoch, resumed * steps_per_epoch
    began = time.monotonic() - (past[-1].seconds if past else 0)
    if keep_start and not past:
        measured = _validate(forward_pass, data, loss, lambda *_: progress("validation", 0, steps))
        past = (EpochReport(0, epochs, math.nan, *measured, seconds=time.monotonic() - began, best=True),)
        yield past[0], _copies(model), None
    best = min((report.val_loss for report in past if math.isfinite(report.val_loss)), default=math.inf)
    start_loss = _start_loss(past)
    lr = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    rate = partial(rate_at, steps=steps, warmup=warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate, last_epoch=done - 1)
    for epoch in range(1, epochs + 1):
        losses = []
        drawn = batches.epoch(epoch, forward_pass)
        if epoch <= resumed:
            if not batches.varied:
                _rehearse(forward_pass, drawn, partial(progress, "training", done, steps))
            continue
        for inputs, target, size in drawn:
            stopped = stop()
            if stopped and team.alone:
                return
            progress("training", done, steps)
            model.zero_grad()
            mean_loss = 0.0
            if len(target):
                with torch.enable_grad():
                    value = loss((forward or forward_pass)(inputs), target)
                    value = value if len(target) == size else value * (len(target) / size)
                mean_loss = value.item()
                if math.isfinite(mean_loss):
                    value.backward()
            mean_loss, stopped = sum_gradients(team, model.parameters(), mean_loss, stopped)
            if stopped:
                return
            if not math.isfinite(mean_loss):
                raise NonFiniteLoss(
                    f"The loss became {mean_loss} in epoch {epoch} of {epochs} at learning rate {lr:g}. "
                    "Lower the learning rate, or choose the scope 'matrices'."
                )
            optimizer.step()
            schedule.step()
            model.write()
            losses.append(mean_loss * size)
            done += 1
        current, nth = _copies(model), epoch - (epochs - averaged)
        if nth > 0:
            mean = current if mean is None else _mean(mean, current, nth)
        evaluated = current if mean is None else mean
        if evaluated is not current:
            model.load(evaluated)
        measured = _validate(forward_pass, data, loss, lambda *_, at=done: progress("validation", at, steps))
        if evaluated is not current:
            model.load(current)
        val_loss = measured[0]
        wins = epoch >= competing_from and val_loss < (best if mean is None else start_loss)
        best = val_loss if wins else best
        seconds = time.monotonic() - began
        report = EpochReport(epoch, epochs, sum(losses) / len(data.train), *measured, seconds, wins, max(nth, 0))
        yield report, evaluated, mean
    progress("training", steps, steps)


def _start_loss(past: Sequence[EpochReport]) -> float:
    """Return the loss that a mean must beat: that of the start, or infinity where it does not compete."""
    losses = (report.val_loss for report in past if report.epoch == 0 and math.isfinite(report.val_loss))
    return next(losses, math.inf)


def _copies(model: TrainedModel) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def _mean(mean: Sequence[Tensor], current: Sequence[Tensor], n: int) -> list[Tensor]:
    """Return the mean of n terms from that of the first n − 1 and the last: m + (x − m) / n."""
    return [m.to(x) + (x - m.to(x)) / n for m, x in zip(mean, current, strict=True)]


def _rehearse(forward_pass: ForwardPass, batches: Iterable[object], each: Callable[[], None]) -> None:
    """Cache features in the batches of a past epoch: features of other batches may differ in rounding."""
    if isinstance(forward_pass, CachedForward):
        for _ in batches:
            each()


def _compile(forward_pass: ForwardPass) -> Callable[[Tensor], Tensor]:
    """Compile the forward pass with the taps that are attached now; earlier compilations do not have them.

    Each size of a batch is compiled by itself, mostly two: torch 2.9 cannot trace the taps for any size at once.
    """
    torch.compiler.reset()
    compiled: Callable[[Tensor], Tensor] = torch.compile(forward_pass.__call__, dynamic=False)
    return compiled


def rate_at(step: int, steps: int, warmup: float = DEFAULTS.warmup) -> float:
    """Return the factor of the learning rate: linear warm-up to 1, then a cosine to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _validate(
    forward_pass: ForwardPass, data: Dataset, loss: TrainingLoss, progress: Progress
) -> tuple[float, float, float]:
    """Return validation loss, AUROC and balanced accuracy; all NaN where a probability is not finite."""
    predictions = predict(forward_pass.backbone, data.val, forward_pass=forward_pass, progress=progress)

    def measure() -> dict[str, Tensor]:
        numbers = [math.nan] * 3
        if np.isfinite(predictions.probabilities).all():
            numbers = [loss.validation(predictions), *validation_scores(predictions)]
        return {"measured": torch.tensor(numbers, dtype=torch.float64)}

    val_loss, auroc, accuracy = forward_pass.team.agree(measure)["measured"].tolist()
    return val_loss, auroc, accuracy
