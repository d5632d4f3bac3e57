"""Fine-tuning: one explicit loop over epochs, as a generator. Closing it cancels it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shpeft.backbones import Backbone
from shpeft.checkpoint import Checkpoint as Checkpoint
from shpeft.checkpoint import EpochReport as EpochReport
from shpeft.checkpoint import fingerprints, moments_of, restore
from shpeft.datasets import Dataset
from shpeft.delta import SparseDelta
from shpeft.errors import NonFiniteLoss, TrainingError
from shpeft.evaluation import evaluate, predict
from shpeft.feed import Feed
from shpeft.prefix import CachedFeed
from shpeft.progress import Progress, silent
from shpeft.temperature import refinement_loss
from shpeft.trainable import Trainable

WARMUP = 0.1
"""Share of the steps in which the learning rates rise from 0."""


def never() -> bool:
    """Go on to the end."""
    return False


class Subject(Protocol):
    """What the loop trains."""

    def zero_grad(self) -> None:
        """Clear the gradients."""

    def write(self) -> None:
        """Put what the optimizer has moved into the model; called after each of its steps."""


def finetune(
    backbone: Backbone,
    delta: SparseDelta,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int = 16,
    lr: float = 1e-2,
    head_lr: float = 1e-4,
    weight_decay: float = 1e-4,
    eps: float = 1e-8,
    lr_scale: Tensor | None = None,
    augment: str = "none",
    checkpointing: bool = False,
    compiled: bool = False,
    seed: int = 0,
    feed: Feed | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] = never,
    resume: Checkpoint | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> Iterator[EpochReport]:
    """Train the delta's values and head with AdamW; yields a report after each epoch.

    The learning rates rise linearly over the first tenth of the steps and fall to zero on a cosine. After each epoch
    with the lowest loss on the validation images so far, at the temperature that fits them (``refinement_loss``), the
    delta takes its values. (AUROC would also rank epochs, but is blind to a collapse onto one class.) When the
    generator ends or is closed the backbone is as before, bit for bit, and the delta keeps the best epoch's values.

    Args:
        lr: peak learning rate of the selected weights.
        head_lr: peak learning rate of the head.
        weight_decay: pulls the selected weights' change to 0, that is the weights to their pretrained values.
        eps: AdamW's ε. Steps have about the rate's size, whatever the gradient's, until ε is as large as the gradients.
        lr_scale: (k,) what multiplies ``lr`` for each selected weight; None: one.
        augment: ``none``, or ``flip`` for random horizontal flips.
        checkpointing: compute activations anew in the backward pass instead of keeping them: less memory, more time.
        compiled: let ``torch.compile`` fuse the step; needs a C++ compiler.
        seed: decides the order of the images and the flips.
        feed: how the backbone gets its images; None: each image through the whole backbone.
        stop: asked before each step; True ends training there, with the best epoch so far.
        resume: go on after this epoch, given everything else that training began with. On a processor, with the same
            number of threads and the same versions, what comes out is the same to the bit.
        on_checkpoint: called after each epoch, before its report is given.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite; the delta keeps the best epoch so far.
        SelectionError: the feed has cached what a selected weight would change.
        TrainingError: checkpointing together with a feed that caches.
        CheckpointMismatch: ``resume`` is of other base weights, images, budget or number of epochs.
    """
    feed = feed or Feed(backbone)
    feed.check(delta.support.indices)
    if checkpointing and isinstance(feed, CachedFeed):
        raise TrainingError(
            "Gradient checkpointing runs the blocks again in the backward pass, where cached features do not reach "
            "them. Train without checkpointing, which cached features make little use of, or without the cache."
        )
    past: tuple[EpochReport, ...] = ()
    if resume is not None:
        resume.check(delta, data, epochs)
        past, delta.values, delta.head = resume.history, resume.values, resume.head
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
        for report in run_epochs(
            trainable,
            optimizer,
            feed,
            data,
            forward=_compile(feed) if compiled else feed,
            epochs=epochs,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
            progress=progress,
            stop=stop,
            past=past,
        ):
            past = (*past, report)
            now = trainable.snapshot()
            if report.best:
                delta.values, delta.head = now
            if on_checkpoint is not None:
                best, moments = (delta.values, delta.head), moments_of(optimizer)
                on_checkpoint(Checkpoint(delta.base, fingerprints(data), *now, *best, moments, past))
            yield report


def run_epochs(
    subject: Subject,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    data: Dataset,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    epochs: int = 10,
    batch_size: int = 16,
    augment: str = "none",
    seed: int = 0,
    progress: Progress = silent,
    stop: Callable[[], bool] = never,
    past: Sequence[EpochReport] = (),
) -> Iterator[EpochReport]:
    """The loop itself, whatever is trained: cross-entropy, warm-up and cosine, validation after each epoch.

    ``finetune`` runs it on a delta; comparisons run it on everything that they set beside one.

    Args:
        optimizer: its groups' rates are the peaks; the first group's is named when the loss is not finite.
        forward: logits of what ``feed`` gives; None: the feed itself.
        stop: asked before each step; True ends the loop there.
        past: epochs that are over already, for a subject and an optimizer that stand where the last of them ended.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    an_epoch = math.ceil(len(data.train) / batch_size)
    steps, done = epochs * an_epoch, len(past) * an_epoch
    start = time.monotonic() - (past[-1].seconds if past else 0)
    best = min([math.inf, *(report.val_loss for report in past)])
    lr = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps), last_epoch=done - 1)
    for epoch in range(1, epochs + 1):
        losses = []
        order = torch.randperm(len(data.train), generator=generator).tolist()
        mirrored = (torch.rand(len(order), generator=generator) < 0.5).tolist() if augment == "flip" else None
        batches = feed.batches(data.train, batch_size, order=order, mirrored=mirrored)
        if epoch <= len(past):
            _rehearse(feed, batches, partial(progress, "training", done, steps))
            continue
        for inputs, target in batches:
            if stop():
                return
            progress("training", done, steps)
            with torch.enable_grad():
                loss = cross_entropy((forward or feed)(inputs), target)
            if not math.isfinite(loss.item()):
                raise NonFiniteLoss(
                    f"The loss became {loss.item()} in epoch {epoch} of {epochs} at learning rate {lr:g}. "
                    "Lower the learning rate, or choose the scope 'matrices'."
                )
            subject.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            subject.write()
            losses.append(loss.item() * len(target))
            done += 1
        mean, validating = sum(losses) / len(order), lambda *_, at=done: progress("validation", at, steps)
        report = _validate(feed, data, epoch, epochs, mean, start, best, progress=validating)
        best = min(best, report.val_loss)
        yield report
    progress("training", steps, steps)


