"""Which files of a folder are images of which class and split."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset
from shpeft.images import SUFFIXES, looks_like_image

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

MASK = re.compile(r"^(?P<stem>.+)_mask(_\d+)?$", re.IGNORECASE)

EXPECTED = (
    "Expected train/<class>/ and test/<class>/ (val/<class>/ may be there too), or only <class>/ folders, with image"
    f" files ({', '.join(suffix.removeprefix('.') for suffix in SUFFIXES)}, or DICOM of any name) inside."
)


@dataclass(frozen=True)
class Found:
    """An image file: its path relative to the folder, where it belongs, and the masks drawn for it."""

    name: str
    path: Path
    split: str
    label: str
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """All image files, sorted by name."""

    files: tuple[Found, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    warnings: tuple[str, ...]


def discover(root: Path) -> Layout:
    """Find the splits, classes and image files of ``root`` without opening any of them.

    A file ``X_mask.png`` beside an image ``X.*`` is that image's lesion mask, not an image.

    Raises:
        EmptyDataset: no images, or fewer than two classes.
        ClassMismatch: the splits have different classes.
    """
    if not root.is_dir():
        raise DatasetError(f"'{root.name}' is a file, and a dataset is a folder. Unpack it first. {EXPECTED}")
    homes = _splits(root)
    if "test" in homes and "train" not in homes:
        raise DatasetError(f"'{root.name}' has a test folder but no train folder. {EXPECTED}")
    if "val" in homes and "train" not in homes:
        raise DatasetError(f"'{root.name}' has a validation folder but no train folder. {EXPECTED}")
    files: list[Found] = []
    classes: dict[str, list[str]] = {}
    for split, home in (homes or {"train": root}).items():
        found = {folder.name: _images(root, folder, split) for folder in _folders(home)}
        classes[split] = [name for name, images in found.items() if images]
        for images in found.values():
            files += images
    _check(root, classes, homes)
    masked = sum(bool(file.masks) for file in files)
    warnings = (f"{masked} images have a lesion mask beside them, which is not used as an image.",) if masked else ()
    return Layout(tuple(files), tuple(classes["train"]), tuple(classes), warnings)


def read_groups(root: Path, warnings: list[str]) -> dict[str, str]:
    """The group of each file (relative name), from ``manifest.csv`` with the columns file and group, if it exists."""
    path = root / "manifest.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"manifest.csv of '{root.name}' cannot be read: {error}. Save it as UTF-8 CSV.") from None
    if rows and not {"file", "group"} <= set(rows[0]):
        warnings.append("manifest.csv has no columns 'file' and 'group'; every image is a group of its own.")
        return {}
    return {
        row["file"].replace("\\", "/").removeprefix("./"): row["group"] for row in rows if row["file"] and row["group"]
    }


def _splits(root: Path) -> dict[str, Path]:
    """The folders that are splits, by their word."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    found = {}
    for split, words in SPLIT_WORDS.items():
        matching = [folders[word] for word in words if word in folders]
        if len(matching) > 1:
            names = " and ".join(folder.name for folder in matching)
            raise DatasetError(f"'{root.name}' has both {names}, which mean the same split. Rename or join them.")
        if matching:
            found[split] = matching[0]
    return found


def _folders(home: Path) -> list[Path]:
    return sorted(entry for entry in home.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _images(root: Path, folder: Path, split: str) -> list[Found]:
    """The image files below a class folder, masks attached to their images."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if not path.name.startswith(".") and path.is_file() and looks_like_image(path)
    )
    stems = {path.with_suffix("") for path in paths}
    masks: dict[Path, list[Path]] = {}
    images = []
    for path in paths:
        match = MASK.match(path.stem)
        owner = path.parent / match["stem"] if match else None
        if owner in stems:
            masks.setdefault(owner, []).append(path)
        else:
            images.append(Found(path.relative_to(root).as_posix(), path, split, folder.name))
    return [replace(image, masks=tuple(masks.get(image.path.with_suffix(""), ()))) for image in images]


def _check(root: Path, classes: dict[str, list[str]], homes: dict[str, Path]) -> None:
    """There are images, of two classes or more, of the same classes in every split."""
    train = classes["train"]
    if not any(classes.values()):
        raise EmptyDataset(f"There are no images in '{root.name}'{_what_else(root)}. {EXPECTED}")
    if len(train) < 2:
        home = homes.get("train", root)
        nested = [folder.name for folder in _folders(home) if len(_folders(folder)) > 1]
        hint = f" Its folder '{nested[0]}' looks like a dataset itself: try that one." if nested else ""
        found = f"only the class '{train[0]}'" if train else "no class with images to train on"
        raise EmptyDataset(f"'{root.name}' has {found}; a diagnosis needs at least two classes.{hint} {EXPECTED}")
    for split, names in classes.items():
        if set(names) != set(train):
            raise ClassMismatch(
                f"The classes of '{root.name}' differ: train has {_list(train)}, {split} has {_list(names)}."
                f" {difference(train, names, split)} Every split needs at least one image of every class."
            )


def difference(train: Sequence[str], names: Sequence[str], split: str) -> str:
    """Which classes one split has and the other lacks, as a sentence."""
    missing, extra = sorted(set(train) - set(names)), sorted(set(names) - set(train))
    parts = [f"{split} lacks {_list(missing)}"] * bool(missing) + [f"train lacks {_list(extra)}"] * bool(extra)
    return " and ".join(parts) + "."


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in list(names)[:12]) or "none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _what_else(root: Path) -> str:
    """The most frequent kinds of files that are there instead of images."""
    paths = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    kinds = Counter(path.suffix.lower() or "no suffix" for path, _ in zip(paths, range(10_000), strict=False))
    loose = sum(1 for path in root.iterdir() if path.is_file() and looks_like_image(path))
    if loose:
        return f": {loose} image files lie outside class folders"
    return f" (found: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common(4))})" if kinds else ""
