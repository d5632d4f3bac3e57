"""Where training stands after an epoch: what it tells, and what it takes to go on to the same bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shpeft.datasets import Dataset
from shpeft.delta import SparseDelta
from shpeft.errors import CheckpointMismatch
from shpeft.probe import Head


@dataclass(frozen=True)
class EpochReport:
    """One epoch: mean training loss, and what the validation images say.

    Attributes:
        epoch: from 1.
        val_loss: mean cross-entropy on the validation images, at the temperature that fits them.
        seconds: since training began.
        best: whether this is the best epoch so far, the one whose values are kept.
    """

    epoch: int
    epochs: int
    loss: float
    val_loss: float
    val_auroc: float
    val_balanced_accuracy: float
    seconds: float
    best: bool

    def __str__(self) -> str:
        mark = "  best so far" if self.best else ""
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {self.loss:.3f}  val loss {self.val_loss:.3f}  "
            f"val AUROC {self.val_auroc:.3f}  val balanced accuracy {self.val_balanced_accuracy:.3f}{mark}"
        )


@dataclass(frozen=True)
class Checkpoint:
    """Where training stands after an epoch: what it takes to go on to the same bits, and nothing of an image.

    Rates, the order of the images and their flips are not stored: seed and epoch decide them.

    Attributes:
        base: the fingerprint of the base weights.
        images: the fingerprints of the training, validation and test images.
        values, head: the present ones; values are (k,).
        best_values, best_head: those of the best epoch so far.
        moments: the optimizer's state of each of its parameters, in their order.
        history: the epochs so far.
    """

    base: str
    images: tuple[str, ...]
    values: Tensor
    head: Head
    best_values: Tensor
    best_head: Head
    moments: tuple[dict[str, Tensor], ...]
    history: tuple[EpochReport, ...]

    def check(self, delta: SparseDelta, data: Dataset, epochs: int) -> None:
        """Refuse to go on with something else than what training began with.

        Raises:
            CheckpointMismatch: other base weights, images, budget or number of epochs.
        """
        last = self.history[-1]
        for what, mine, found in (
            ("other base weights", self.base[:12], delta.base[:12]),
            ("other images", _digests(self.images), _digests(fingerprints(data))),
            ("another number of selected weights", len(self.values), delta.k),
            ("another number of epochs", last.epochs, epochs),
        ):
            if mine != found:
                raise CheckpointMismatch(
                    f"The checkpoint after epoch {last.epoch} belongs to {what} ({mine}) than what is at hand "
                    f"({found}). Bring back what the run began with and resume again, or start a new run."
                )


def moments_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], ...]:
    """A copy of the optimizer's state, on the CPU."""
    found = optimizer.state_dict()["state"]
    return tuple({key: value.cpu().clone() for key, value in found[at].items()} for at in sorted(found))


def restore(optimizer: torch.optim.Optimizer, moments: Sequence[dict[str, Tensor]]) -> None:
    """Put back what ``moments_of`` copied."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(enumerate(moments))})


def fingerprints(data: Dataset) -> tuple[str, ...]:
    """Those of the training, validation and test images."""
    return tuple(split.fingerprint for split in data.splits)


def _digests(fingerprints: Sequence[str]) -> str:
    return " ".join(fingerprint[:12] for fingerprint in fingerprints)
