"""Find the images of a folder, with their classes and splits."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset
from shpeft.images import SUFFIXES, looks_like_image
from shpeft.support.allowed_folders import UPLOADS
from shpeft.support.progress import Progress, silent
from shpeft.tasks import SINGLE_LABEL, Task

SPLIT_ALIASES = {  # those of Hugging Face's datasets
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
class ImageFile:
    """An image file.

    Attributes:
        name: its path relative to the dataset's folder.
        path: its path.
        split: train, val, test, or empty if it is to be drawn.
        label: its class, or what else the task writes for a label.
        masks: the files of its lesion masks.
        subgroup: its hospital, scanner or the like, from the table; empty if unknown.
        fold: its fold, from the table; empty if unknown.
    """

    name: str
    path: Path
    split: str
    label: str
    masks: tuple[Path, ...] = ()
    subgroup: str = ""
    fold: str = ""


@dataclass(frozen=True)
class Layout:
    """All image files, sorted by name, with the classes, the given splits, warnings, and what the labels are."""

    files: tuple[ImageFile, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    warnings: tuple[str, ...]
    task: Task = SINGLE_LABEL


def discover(root: Path, progress: Progress = silent, *, whole: bool = False) -> Layout:
    """Find the splits, classes and image files of ``root`` without opening any of them.

    A file ``X_mask.png`` beside an image ``X.*`` is that image's lesion mask, not an image.

    Args:
        root: the folder.
        progress: called with the number of images found so far.
        whole: the images are for testing alone: there need be no training images, and the splits may have any classes.

    Raises:
        EmptyDataset: no images, or fewer than two classes.
        ClassMismatch: the splits have different classes.
    """
    if not root.is_dir():
        raise DatasetError(f"'{root.name}' is a file, and a dataset is a folder. Unpack it first. {EXPECTED}")
    homes = _splits(root)
    if "test" in homes and "train" not in homes and not whole:
        raise DatasetError(f"'{root.name}' has a test folder but no train folder. {EXPECTED}")
    if "val" in homes and "train" not in homes and not whole:
        raise DatasetError(f"'{root.name}' has a validation folder but no train folder. {EXPECTED}")
    files: list[ImageFile] = []
    classes: dict[str, list[str]] = {}
    for split, home in (homes or {"train": root}).items():
        classes[split] = []
        for folder in sorted(_folders(home), key=lambda folder: natural(folder.name)):
            images = _images(root, folder, split, len(files), progress)
            files += images
            classes[split] += [folder.name] * bool(images)
    if whole:
        classes = {"train": sorted({file.label for file in files}, key=natural)}
        if not files:
            raise EmptyDataset(f"There are no images in '{root.name}'{_what_else(root)}. {EXPECTED}")
    else:
        _check(root, classes, homes)
    masked = sum(bool(file.masks) for file in files)
    warnings = (f"{masked} images have a lesion mask beside them, which is not used as an image.",) if masked else ()
    return Layout(tuple(files), tuple(classes["train"]), tuple(classes), warnings)


def read_groups(root: Path, warnings: list[str]) -> dict[str, str]:
    """Return the group of each file by relative name, from the columns file and group of ``manifest.csv``."""
    rows = _manifest(root)
    if rows and not {"file", "group"} <= set(rows[0]):
        warnings.append("manifest.csv has no columns 'file' and 'group'; every image is a group of its own.")
        return {}
    return {_relative(row["file"]): row["group"] for row in rows if row["file"] and row["group"]}


def read_subgroups(root: Path, columns: Sequence[str]) -> dict[str, str]:
    """Return the subgroup of each file by relative name, from the first of these columns in ``manifest.csv``."""
    rows = _manifest(root)
    column = next((name for name in columns if rows and name in rows[0]), None)
    if column is None or "file" not in rows[0]:
        return {}
    return {_relative(row["file"]): row[column].strip() for row in rows if row["file"] and row[column]}


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts numbers in names by their value.

    Examples:
        >>> sorted(["grade 10", "grade 2", "grade 1"], key=natural)
        ['grade 1', 'grade 2', 'grade 10']
    """
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def _manifest(root: Path) -> list[dict[str, str]]:
    """Return the rows of ``manifest.csv``; none if there is no such file."""
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
    """Return the folders of the splits."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    homes = {}
    for split, aliases in SPLIT_ALIASES.items():
        matching = [folders[word] for word in aliases if word in folders]
        if len(matching) > 1:
            names = " and ".join(folder.name for folder in matching)
            raise DatasetError(f"'{root.name}' has both {names}, which mean the same split. Rename or join them.")
        if matching:
            homes[split] = matching[0]
    return homes


def _folders(home: Path) -> list[Path]:
    return sorted(entry for entry in home.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _images(root: Path, folder: Path, split: str, before: int, progress: Progress) -> list[ImageFile]:
    """Return the images below a class folder with their masks; ``before`` is the number of images so far."""
    found_paths = list[str]()
    for path in _files_below(str(folder)):
        progress("Finding images", before + len(found_paths), 0)
        found_paths.append(path)
    paths = sorted(found_paths, key=lambda path: path.split(os.sep))
    within, prefix = folder.relative_to(root).as_posix(), len(str(folder)) + 1
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
        ImageFile(
            f"{within}/{path[prefix:].replace(os.sep, '/')}", Path(path), split, folder.name, tuple(masks.get(stem, ()))
        )
        for stem, path in images
    ]


def _files_below(folder: str) -> Iterator[str]:
    """Yield the image files below a folder, without what was dropped on the app's pages; no links to folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.name != UPLOADS:
                yield from _files_below(entry.path)
            elif not entry.name.startswith(".") and entry.is_file() and looks_like_image(Path(entry.path)):
                yield entry.path


