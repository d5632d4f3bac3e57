"""Shortcut check: remove the corner marker of phantoms, or replace it with that of a false class."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.datasets.phantoms import marker_mask, with_marker
from shpeft.datasets.phantoms.marker import Rule
from shpeft.evaluation.metrics import Interval, difference, evaluate
from shpeft.evaluation.predict import Predictions, predict
from shpeft.explanation.saliency import area_share, check_method, explain, mass_in_mask
from shpeft.support.progress import Progress, silent

MARGIN = 0.1
"""A model that never saw a marker can be sensitive to one by chance. Linear probes of two backbones on four phantoms,
150 test images each: the lower end of the interval is at most 0.04 without a planted shortcut, at least 0.27 with."""


@dataclass(frozen=True, repr=False)
class ShortcutCheck:
    """Results on the same phantoms without a marker, with true and with false markers; accuracies are balanced.

    Attributes:
        cases: number of images.
        removed: accuracy without a marker, from the lesion alone.
        true: accuracy if each image carries the marker of its own class.
        false: accuracy if each image carries the marker of the next class.
        lost: true − false, paired by image; 0 for a model that ignores the marker.
        followed: share of images with a false marker that are predicted as the marker's class.
        followed_without: share of the same images, without the marker, that are predicted as that class anyway.
        mass: mean share of the saliency on a true marker; None without a method.
        chance: the marker's share of the image, which an uninformative map puts on it.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64&shortcut=1")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> shpeft.check_shortcut(model, data.test).caught
        False
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

    def __repr__(self) -> str:
        verdict = "follows the marker" if self.caught else "no sign of a shortcut"
        return f"ShortcutCheck({verdict}, accuracy lost to false markers {self.lost}, {self.cases} images)"

    @property
    def caught(self) -> bool:
        """Whether a false marker costs more accuracy than :data:`MARGIN`, with 95 % confidence."""
        return self.lost.low > MARGIN

    def __str__(self) -> str:
        verdict = "The model follows the marker" if self.caught else "No sign that the model follows the marker"
        return (
            f"{verdict}: balanced accuracy {self.true} with true markers, {self.false} with false ones, {self.removed}"
            f" without; {self.followed:.0%} of the false markers are followed."
        )


def check_shortcut(
    backbone: Backbone,
    split: Split,
    *,
    method: str | None = None,
    explained: int = 24,
    seed: int = 0,
    progress: Progress = silent,
) -> ShortcutCheck:
    """Predict phantoms without a marker, with true markers and with false ones, and compare the accuracies.

    Intended for a model trained on ``phantom:KIND?shortcut=1``. The split is the test split of that dataset or of the
    one without a shortcut: both hold the same images except for the marker.

    Args:
        backbone: the model to check.
        split: phantoms.
        method: a key of :data:`shpeft.explanation.saliency.METHODS`, to measure the saliency on the marker; None: skip.
        explained: number of images to explain, from the first.
        seed: of the bootstrap and the saliency method.

    Raises:
        DatasetError: the images are not phantoms.
        ClassMismatch: the backbone has other classes.
        DiagnosisError: an unknown method.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64&shortcut=1")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> check = shpeft.check_shortcut(model, data.test, method="saliency", explained=2)
        >>> 0 <= check.mass <= 1
        True
    """
    if method is not None:
        check_method(method)
    predictions: dict[Rule, Predictions] = {}
    for rule in ("none", "true", "false"):
        marked = with_marker(split, rule)
        predictions[rule] = replace(predict(backbone, marked, progress=progress, stage=f"marker {rule}"), ids=split.ids)
    next_class = (np.asarray(split.labels) + 1) % len(split.classes)
    accuracy = {rule: evaluate(seen, seed=seed).balanced_accuracy for rule, seen in predictions.items()}
    true = with_marker(split, "true")
    masses = []
    for row in range(min(explained, len(split)) if method is not None else 0):
        progress("saliency", row, min(explained, len(split)))
        inputs = backbone.transform(true.image(row))
        saliency = explain(backbone, inputs, split.labels[row], method or "", seed=seed).map
        masses.append(mass_in_mask(saliency, marker_mask(true, row)))
    return ShortcutCheck(
        cases=len(split),
        removed=accuracy["none"],
        true=accuracy["true"],
        false=accuracy["false"],
        lost=difference(predictions["true"], predictions["false"], seed=seed)["balanced_accuracy"],
        followed=_share(predictions["false"], next_class),
        followed_without=_share(predictions["none"], next_class),
        mass=float(np.mean(masses)) if masses else None,
        chance=area_share(marker_mask(true, 0)),
    )


def _share(predictions: Predictions, classes: NDArray[np.int64]) -> float:
    """Return the share of images that are predicted as these classes."""
    return float(np.mean(predictions.probabilities.argmax(1) == classes))
