"""Images held in memory, and files of arrays as MedMNIST publishes them."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.leakage import Handling, crossings, left_out, record, refusal, sentences
from shpeft.errors import DatasetError, EmptyDataset, Leakage

SPLITS = ("train", "val", "test")
KEYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))


@dataclass(frozen=True)
class Arrays:
    """Images held as one array, (N, H, W) or (N, H, W, 3) uint8."""

    images: np.ndarray

    def image(self, index: int) -> Image.Image:
        """The image in RGB at its own size."""
        return Image.fromarray(np.asarray(self.images[index])).convert("RGB")

    def mask(self, index: int) -> None:
        """Such files have no lesion masks."""
        return


def load(path: Path, leakage: Handling = "report") -> Dataset:
    """Open an ``.npz`` file with the arrays ``KEYS``: 8-bit images (N, H, W[, 3]), and class numbers (N,) or (N, 1).

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
    labels = arrays["train_labels"]
    count = int(labels.max()) + 1 if labels.size and np.issubdtype(labels.dtype, np.integer) else 0
    if count < 2:
        raise EmptyDataset(f"{path.name} needs whole class numbers from 0, of at least two classes.")
    classes = tuple(str(number) for number in range(count))
    splits = [as_split(s, arrays[f"{s}_images"], arrays[f"{s}_labels"], classes, path.stem) for s in SPLITS]
    for split in splits:
        if lacking := [name for name, number in split.counts().items() if not number]:
            raise EmptyDataset(f"The class {lacking[0]} of {path.name} has no image in {split.name}.")
    splits, found = without_leakage(splits, leakage)
    return make_dataset(path.stem, splits, "train, val and test as given by the file.", **found)


def check_memory(path: Path) -> None:
    """Refuse a file whose arrays are larger than this machine's memory, before they are unpacked.

    Raises:
        DatasetError: they are.
    """
    if not zipfile.is_zipfile(path) or not hasattr(os, "sysconf"):
        return
    with zipfile.ZipFile(path) as file:
        needed = sum(entry.file_size for entry in file.infolist())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise DatasetError(
            f"{path.name} unpacks to {needed / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory."
            " Take the set at a smaller size: MedMNIST has 28, 64, 128 and 224."
        )


def without_leakage(splits: Sequence[Split], leakage: Handling) -> tuple[list[Split], dict[str, Any]]:
    """The splits without the copies of images that stand in a later one, where these leave, and the card's words.

    Only exact copies are looked for: images of 28 pixels look alike without being of one patient.

    Raises:
        Leakage: there are some and they are to be refused, or a class would be left without an image.
    """
    images = [image for split in splits for image in cast(Arrays, split.source).images]
    content = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    homes = [split.name for split in splits for _ in split.ids]
    ids = [id for split in splits for id in split.ids]
    found = crossings(homes, content, content, ())
    if found and leakage == "refuse":
        places = [f"image {row} of {split.name}" for split in splits for row in range(len(split))]
        raise refusal(found, ids, places)
    card = {"leakage": record(found, ids, leakage), "warnings": sentences(found, leakage)}
    if not found or leakage == "report":
        return list(splits), card
    leaving, start, kept = left_out(found), 0, []
    for split in splits:
        kept.append(split.subset([row for row in range(len(split)) if start + row not in leaving]))
        start += len(split)
        if lacking := [name for name, number in kept[-1].counts().items() if not number]:
            raise Leakage(
                f"Every image of the class '{lacking[0]}' in {split.name} also stands in a later split. Set leakage to "
                "'report', or make other splits."
            )
    return kept, card


def as_split(split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], stem: str) -> Split:
    """Images (N, H, W[, 3]) and labels (N,) or (N, 1) as a split.

    Raises:
        DatasetError: other images, or labels of other classes.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    flat = labels.reshape(len(labels), -1)
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not shaped or len(images) != len(flat) or flat.shape[1:] != (1,) or not len(images):
        raise DatasetError(f"{stem}.npz does not hold 8-bit images with one label each.")
    if flat.min() < 0 or flat.max() >= len(classes):
        raise DatasetError(f"{stem}.npz has labels outside 0..{len(classes) - 1}.")
    ids = tuple(_content_id(image, stem, split, row) for row, image in enumerate(images))
    return Split(split, classes, tuple(int(label) for label in flat[:, 0]), ids, ids, Arrays(images))


def _content_id(image: np.ndarray, stem: str, split: str, row: int) -> str:
    """Opaque, and different for exact copies within the published splits, which stay as published."""
    return hashlib.sha256(f"{stem} {split} {row} ".encode() + image.tobytes()).hexdigest()[:12]
