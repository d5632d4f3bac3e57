"""Predict the cases of a split: one probability for each class, under opaque ids."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.errors import ClassMismatch
from shpeft.forward.base import ForwardPass
from shpeft.support.progress import Progress, silent
from shpeft.tasks import SINGLE_LABEL, Task

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Predicted probabilities of N cases, with their ground truth. Ids and groups are opaque.

    Attributes:
        ids: (N,) of the cases.
        labels: (N,) as the task has them: for single labels positions of the true classes in ``classes``.
        groups: (N,) such as the patient: cases of one group are resampled together.
        classes: (C,) names.
        probabilities: (N, C) float64, by the task's link: for single labels the softmax of the logits, of a regression
            the predicted numbers, (N, 1).
        subgroups: (N,) such as the hospital, for results by subgroup; empty if unknown.
        task: what labels and probabilities are.
        decisions: (N,) the classes that were decided on; None: those that the task decides on by ``probabilities``.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
        >>> shpeft.Predictions(("a", "b", "c"), (0, 1, 1), ("a", "b", "c"), ("healthy", "ill"), p)
        Predictions(3 cases, 2 classes: healthy, ill)
    """

    ids: tuple[str, ...]
    labels: tuple[Any, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Array
    subgroups: tuple[str, ...] = ()
    task: Task = SINGLE_LABEL
    decisions: NDArray[np.int64] | None = None

    @property
    def decided(self) -> NDArray[np.int64]:
        """The class of each case that is decided on without a threshold, (N,)."""
        return self.task.decide(self.probabilities) if self.decisions is None else self.decisions

    def __repr__(self) -> str:
        names = ", ".join(self.classes)
        shown = names if len(names) <= 70 else f"{names[:69]}…"
        return f"Predictions({len(self.ids):,} cases, {len(self.classes)} classes: {shown})"


@torch.no_grad()
def predict(
    backbone: Backbone,
    split: Split,
    *,
    batch_size: int = 32,
    forward_pass: ForwardPass | None = None,
    views: int = 1,
    progress: Progress = silent,
    stage: str = "predictions",
) -> Predictions:
    """Predict the probabilities of every case of a split.

    Args:
        batch_size: images per forward pass.
        forward_pass: runs the backbone, such as with a cached prefix; None: the whole backbone on each image.
        views: 2 averages the probabilities of each image and its mirror image.
        progress: receives the number of images done.
        stage: name of the work for ``progress``.

    Raises:
        ClassMismatch: the backbone has other classes than the split.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> predictions = shpeft.predict(model, data.test)
        >>> predictions.probabilities.shape == (len(data.test), len(data.classes))
        True
    """
    if backbone.classes != split.classes:
        raise ClassMismatch(
            f"The model's classes are {', '.join(backbone.classes)}; those of the images are "
            f"{', '.join(split.classes)}. Use a dataset with the same classes."
        )
    forward_pass = forward_pass or ForwardPass(backbone)
    task = backbone.task if backbone.task.name == split.task.name else split.task
    seen: list[torch.Tensor] = []
    for mirrored in (None, [True] * len(split))[:views]:
        report = partial(_report, progress, stage, len(seen), views, len(split))
        seen.append(
            forward_pass.collect(
                split,
                batch_size,
                lambda inputs: task.probabilities(forward_pass(inputs)),
                mirrored=mirrored,
                progress=report,
            )
        )
    progress(stage, len(split), len(split))
    probabilities = torch.stack(seen).numpy().mean(0)
    return Predictions(split.ids, split.labels, split.groups, split.classes, probabilities, split.subgroups, task)


def _report(progress: Progress, stage: str, view: int, views: int, count: int, done: int) -> None:
    progress(stage, (view * count + done) // views, count)
