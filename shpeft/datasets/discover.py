"""Which files of a folder are images of which class and split."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset
from shpeft.images import SUFFIXES, looks_like_image
from shpeft.progress import Progress, silent

SPLIT_WORDS = {  # the words that Hugging Face's datasets know
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}

MASK = re.compile(r"^(?P<stem>.+)_mask(_\d+)?$", re.IGNORECASE)

EXPECTED = (
    "Expected train/<class>/ and test/<class>/ (val/<class>/ may be there too), or only <class>/ folders, with image"
    f" files ({', '.join(suffix.removeprefix('.') for suffix in SUFFIXES)}, or DICOM of any name) inside."
)


@dataclass(frozen=True)
class Found:
    """An image file: its path relative to the folder, where it belongs, and the masks drawn for it.

    ``subgroup`` is what its table says of its hospital, scanner or the like.
    """

    name: str
    path: Path
    split: str
    label: str
    masks: tuple[Path, ...] = ()
    subgroup: str = ""


@dataclass(frozen=True)
class Layout:
    """All image files, sorted by name."""

    files: tuple[Found, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    warnings: tuple[str, ...]


def discover(root: Path, progress: Progress = silent) -> Layout:
    """Find the splits, classes and image files of ``root`` without opening any of them.

    A file ``X_mask.png`` beside an image ``X.*`` is that image's lesion mask, not an image.

    Args:
        progress: told of the images so far.

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
        classes[split] = []
        for folder in _folders(home):
            images = _images(root, folder, split, len(files), progress)
            files += images
            classes[split] += [folder.name] * bool(images)
    _check(root, classes, homes)
    masked = sum(bool(file.masks) for file in files)
    warnings = (f"{masked} images have a lesion mask beside them, which is not used as an image.",) if masked else ()
    return Layout(tuple(files), tuple(classes["train"]), tuple(classes), warnings)


def read_groups(root: Path, warnings: list[str]) -> dict[str, str]:
    """The group of each file (relative name), from ``manifest.csv`` with the columns file and group, if it exists."""
    rows = _manifest(root)
    if rows and not {"file", "group"} <= set(rows[0]):
        warnings.append("manifest.csv has no columns 'file' and 'group'; every image is a group of its own.")
        return {}
    return {_relative(row["file"]): row["group"] for row in rows if row["file"] and row["group"]}


def read_subgroups(root: Path, columns: Sequence[str]) -> dict[str, str]:
    """What ``manifest.csv`` says of each file (relative name) in the first of these columns that it has."""
    rows = _manifest(root)
    column = next((name for name in columns if rows and name in rows[0]), None)
    if column is None or "file" not in rows[0]:
        return {}
    return {_relative(row["file"]): row[column].strip() for row in rows if row["file"] and row[column]}


def _manifest(root: Path) -> list[dict[str, str]]:
    """The rows of ``manifest.csv``; none where there is no such file."""
    path = root / "manifest.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            return list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"manifest.csv of '{root.name}' cannot be read: {error}. Save it as UTF-8 CSV.") from None


def _relative(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


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


def _images(root: Path, folder: Path, split: str, before: int, progress: Progress) -> list[Found]:
    """The image files below a class folder, masks attached to their images; ``before`` them were so many."""
    found = list[str]()
    for path in _files_below(str(folder)):
        progress("Finding images", before + len(found), 0)
        found.append(path)
    paths = sorted(found, key=lambda path: path.split(os.sep))
    within, start = folder.relative_to(root).as_posix(), len(str(folder)) + 1
    stems = {os.path.splitext(path)[0] for path in paths}
    masks: dict[str, list[Path]] = {}
    images = []
    for path in paths:
        stem = os.path.splitext(path)[0]
        home, _, name = stem.rpartition(os.sep)
        match = MASK.match(name)
        owner = f"{home}{os.sep}{match['stem']}" if match else None
        if owner in stems:
            masks.setdefault(owner, []).append(Path(path))
        else:
            images.append((stem, path))
    return [
        Found(
            f"{within}/{path[start:].replace(os.sep, '/')}", Path(path), split, folder.name, tuple(masks.get(stem, ()))
        )
        for stem, path in images
    ]


def _files_below(folder: str) -> Iterator[str]:
    """The image files in a folder and the folders in it; links to folders are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            elif not entry.name.startswith(".") and entry.is_file() and looks_like_image(Path(entry.path)):
                yield entry.path


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