def _rehearse(feed: Feed, batches: Iterable[object], each: Callable[[], None]) -> None:
    """Cache features in the batches of an epoch that is over: computed in other batches they may round otherwise."""
    if isinstance(feed, CachedFeed):
        for _ in batches:
            each()


def _compile(feed: Feed) -> Callable[[Tensor], Tensor]:
    """The feed, compiled with the taps that are attached now: what was compiled before knows nothing of them."""
    torch.compiler.reset()
    compiled: Callable[[Tensor], Tensor] = torch.compile(feed.__call__)
    return compiled


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero; at most 1."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _validate(
    feed: Feed,
    data: Dataset,
    epoch: int,
    epochs: int,
    loss: float,
    start: float,
    best: float,
    progress: Progress,
) -> EpochReport:
    """The epoch's report; ``best`` is the lowest validation loss before it."""
    predictions = predict(feed.backbone, data.val, feed=feed, progress=progress)
    metrics = evaluate(predictions, resamples=0)
    val_loss = refinement_loss(predictions.probabilities, predictions.labels)
    return EpochReport(
        epoch=epoch,
        epochs=epochs,
        loss=loss,
        val_loss=val_loss,
        val_auroc=metrics.macro_auroc.value,
        val_balanced_accuracy=metrics.balanced_accuracy.value,
        seconds=time.monotonic() - start,
        best=val_loss < best,
    )