def _check(root: Path, classes: dict[str, list[str]], homes: dict[str, Path]) -> None:
    """Check that there are images of at least two classes, the same in every split."""
    train = classes["train"]
    if not any(classes.values()):
        raise EmptyDataset(f"There are no images in '{root.name}'{_what_else(root)}. {EXPECTED}")
    if len(train) < 2:
        home = homes.get("train", root)
        nested = [folder.name for folder in _folders(home) if len(_folders(folder)) > 1]
        hint = f" Its folder '{nested[0]}' looks like a dataset itself: try that one." if nested else ""
        present = f"only the class '{train[0]}'" if train else "no class with images to train on"
        raise EmptyDataset(f"'{root.name}' has {present}; a diagnosis needs at least two classes.{hint} {EXPECTED}")
    for split, names in classes.items():
        if not names:
            raise EmptyDataset(
                f"The folder '{homes[split].name}' of '{root.name}' has no images in class folders. Fill it, or remove "
                f"it: without it, {split} is drawn from the training images."
            )
        if set(names) != set(train):
            raise ClassMismatch(
                f"The classes of '{root.name}' differ: train has {_list(train)}, {split} has {_list(names)}."
                f" {difference(train, names, split)} Every split needs at least one image of every class."
            )


def difference(train: Sequence[str], names: Sequence[str], split: str) -> str:
    """Return a sentence that says which classes one split has and the other lacks."""
    missing, extra = sorted(set(train) - set(names)), sorted(set(names) - set(train))
    parts = [f"{split} lacks {_list(missing)}"] * bool(missing) + [f"train lacks {_list(extra)}"] * bool(extra)
    return " and ".join(parts) + "."


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in list(names)[:12]) or "none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _what_else(root: Path) -> str:
    """Return a phrase with the most frequent kinds of files other than images."""
    paths = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    kinds = Counter(path.suffix.lower() or "no suffix" for path, _ in zip(paths, range(10_000), strict=False))
    loose = sum(1 for path in root.iterdir() if path.is_file() and looks_like_image(path))
    if loose:
        return f": {loose} image files lie outside class folders"
    return f" (found: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common(4))})" if kinds else ""
