"""The state of training after an epoch: its report, and what resuming to the same bits takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import CheckpointMismatch
from shpeft.linear_probe import Head


@dataclass(frozen=True)
class EpochReport:
    """The result of one epoch, or of the start before the first.

    Attributes:
        epoch: from 1; 0 is the start, before any training.
        epochs: the number of epochs that training takes.
        loss: the mean training loss (cross-entropy, nats, with class weights and smoothing as set); NaN at the start.
        val_loss: the mean cross-entropy on the validation images, at the temperature that fits them, of all images or,
            where training is balanced, of all classes alike; NaN where the probabilities are not finite.
        val_auroc: the macro AUROC on the validation images; NaN where the task has none.
        val_balanced_accuracy: the balanced accuracy on the validation images; NaN where the task has none.
        seconds: since training began.
        best: whether the delta takes the values that this report evaluates, so that the last such report is the result.
        averaged: the number of last epochs whose weights' mean this report evaluates; 0: its own weights.

    Examples:
        >>> from shpeft import EpochReport
        >>> print(EpochReport(3, 10, 0.41, 0.52, 0.912, 0.84, 12.5, best=True))
        epoch 3/10  loss 0.410  val loss 0.520  val AUROC 0.912  val balanced accuracy 0.840  best so far
        >>> print(EpochReport(0, 10, float("nan"), 0.61, 0.887, 0.8, 1.5, best=True))
        start  val loss 0.610  val AUROC 0.887  val balanced accuracy 0.800  best so far
    """

    epoch: int
    epochs: int
    loss: float
    val_loss: float
    val_auroc: float
    val_balanced_accuracy: float
    seconds: float
    best: bool
    averaged: int = 0

    def __str__(self) -> str:
        mark = "  best so far" if self.best else ""
        trained = f"epoch {self.epoch}/{self.epochs}  loss {self.loss:.3f}" if self.epoch else "start"
        only_auroc = math.isnan(self.val_balanced_accuracy) and not math.isnan(self.val_loss)
        if only_auroc and math.isnan(self.val_auroc):  # a number has neither
            return f"{trained}  val loss {self.val_loss:.3f}{mark}"
        return (
            f"{trained}  val loss {self.val_loss:.3f}  val AUROC {self.val_auroc:.3f}"
            f"{'' if only_auroc else f'  val balanced accuracy {self.val_balanced_accuracy:.3f}'}{mark}"
        )


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of training after an epoch, from which it resumes to the same bits; it contains no image.

    Learning rates, the order of the images, augmentation and mixtures follow from the seed and the epoch: they are not
    stored.

    Attributes:
        base: the SHA-256 fingerprint of the base weights.
        images: the fingerprints of the training, validation and test images.
        values, head: the current ones; values are (k,).
        best_values, best_head: those of the best epoch so far.
        moments: the optimizer's state for each of its parameters, in their order.
        history: the start and the epochs so far; checkpoints of earlier versions lack the start.
        mean_values, mean_head: the mean over the epochs so far that are averaged; None before the first of them.
        lr_scale: (k,) factors of the learning rates of single weights; None: 1.
    """

    base: str
    images: tuple[str, ...]
    values: Tensor
    head: Head
    best_values: Tensor
    best_head: Head
    moments: tuple[dict[str, Tensor], ...]
    history: tuple[EpochReport, ...]
    mean_values: Tensor | None = None
    mean_head: Head | None = None
    lr_scale: Tensor | None = None

    def __repr__(self) -> str:
        last = self.history[-1]
        return f"Checkpoint(epoch {last.epoch} of {last.epochs}, {len(self.values):,} values)"

    def check(self, delta: SparseDelta, data: Dataset, epochs: int) -> None:
        """Check that training can resume from here.

        Raises:
            CheckpointMismatch: other base weights, images, budget or number of epochs.
        """
        last = self.history[-1]
        for difference, own, given in (
            ("other base weights", self.base[:12], delta.base[:12]),
            ("other images", _digests(self.images), _digests(fingerprints(data))),
            ("another number of selected weights", len(self.values), delta.k),
            ("another number of epochs", last.epochs, epochs),
        ):
            if own != given:
                raise CheckpointMismatch(
                    f"The checkpoint after epoch {last.epoch} is of {difference}: it has {own}, and the run {given}. "
                    "Restore what the run began with and resume again, or start a new run."
                )


def moments_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], ...]:
    """Return a copy of the optimizer's state for each of its parameters, on the CPU."""
    state = optimizer.state_dict()["state"]
    return tuple({key: value.cpu().clone() for key, value in state[at].items()} for at in sorted(state))


def restore(optimizer: torch.optim.Optimizer, moments: Sequence[dict[str, Tensor]]) -> None:
    """Restore the state that ``moments_of`` copied, as a copy: a step changes it in place."""
    state = {at: {key: value.clone() for key, value in part.items()} for at, part in enumerate(moments)}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def fingerprints(data: Dataset) -> tuple[str, ...]:
    """Return the fingerprints of the training, validation and test images."""
    return tuple(split.fingerprint for split in data.splits)


def _digests(fingerprints: Sequence[str]) -> str:
    return " ".join(fingerprint[:12] for fingerprint in fingerprints)
