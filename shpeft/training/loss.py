"""The loss of fine-tuning: the task's, with class weights and label smoothing, and its counterpart for validation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shpeft.config.schema import Balance, TrainingConfig
from shpeft.datasets import Split
from shpeft.evaluation.by_task import validation_loss
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import SINGLE_LABEL, Task
from shpeft.training.batches import balanced_weights, check_task

DEFAULTS = TrainingConfig()


@dataclass(frozen=True)
class TrainingLoss:
    """The loss of a batch, and the validation loss that epochs are compared by.

    Attributes:
        task: whose loss it is.
        balanced: whether every class counts alike in the validation loss.
        class_weights: (C,) factors of the loss by class, whose mean over the training images is 1; None: 1.
        label_smoothing: the share of a label that is spread evenly over all classes.
    """

    task: Task = SINGLE_LABEL
    balanced: bool = False
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = DEFAULTS.label_smoothing

    @classmethod
    def of(
        cls, split: Split, balance: Balance = DEFAULTS.balance, label_smoothing: float = DEFAULTS.label_smoothing
    ) -> "TrainingLoss":
        """Return the loss for training images; see :func:`shpeft.finetune`.

        Raises:
            TrainingError: the task has no such classes to balance or labels to smooth.
        """
        check_task(split.task, balance != "none" and "balance", label_smoothing > 0 and "label_smoothing")
        weights = tuple(balanced_weights(split.labels, len(split.classes))) if balance == "loss" else None
        return cls(split.task, balance != "none", weights, label_smoothing)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: (B, C).
            target: (B,) int64 classes, or (B, C) shares of the classes in mixtures.

        Examples:
            >>> import torch
            >>> logits, target = torch.zeros(2, 2), torch.tensor([0, 1])
            >>> [round(TrainingLoss(class_weights=w)(logits, target).item(), 4) for w in (None, (1.5, 0.5))]
            [0.6931, 0.6931]
        """
        if self.class_weights is None and not self.label_smoothing:
            return self.task.loss(logits, target)
        if self.class_weights is None:
            return cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        weights = torch.tensor(self.class_weights, dtype=logits.dtype, device=logits.device)
        total = cross_entropy(logits, target, weights, label_smoothing=self.label_smoothing, reduction="sum")
        return total / len(target)  # the mean over images: a batch without rare classes has no larger steps

    def validation(self, predictions: Predictions) -> float:
        """Return the mean cross-entropy at the temperature that fits the predictions, of images or of classes."""
        weights = balanced_weights(predictions.labels, len(predictions.classes)) if self.balanced else None
        return validation_loss(predictions, weights)
