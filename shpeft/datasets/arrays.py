"""Datasets of arrays in memory, and the .npz files that MedMNIST publishes."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from shpeft.config.schema import OnLeakage
from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.labels import check_labels
from shpeft.datasets.leakage import crossings, left_out, record, refusal, sentences
from shpeft.errors import DatasetError, EmptyDataset, Leakage
from shpeft.support.memory import memory_bytes
from shpeft.tasks import MULTI_LABEL, SINGLE_LABEL, MultiLabel, Task

SPLITS = ("train", "val", "test")
KEYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))


@dataclass(frozen=True)
class Arrays:
    """Images held as one array, (N, H, W) or (N, H, W, 3) uint8."""

    images: np.ndarray

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size."""
        return Image.fromarray(np.asarray(self.images[index])).convert("RGB")

    def mask(self, index: int) -> None:
        """Return None: such files have no lesion masks."""
        return


def load(path: Path, leakage: OnLeakage = "report") -> Dataset:
    """Load an ``.npz`` file with the arrays ``KEYS``: 8-bit images (N, H, W[, 3]) and class numbers (N,) or (N, 1),
    or for several findings an image 0 and 1 for each, (N, C).

    Raises:
        DatasetError: damaged, or without these arrays, or too large for the memory; EmptyDataset: fewer than two
            classes, or one missing in a split; Leakage: copies in two splits, where that is to be refused.
    """
    check_memory(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = sorted(set(KEYS) - set(file.files))
            if missing:
                raise DatasetError(
                    f"{path.name} has no array {missing[0]!r}. It needs {', '.join(KEYS)}, as MedMNIST's files have."
                )
            arrays = {key: file[key] for key in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path.name} cannot be read as an .npz file: {type(error).__name__}.") from None
    except MemoryError:
        raise DatasetError(
            f"The images of {path.name} do not fit into the free memory. Close other programs, or take the set at a "
            "smaller size."
        ) from None
    labels = arrays["train_labels"]
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _findings(path.stem, arrays, leakage)
    count = int(labels.max()) + 1 if labels.size and np.issubdtype(labels.dtype, np.integer) else 0
    if count > len(labels):
        raise DatasetError(
            f"{path.name} has the class number {count - 1:,} and {len(labels):,} training images. Number the classes "
            "from 0 without gaps."
        )
    if count < 2:
        raise EmptyDataset(f"{path.name} needs whole class numbers from 0, of at least two classes.")
    classes = tuple(str(number) for number in range(count))
    splits = [as_split(s, arrays[f"{s}_images"], arrays[f"{s}_labels"], classes, path.stem) for s in SPLITS]
    for split in splits:
        if lacking := [name for name, number in split.counts().items() if not number]:
            raise EmptyDataset(f"The class {lacking[0]} of {path.name} has no image in {split.name}.")
    splits, card = without_leakage(splits, leakage)
    return make_dataset(path.stem, splits, "train, val and test as given by the file.", **card)


def _findings(stem: str, arrays: dict[str, np.ndarray], leakage: OnLeakage) -> Dataset:
    """Return a dataset of several findings an image."""
    names = tuple(str(number) for number in range(arrays["train_labels"].shape[1]))
    splits = [as_split(s, arrays[f"{s}_images"], arrays[f"{s}_labels"], names, stem, MULTI_LABEL) for s in SPLITS]
    check_labels(stem, splits[:2])
    splits, card = without_leakage(splits, leakage)
    return make_dataset(stem, splits, "train, val and test as given by the file.", **card)


def check_memory(path: Path) -> None:
    """Check that the arrays of a file fit into memory, before they are unpacked.

    Raises:
        DatasetError: they do not.
    """
    memory = memory_bytes()
    if memory is None or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        needed = sum(entry.file_size for entry in file.infolist())
    if needed > memory:
        raise DatasetError(
            f"{path.name} unpacks to {needed / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory."
            " Take the set at a smaller size: MedMNIST has 28, 64, 128 and 224."
        )


def without_leakage(splits: Sequence[Split], leakage: OnLeakage) -> tuple[list[Split], dict[str, Any]]:
    """Handle images that are in two splits; return the splits and the card's entries.

    Only exact copies count: images of 28 pixels look alike without belonging to one patient.

    Raises:
        Leakage: there are copies and leakage is refused, or dropping them leaves a class without images.
    """
    images = [image for split in splits for image in cast(Arrays, split.source).images]
    content = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    homes = [split.name for split in splits for _ in split.ids]
    ids = [id for split in splits for id in split.ids]
    crossed = crossings(homes, content, content, ())
    if crossed and leakage == "refuse":
        names = [f"image {row} of {split.name}" for split in splits for row in range(len(split))]
        raise refusal(crossed, ids, names)
    card = {"leakage": record(crossed, ids, leakage), "warnings": sentences(crossed, leakage)}
    if not crossed or leakage == "report":
        return list(splits), card
    dropped, offset, remaining = left_out(crossed), 0, []
    for split in splits:
        remaining.append(split.subset([row for row in range(len(split)) if offset + row not in dropped]))
        offset += len(split)
        lacking = [name for name, number in remaining[-1].counts().items() if not number]
        if lacking and (split.task == SINGLE_LABEL or split.name == "train"):
            raise Leakage(
                f"Every image of the class '{lacking[0]}' in {split.name} is also in a later split. Set leakage to "
                "'report', or make other splits."
            )
    return remaining, card


def as_split(
    split: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    stem: str,
    task: Task = SINGLE_LABEL,
) -> Split:
    """Return images (N, H, W[, 3]) and labels (N,) or (N, 1), of findings (N, C) of 0 and 1, as a split.

    Raises:
        DatasetError: the images have another type or shape, or a label is out of range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    flat = labels.reshape(len(labels), -1)
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    width, most = (len(classes), 1) if isinstance(task, MultiLabel) else (1, len(classes) - 1)
    if (
        images.dtype != np.uint8
        or not shaped
        or len(images) != len(flat)
        or flat.shape[1:] != (width,)
        or not len(images)
    ):
        each = "one label" if width == 1 else f"{width} labels"
        raise DatasetError(f"{stem}.npz does not hold 8-bit images with {each} each.")
    if flat.min() < 0 or flat.max() > most:
        raise DatasetError(f"{stem}.npz has labels outside 0..{most}.")
    ids = tuple(_content_id(image, stem, split, row) for row, image in enumerate(images))
    rows = flat.astype(int).tolist()
    values = tuple(map(tuple, rows)) if isinstance(task, MultiLabel) else tuple(row[0] for row in rows)
    return Split(split, classes, values, ids, ids, Arrays(images), task=task)


def _content_id(image: np.ndarray, stem: str, split: str, row: int) -> str:
    """Return a pseudonym that differs for exact copies, because published splits stay as published."""
    return hashlib.sha256(f"{stem} {split} {row} ".encode() + image.tobytes()).hexdigest()[:12]
