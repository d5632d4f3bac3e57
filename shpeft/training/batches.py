"""The batches of each epoch: the order of the images, and how they are varied; both follow from the seed."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from shpeft.config.schema import Augmentation, Balance, Modality, TrainingConfig
from shpeft.datasets import Dataset
from shpeft.errors import TrainingError
from shpeft.forward.base import ForwardPass, Vary
from shpeft.support.seeding import seeded
from shpeft.tasks import SINGLE_LABEL, Task
from shpeft.training.augmentation import STRENGTHS, augmentation, modality_of

DEFAULTS = TrainingConfig()

MIXUP = 1
"""Distinguishes the random numbers of mixup from those of augmentation."""


class TrainingBatches:
    """The batches of every epoch; draw the epochs in their order.

    The order of the images is that of one generator. Each image, and each mixture, has random numbers of its own, which
    follow from seed, epoch and position: they depend on nothing that ran before.

    Attributes:
        varied: whether images change otherwise than by flips, so that features of them cannot be cached.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        batch_size: int = DEFAULTS.batch_size,
        augment: Augmentation = DEFAULTS.augment,
        modality: Modality = DEFAULTS.modality,
        mixup: float = DEFAULTS.mixup,
        balance: Balance = DEFAULTS.balance,
        seed: int = 0,
    ):
        """Prepare the epochs of the training images.

        Args:
            augment, modality, mixup, balance: see :func:`shpeft.finetune`.
            seed: of the order, of augmentation and of mixtures.

        Raises:
            TrainingError: the task has no classes to balance or labels to mix.
        """
        check_task(data.train.task, balance != "none" and "balance", mixup > 0 and "mixup")
        self._split, self._size, self._seed = data.train, batch_size, seed
        self._flip, self._strength = augment == "flip", augment if augment in STRENGTHS else None
        self._modality = modality_of(modality, data.card.get("modality"))
        self._mixup, self._balanced = mixup, balance == "sampling"
        self._generator = torch.Generator().manual_seed(seed)
        self.varied = self._strength is not None or mixup > 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self._split) // self._size)

    def epoch(self, number: int, forward_pass: ForwardPass) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Draw the order of an epoch, and return its batches as the forward pass shares them, with their sizes."""
        count = len(self._split)
        if self._balanced:
            rates = balanced_weights(self._split.labels, len(self._split.classes))
            shares = torch.tensor([rates[label] for label in self._split.labels])
            order = torch.multinomial(shares, count, replacement=True, generator=self._generator).tolist()
        else:
            order = torch.randperm(count, generator=self._generator).tolist()
        mirrored = (torch.rand(count, generator=self._generator) < 0.5).tolist() if self._flip else None
        vary = self._vary(number) if self.varied else None
        return forward_pass.shares(self._split, self._size, order=order, mirrored=mirrored, vary=vary)

    def _vary(self, epoch: int) -> Vary:
        def vary(batch: int, pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            if self._strength is not None:
                change = augmentation(self._strength, self._modality, (pixels.shape[-2], pixels.shape[-1]))
                first = batch * self._size
                changed = []
                for position, image in enumerate(pixels, first):
                    with seeded(_number(self._seed, epoch, position)):
                        changed.append(change(image))
                pixels = torch.stack(changed)
            if self._mixup:
                with seeded(_number(self._seed, epoch, batch, MIXUP)):
                    mix = v2.MixUp(alpha=self._mixup, num_classes=len(self._split.classes))
                    pixels, target = mix(pixels.float(), target)
            return pixels, target

        return vary


def balanced_weights(labels: Sequence[int], classes: int) -> list[float]:
    """Return the weight N / (C N_c) of each class: all classes weigh the same, and the mean over all cases is 1.

    Args:
        labels: (N,) classes of the cases.
        classes: C. A class without a case has weight 0.

    Examples:
        >>> balanced_weights([0, 0, 0, 1], 2)
        [0.6666666666666666, 2.0]
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=classes)
    return [len(labels) / (classes * int(count)) if count else 0.0 for count in counts]


def check_task(task: Task, *options: str | Literal[False]) -> None:
    """Check that options which need one class for each image go with the task.

    Args:
        options: the names of those that are in use; False for others.

    Raises:
        TrainingError: one of them does not.
    """
    used = [option for option in options if option]
    if used and task != SINGLE_LABEL:
        raise TrainingError(
            f"The option {used[0]} needs one class for each image, and the task of these images is {task.name}. Leave "
            f"{used[0]} at its default."
        )


def _number(*parts: int) -> int:
    """Return the seed that follows from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
