"""Shift: further test sets of a dataset, on which finished trainings are evaluated beside its own test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from shpeft.config import DatasetConfig, Section
from shpeft.datasets import Split
from shpeft.errors import ClassMismatch, DatasetError, did_you_mean
from shpeft.images.corruptions import Corruption, corrupt
from shpeft.tasks import SingleLabel


class Shift(Section):
    """Further test images: corrupted ones, those of another source, or the dataset's own by subgroup."""

    datasets: tuple[str, ...] = Field((), description="Datasets of the plan that it is for; by default all.")
    corruption: Corruption | None = Field(None, description="Corrupt the test images, as in ImageNet-C.")
    severity: int = Field(3, ge=1, le=5, description="Severity of the corruption.")
    external: DatasetConfig | None = Field(
        None, description="Another dataset, whose test images are drawn and capped as those of the plan's datasets."
    )
    classes: dict[str, str] = Field(
        default_factory=dict,
        description="For external: its classes, each with the dataset's name for it; others are left out. By default "
        "its classes must be the dataset's.",
    )
    by_subgroup: bool = Field(False, description="The test images of each subgroup, such as a hospital, by themselves.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.corruption is not None) + (self.external is not None) + self.by_subgroup != 1:
            raise ValueError("a shift is one of corruption, external and by_subgroup: give one of them")
        if self.classes and self.external is None:
            raise ValueError("a shift's classes rename those of an external dataset: give external, or leave them out")
        return self


@dataclass(frozen=True)
class Corrupted:
    """The corrupted images of a split."""

    split: Split
    corruption: Corruption
    severity: int

    def image(self, index: int) -> Image.Image:
        """Return an image of 224 × 224 pixels in RGB."""
        return corrupt(self.split.image(index), self.corruption, self.severity, self.split.ids[index])

    def mask(self, index: int) -> np.ndarray | None:
        """Return None: the images have another size than the lesion masks."""
        return None


def corrupted(split: Split, corruption: Corruption, severity: int) -> Split:
    """Return the cases of a split with corrupted images; what is cached of an image goes by its new id.

    Examples:
        >>> import shpeft
        >>> test = shpeft.load_dataset("phantom:fundus?n=36&size=64").test
        >>> blurred = corrupted(test, "gaussian_blur", 2)
        >>> blurred.labels == test.labels, blurred.groups == test.groups, set(blurred.ids) & set(test.ids)
        (True, True, set())
    """
    ids = tuple(f"{case}-{corruption}-{severity}" for case in split.ids)
    return replace(split, ids=ids, contents=(), source=Corrupted(split, corruption, severity))


def renamed(split: Split, names: Mapping[str, str], like: Split) -> Split:
    """Return the cases of an external split with the classes of another one.

    Args:
        split: of a dataset with one class an image.
        names: the split's classes, each with the other's name for it; cases of others are left out. Empty: the names
            agree, and no case is left out.
        like: the split whose classes count.

    Raises:
        ClassMismatch: a class is unknown, or an image has no single class.
        DatasetError: no case is left.
    """
    if not isinstance(split.task, SingleLabel) or split.task != like.task:
        raise ClassMismatch(
            f"The labels of the external images are {split.task.name}, those of the dataset {like.task.name}; a shift "
            "by external images is for one class an image on both sides."
        )
    names = names or {name: name for name in split.classes}
    for known, given, whose in ((split.classes, names, "external dataset"), (like.classes, names.values(), "dataset")):
        if unknown := [name for name in given if name not in known]:
            raise ClassMismatch(
                f"The {whose} of a shift has no class '{unknown[0]}'; its classes are {', '.join(known)}. "
                f"{did_you_mean(unknown[0], known)} Set the shift's classes."
            )
    matching = split.subset([row for row, label in enumerate(split.labels) if split.classes[label] in names])
    if not len(matching):
        raise DatasetError("No external image of a shift has one of the classes that it names. Set its classes.")
    labels = tuple(like.classes.index(names[matching.classes[label]]) for label in matching.labels)
    return replace(matching, classes=like.classes, labels=labels, task=like.task)


def by_subgroup(split: Split) -> Iterator[tuple[str, Split]]:
    """Yield each subgroup of a split with its cases, in the order of names.

    Raises:
        DatasetError: the images have no subgroups.
    """
    if not split.subgroups:
        raise DatasetError(
            "A shift is by subgroup, and the images have none. Add a column such as 'hospital' to the table of "
            "images and name it in columns, or leave the shift out."
        )
    for name in sorted(set(split.subgroups)):
        yield name, split.subset([row for row, own in enumerate(split.subgroups) if own == name])


def check_unseen(name: str, shifted: Split, seen: Sequence[Split]) -> None:
    """Check that no image of a shift is one that models are trained or tuned with.

    Raises:
        DatasetError: one is.
    """
    if shared := set(shifted.ids) & {case for split in seen for case in split.ids}:
        raise DatasetError(
            f"{len(shared)} images of the shift {name!r} are training or validation images of the dataset, too. "
            "Give an external dataset without them."
        )
