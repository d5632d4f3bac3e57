"""The dataset: three splits of labeled images, and a card that describes them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from shpeft.datasets.cautions import cautions, numbers
from shpeft.errors import ClassMismatch
from shpeft.images import NO_FACTS, Facts, Pixels, open_pixels
from shpeft.tasks import SINGLE_LABEL, Regression, SingleLabel, Task


class ImageStore(Protocol):
    """Images by index, decoded on request; picklable."""

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size."""
        ...

    def mask(self, index: int) -> np.ndarray | None:
        """Return the lesion mask, bool (height, width), or None if there is no ground truth."""
        ...


@runtime_checkable
class DeepStore(Protocol):
    """A store of files, whose images may have more than 8 bits and state how they were made."""

    def pixels(self, index: int) -> Pixels:
        """Return an image with all its bits."""
        ...

    def facts(self, index: int) -> Facts:
        """Return what an image's file states about how it was made."""
        ...


@dataclass(frozen=True)
class Rows:
    """A subset of a store's images, in a given order."""

    store: ImageStore
    indices: tuple[int, ...]

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size."""
        return self.store.image(self.indices[index])

    def mask(self, index: int) -> np.ndarray | None:
        """Return the lesion mask, or None."""
        return self.store.mask(self.indices[index])


@dataclass(frozen=True)
class Split:
    """The labeled images of one split.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        classes: the names of the classes.
        labels: one per case, as the task has them: for single labels an index into ``classes``.
            Of a regression they are numbers.
        ids: pseudonyms of the cases, derived from the content: equal ids mean equal pixels.
        groups: the group (patient) of each case, which a drawn split keeps together; the id if no group is known.
        source: the store of the images.
        contents: the key of each image in the cache on disk, from its content and decoding; empty without a cache.
        subgroups: for results by subgroup, such as the hospital; empty if unknown.
        task: what the labels are.
        folds: the fold of each case, from the table; empty if unknown.

    Examples:
        >>> import shpeft
        >>> test = shpeft.load_dataset("phantom:fundus?n=36&size=64").test
        >>> test
        Split('test', 12 cases of 3 classes)
        >>> test.counts()
        {'healthy': 4, 'haemorrhages': 4, 'exudates': 4}
        >>> test.image(0).size, test.mask(1).shape
        ((64, 64), (64, 64))
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[Any, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    source: ImageStore
    contents: tuple[bytes, ...] = ()
    subgroups: tuple[str, ...] = ()
    task: Task = SINGLE_LABEL
    folds: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self):,} cases of {_what(self.classes, self.task)})"

    def image(self, index: int) -> Image.Image:
        """Return the image of a case in RGB at its own size."""
        return self.source.image(index)

    def pixels(self, index: int) -> Pixels:
        """Return the image of a case with all the bits of its file."""
        store, row = (
            (self.source.store, self.source.indices[index]) if isinstance(self.source, Rows) else (self.source, index)
        )
        return store.pixels(row) if isinstance(store, DeepStore) else open_pixels(store.image(row))

    def facts(self, index: int) -> Facts:
        """Return what a case's file states about how it was made, such as its modality and pixel spacing."""
        store, row = (
            (self.source.store, self.source.indices[index]) if isinstance(self.source, Rows) else (self.source, index)
        )
        return store.facts(row) if isinstance(store, DeepStore) else NO_FACTS

    def mask(self, index: int) -> np.ndarray | None:
        """Return the lesion mask of a case, bool (height, width), or None if there is no ground truth."""
        return self.source.mask(index)

    def subset(self, indices: Sequence[int], name: str | None = None) -> "Split":
        """Return the cases at these indices, in this order.

        Args:
            indices: positions in this split.
            name: of the new split. None: the name of this one.
        """
        rows = tuple(int(index) for index in indices)
        store, base = (self.source.store, self.source.indices) if isinstance(self.source, Rows) else (self.source, None)
        return replace(
            self,
            name=name or self.name,
            labels=tuple(self.labels[row] for row in rows),
            ids=tuple(self.ids[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            contents=tuple(self.contents[row] for row in rows) if self.contents else (),
            subgroups=tuple(self.subgroups[row] for row in rows) if self.subgroups else (),
            folds=tuple(self.folds[row] for row in rows) if self.folds else (),
            source=Rows(store, rows if base is None else tuple(base[row] for row in rows)),
        )

    def counts(self) -> dict[str, int]:
        """Return the number of cases of each class."""
        return self.task.counts(self.labels, self.classes)

    def with_classes(self, classes: Sequence[str]) -> "Split":
        """Return the same cases with their classes in another order.

        Raises:
            ClassMismatch: the classes are others.
        """
        if tuple(classes) == self.classes:
            return self
        if sorted(classes) != sorted(self.classes):
            raise ClassMismatch(
                f"The model's classes are {', '.join(classes)}; those of the images are {', '.join(self.classes)}. Use "
                "a dataset with the same classes."
            )
        return replace(self, classes=tuple(classes), labels=self.task.renumbered(self.labels, self.classes, classes))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids, labels and classes: equal for the same cases in the same order."""
        return _digest([self.classes, self.labels, self.ids])


@dataclass(frozen=True)
class Dataset:
    """Three splits and the card that describes them.

    Drawn splits share no case and no group. Given splits may; the card reports it under ``leakage``.

    Attributes:
        name: of the dataset.
        train, val, test: the splits.
        classes: the names of the classes.
        card: counts, origin and warnings, for people and for a run's record.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> data
        Dataset('phantom:fundus?n=36&size=64', 18 train, 6 val and 12 test cases of 3 classes)
        >>> data.card["counts"]["val"]
        {'healthy': 2, 'haemorrhages': 2, 'exudates': 2}
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    card: dict[str, Any]

    def __repr__(self) -> str:
        train, val, test = (f"{len(split):,}" for split in self.splits)
        what = _what(self.classes, self.task)
        return f"Dataset({self.name!r}, {train} train, {val} val and {test} test cases of {what})"

    @property
    def task(self) -> Task:
        """What the labels are."""
        return self.train.task

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, val and test."""
        return self.train, self.val, self.test

    def with_classes(self, classes: Sequence[str]) -> "Dataset":
        """Return the dataset with its classes in another order, such as that of an older run.

        Raises:
            ClassMismatch: the classes are others.
        """
        train, val, test = (split.with_classes(classes) for split in self.splits)
        return replace(self, train=train, val=val, test=test, classes=tuple(classes))

    def within(self, classes: Sequence[str]) -> "Dataset":
        """Return the dataset as a part of a task with more classes, some of which it lacks.

        Raises:
            ClassMismatch: it has a class that the task lacks, or the task is one that needs all classes.

        Examples:
            >>> import shpeft
            >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
            >>> data.within((*data.classes, "drusen")).train.counts()
            {'healthy': 6, 'haemorrhages': 6, 'exudates': 6, 'drusen': 0}
        """
        unknown = [label for label in self.classes if label not in classes]
        if not isinstance(self.task, SingleLabel) or tuple(classes) == self.classes:
            return self.with_classes(classes)
        if unknown:
            raise ClassMismatch(
                f"These images have the class {unknown[0]!r}; those of the task are {', '.join(classes)}. Rename it, "
                "or leave its images out."
            )
        train, val, test = (
            replace(split, classes=tuple(classes), labels=self.task.renumbered(split.labels, split.classes, classes))
            for split in self.splits
        )
        counts = {split.name: split.counts() for split in (train, val, test)}
        card = {**self.card, "classes": list(classes), "counts": counts}
        return replace(self, train=train, val=val, test=test, classes=tuple(classes), card=card)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the fingerprints of the splits."""
        return str(self.card["fingerprint"])


def make_dataset(name: str, splits: Sequence[Split], split_rule: str, **card: Any) -> Dataset:
    """Return a dataset of train, val and test with its card.

    Args:
        name: of the dataset.
        splits: train, val and test.
        split_rule: a sentence that says how the splits were made.
        card: further entries of the card, or replacements of its defaults.
    """
    task = splits[0].task.fitted(splits[0].labels)
    train, val, test = (split if split.task == task else replace(split, task=task) for split in splits)
    described: dict[str, Any] = {
        "name": name,
        "modality": None,
        "classes": list(train.classes),
        "counts": {split.name: split.counts() for split in splits},
        **({"values": {split.name: numbers(split.labels) for split in splits}} if isinstance(task, Regression) else {}),
        "split_rule": split_rule,
        "sizes": None,
        "unreadable": [],
        "contradictory": [],
        "unreadable_ids": [],
        "near_duplicates": [],
        "leakage": None,
        "warnings": [],
        "notice": None,
        "fingerprint": _digest([split.fingerprint for split in splits]),
    }
    described |= card
    described["warnings"] = [*described["warnings"], *cautions(train.counts(), test.counts(), train.task)]
    return Dataset(name, train, val, test, train.classes, described)


def _what(classes: Sequence[str], task: Task) -> str:
    """Return the number of classes, or the quantity of a regression, for a repr."""
    return classes[0] if isinstance(task, Regression) else f"{len(classes)} classes"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
