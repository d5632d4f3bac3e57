"""Whether a model takes a shortcut: phantoms carry a corner marker that can be removed, or made to lie."""

from dataclasses import dataclass, replace

import numpy as np

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.datasets.phantoms import marker_mask, with_marker
from shpeft.datasets.phantoms.marker import Rule
from shpeft.evaluation import Interval, Predictions, difference, evaluate, predict
from shpeft.progress import Progress, silent
from shpeft.saliency import area_share, check_method, explain, mass_in_mask

MARGIN = 0.1
"""A model that never saw a marker can be sensitive to one by accident. Linear probes of two backbones on four phantoms,
150 test images each: the interval's lower end was at most 0.04 without a planted shortcut, at least 0.27 with one."""


@dataclass(frozen=True)
class ShortcutCheck:
    """What a model makes of the same phantoms with three kinds of marker; accuracies are balanced.

    Attributes:
        removed: the accuracy without a marker: what the model owes to the lesion.
        true: the accuracy when each image carries the marker of its own class.
        false: the accuracy when it carries that of the next class.
        lost: true - false, paired by image: 0 for a model that does not look at the marker.
        followed: the share of images with a false marker that are taken for the marker's class.
        followed_without: the share of the same images, without the marker, that are taken for that class anyway.
        mass: the mean share of the saliency that lies on a true marker; None when no method was given.
        chance: the marker's share of the image: what a map that knows nothing puts on it.
    """

    cases: int
    removed: Interval
    true: Interval
    false: Interval
    lost: Interval
    followed: float
    followed_without: float
    mass: float | None
    chance: float

    @property
    def caught(self) -> bool:
        """Whether a lying marker costs more accuracy than :data:`MARGIN`, with 95 % confidence."""
        return self.lost.low > MARGIN

    def __str__(self) -> str:
        verdict = "The model follows the marker" if self.caught else "No sign that the model follows the marker"
        return (
            f"{verdict}: balanced accuracy {self.true} with true markers, {self.false} with false ones, {self.removed}"
            f" without; {self.followed:.0%} of the false markers are followed."
        )


def shortcut_check(
    backbone: Backbone,
    split: Split,
    *,
    method: str | None = None,
    explained: int = 24,
    seed: int = 0,
    progress: Progress = silent,
) -> ShortcutCheck:
    """Remove the marker from phantoms, plant the true one, plant a false one, and see whether the model notices.

    Made for a model that was trained on ``phantom:KIND?shortcut=1``; the split is the test set of that dataset or of
    the one without a shortcut, which are the same images but for the marker.

    Args:
        method: a key of :data:`shpeft.saliency.METHODS`, to measure how much saliency lies on the marker; None: none.
        explained: how many of the images are explained, from the first.

    Raises:
        DatasetError: the images are no phantoms.
        ClassMismatch: the backbone was made for other classes.
        DiagnosisError: an unknown method.
    """
    if method is not None:
        check_method(method)
    found: dict[Rule, Predictions] = {}
    for rule in ("none", "true", "false"):
        marked = with_marker(split, rule)
        found[rule] = replace(predict(backbone, marked, progress=progress, stage=f"marker {rule}"), ids=split.ids)
    next_class = (np.asarray(split.labels) + 1) % len(split.classes)
    accuracy = {rule: evaluate(seen, seed=seed).balanced_accuracy for rule, seen in found.items()}
    true = with_marker(split, "true")
    masses = []
    for row in range(min(explained, len(split)) if method is not None else 0):
        progress("saliency", row, min(explained, len(split)))
        image = backbone.transform(true.image(row))
        saliency = explain(backbone, image, split.labels[row], method or "", seed=seed).map
        masses.append(mass_in_mask(saliency, marker_mask(true, row)))
    return ShortcutCheck(
        cases=len(split),
        removed=accuracy["none"],
        true=accuracy["true"],
        false=accuracy["false"],
        lost=difference(found["true"], found["false"], seed=seed)["balanced_accuracy"],
        followed=_share(found["false"], next_class),
        followed_without=_share(found["none"], next_class),
        mass=float(np.mean(masses)) if masses else None,
        chance=area_share(marker_mask(true, 0)),
    )


def _share(predictions: Predictions, classes: np.ndarray) -> float:
    """How many of the images are taken for these classes."""
    return float(np.mean(predictions.probabilities.argmax(1) == classes))
