"""What every dataset is: three splits of labelled images, and a card that says where they come from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from shpeft.datasets.card import cautions
from shpeft.images import Pixels, open_pixels


class ImageStore(Protocol):
    """Images by position. Lazy: nothing is decoded before it is asked for. Picklable."""

    def image(self, index: int) -> Image.Image:
        """The image in RGB at its own size."""
        ...

    def mask(self, index: int) -> np.ndarray | None:
        """Where the lesion is, bool (height, width), or None where nobody has drawn it."""
        ...


@runtime_checkable
class DeepStore(Protocol):
    """A store that knows more of its images than 8 bits."""

    def pixels(self, index: int) -> Pixels:
        """The image with all the bits that it has."""
        ...


@dataclass(frozen=True)
class Rows:
    """Some images of a store, in a given order."""

    store: ImageStore
    indices: tuple[int, ...]

    def image(self, index: int) -> Image.Image:
        """The image in RGB at its own size."""
        return self.store.image(self.indices[index])

    def mask(self, index: int) -> np.ndarray | None:
        """Where the lesion is, or None."""
        return self.store.mask(self.indices[index])


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        name: train, val or test.
        classes: the names that labels index.
        labels: one index into ``classes`` a case.
        ids: opaque names of the cases. An id stands for the content: equal ids, equal pixels.
        groups: cases of one group (a patient) are never separated; the id itself where no group is known.
        source: where the images are.
        contents: what the cache on disk knows each image by: its content and how it is shown; empty where nothing is
            kept.
        subgroups: what results are also told apart by, such as the hospital; empty where nothing is known.
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    source: ImageStore
    contents: tuple[bytes, ...] = ()
    subgroups: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The image of a case, RGB, at its own size."""
        return self.source.image(index)

    def pixels(self, index: int) -> Pixels:
        """The image of a case with all the bits that its file has."""
        store, row = (
            (self.source.store, self.source.indices[index]) if isinstance(self.source, Rows) else (self.source, index)
        )
        return store.pixels(row) if isinstance(store, DeepStore) else open_pixels(store.image(row))

    def mask(self, index: int) -> np.ndarray | None:
        """The lesion of a case, bool (height, width), or None where no ground truth exists."""
        return self.source.mask(index)

    def subset(self, indices: Sequence[int], name: str | None = None) -> "Split":
        """The cases at these positions, in this order."""
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
            source=Rows(store, rows if base is None else tuple(base[row] for row in rows)),
        )

    def counts(self) -> dict[str, int]:
        """How many cases each class has."""
        found = np.bincount(np.asarray(self.labels, dtype=np.int64), minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, found, strict=True)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, labels and classes: the same for the same cases in the same order."""
        return _digest([self.classes, self.labels, self.ids])


@dataclass(frozen=True)
class Dataset:
    """Three splits, and the card that describes them.

    Splits that are drawn share no case and no group. Splits that were given may; then the card's ``leakage`` says so.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    card: dict[str, Any]

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, val and test."""
        return self.train, self.val, self.test

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the splits' fingerprints."""
        return str(self.card["fingerprint"])


def make_dataset(name: str, splits: Sequence[Split], split_rule: str, **card: Any) -> Dataset:
    """Join train, val and test, and write the card: counts, rule, and whatever ``card`` adds."""
    train, val, test = splits
    described: dict[str, Any] = {
        "name": name,
        "modality": None,
        "classes": list(train.classes),
        "counts": {split.name: split.counts() for split in splits},
        "split_rule": split_rule,
        "sizes": None,
        "unreadable": [],
        "unreadable_ids": [],
        "near_duplicates": [],
        "leakage": None,
        "warnings": [],
        "notice": None,
        "fingerprint": _digest([split.fingerprint for split in splits]),
    }
    described |= card
    described["warnings"] = [*described["warnings"], *cautions(splits)]
    return Dataset(name, train, val, test, train.classes, described)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
