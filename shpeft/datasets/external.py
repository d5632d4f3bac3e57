"""External data: images of another site, all of them for testing a model that exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from shpeft.config.schema import Blank, DatasetConfig, OnUnreadable, TaskName, Uncertain
from shpeft.datasets import folder, public_sets
from shpeft.datasets.base import ImageStore, Split
from shpeft.datasets.labels import LabelRules
from shpeft.datasets.sources import load_dataset
from shpeft.errors import ClassMismatch, did_you_mean
from shpeft.images import Decoding
from shpeft.support.progress import Progress, silent
from shpeft.tasks import SINGLE_LABEL, MultiLabel, Regression, Task

DEFAULTS = DatasetConfig()


@dataclass(frozen=True)
class ExternalData:
    """The images of another site, as one split.

    Attributes:
        name: of the dataset.
        split: all images, with the classes of the model.
        warnings: sentences on what limits the result.
    """

    name: str
    split: Split
    warnings: tuple[str, ...]


def load_external(
    source: str | Path,
    classes: Sequence[str],
    *,
    task: Task = SINGLE_LABEL,
    uncertain: Uncertain = DEFAULTS.uncertain,
    blank: Blank = DEFAULTS.blank,
    window: str = DEFAULTS.window,
    frame: int | None = DEFAULTS.frame,
    columns: Mapping[str, str] | None = None,
    on_unreadable: OnUnreadable = DEFAULTS.on_unreadable,
    cache: bool = DEFAULTS.cache,
    progress: Progress = silent,
) -> ExternalData:
    """Load all images of a source for testing: its splits are joined, and a class may be missing.

    Args:
        source: as in :func:`shpeft.load_dataset`; a table or folder needs no training images.
        classes: those of the model. The images may have fewer, but no others; of findings, others are left out.
        task: of the model.
        uncertain, blank, window, frame, columns, on_unreadable, cache, progress: see :func:`shpeft.load_dataset`.

    Raises:
        DatasetError: the source cannot be read or has no images.
        ClassMismatch: the images have a class that the model does not know.
    """
    decoding = Decoding(window, frame)
    kind, colon, name = str(source).partition(":")
    options: dict[str, Any] = {
        "decoding": decoding,
        "columns": columns or {},
        "on_unreadable": on_unreadable,
        "cache": cache,
        "progress": progress,
        "rules": LabelRules(cast(TaskName, task.name), uncertain, blank),
    }
    if colon and kind == "recipe":
        recipe, path = public_sets.parse(name)
        loaded = folder.load_whole(Path(path).expanduser(), discovery=recipe.discover, **options)
        return _external(recipe.source, loaded[0], loaded[1], classes, task)
    root = Path(source).expanduser()
    if not (colon and kind in ("phantom", "medmnist")) and root.exists() and root.suffix != ".npz":
        split, warnings = folder.load_whole(root, **options)
        return _external(root.resolve().name, split, warnings, classes, task)
    data = load_dataset(source, task=cast(TaskName, task.name), cache=cache, progress=progress)
    return _external(data.name, joined(data.splits), (), classes, task)


def _external(name: str, split: Split, warnings: Sequence[str], classes: Sequence[str], task: Task) -> ExternalData:
    """Return the data with the classes of the model."""
    if split.task.name != task.name:
        raise ClassMismatch(f"The labels of '{name}' are {split.task.name}, and the model's task is {task.name}.")
    unknown = [label for label in split.classes if label not in classes]
    independent = isinstance(task, MultiLabel) and len(unknown) < len(split.classes)
    if unknown and not independent:
        raise ClassMismatch(
            f"'{name}' has the class '{unknown[0]}', which the model does not know; its classes are "
            f"{', '.join(classes)}. {did_you_mean(unknown[0], classes)} Rename it, or leave its images out."
        )
    labels = task.renumbered(split.labels, split.classes, classes)
    if isinstance(task, Regression) and isinstance(split.task, Regression) and split.task.unit != task.unit:
        raise ClassMismatch(
            f"'{name}' has {split.classes[0]} in {split.task.unit or 'no unit'}, and the model predicts it in "
            f"{task.unit or 'no unit'}. Convert the numbers, and name the unit in the column's title."
        )
    absent = [label for label in classes if label not in split.classes]
    said = [f"There is no image of {', '.join(absent)}: the metrics are those of the other classes."] * bool(absent)
    said += [f"The model does not know {', '.join(unknown)}: left out."] * bool(unknown)
    return ExternalData(name, replace(split, classes=tuple(classes), labels=labels, task=task), (*said, *warnings))


@dataclass(frozen=True)
class Joined:
    """Several stores as one, in their order."""

    stores: tuple[tuple[ImageStore, int], ...]

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size."""
        store, row = self._at(index)
        return store.image(row)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the lesion mask, or None."""
        store, row = self._at(index)
        return store.mask(row)

    def _at(self, index: int) -> tuple[ImageStore, int]:
        for store, count in self.stores:
            if index < count:
                return store, index
            index -= count
        raise IndexError(index)


def joined(splits: Sequence[Split], name: str = "test") -> Split:
    """Return several splits of the same classes as one."""
    return Split(
        name,
        splits[0].classes,
        tuple(label for split in splits for label in split.labels),
        tuple(case for split in splits for case in split.ids),
        tuple(group for split in splits for group in split.groups),
        Joined(tuple((split.source, len(split)) for split in splits)),
        task=splits[0].task,
    )
