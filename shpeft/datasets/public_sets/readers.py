"""How the public sets write down which image shows what: class folders, tables, lists and JSON.

Each function makes a reader: from a set's home and its classes to the image files, the group of each file (by name)
that has one, and warnings.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shpeft.datasets.discover import ImageFile, Layout, discover
from shpeft.datasets.public_sets.recipe import Discovered
from shpeft.errors import DatasetError

Reader = Callable[[Path, tuple[str, ...]], Discovered]
Row = Mapping[str, str]


def class_folders(group: str = "") -> Reader:
    """``CLASS/*``, or ``SPLIT/CLASS/*``; masks beside images are left out.

    Args:
        group: a pattern whose group ``id`` is the patient in a file's name.
    """

    def read(home: Path, classes: tuple[str, ...]) -> Discovered:
        layout = discover(home)
        if unknown := [name for name in layout.classes if name not in classes]:
            raise DatasetError(
                f"'{home.name}' has a folder '{unknown[0]}' that is no class of this set; its folders are "
                f"{', '.join(classes)}. Move it elsewhere."
            )
        return _layout(list(layout.files), classes, _groups(layout.files, group), list(layout.warnings))

    return read


def one_hot(
    tables: Mapping[str, tuple[str, str]], labels: Mapping[str, str], groups: tuple[str, str, str] | None = None
) -> Reader:
    """Tables with a column ``image`` and a column of 0 and 1 for each class, as ISIC's challenges have.

    Args:
        tables: for each split its table and its folder of JPEG files; splits whose table is not there are left out.
        labels: the class of each column.
        groups: a table that says which images belong together, its image column and its group column.
    """

    def label(row: Row) -> str:
        marked = [name for column, name in labels.items() if float(row[column]) == 1]
        if len(marked) != 1:
            raise ValueError(f"{len(marked)} classes are marked for {row['image']}")
        return marked[0]

    def read(home: Path, classes: tuple[str, ...]) -> Discovered:
        files = []
        for split, (name, folder) in tables.items():
            if not (home / name).is_file():
                continue
            nested = f"{folder}/{folder}"  # an archive that was unpacked into a folder of its own name
            images = nested if (home / nested).is_dir() else folder
            files += [
                _listed(home, f"{images}/{row['image']}.jpg", split, kind)
                for row, kind in _labeled(home / name, ("image", *labels), label)
            ]
        known, warnings = {}, []
        if groups is not None:
            name, image, group = groups
            if (home / name).is_file():
                of = {row[image]: row[group] for row in _rows(home / name, (image, group)) if row[group]}
                known = {file.name: of[file.path.stem] for file in files if file.path.stem in of}
            else:
                warnings.append(f"{name} is not there: images of one lesion may stand on both sides of a split.")
        return _layout(files, classes, known, warnings)

    return read


def table(name: str, image: str, label: str, path: str, labels: Mapping[str, str]) -> Reader:
    """A table with a row for each image: ``path`` says where it is, with ``{}`` for what the column ``image`` holds."""

    def read(home: Path, classes: tuple[str, ...]) -> Discovered:
        rows = _labeled(home / name, (image, label), lambda row: labels[row[label].strip()])
        files = [_listed(home, path.format(row[image].strip()), "train", kind) for row, kind in rows]
        return _layout(files, classes, {}, [])

    return read


def lists(names: Mapping[str, str], kinds: Mapping[str, tuple[str, str]], group: str) -> Reader:
    """A text file for each split and class, with a file name on each line.

    Args:
        names: for each split the list's path, with ``{}`` for the class's word.
        kinds: for each class its word in the lists' paths, and its folder of images.
        group: a pattern whose group ``id`` is the group in a file's name.
    """

    def read(home: Path, classes: tuple[str, ...]) -> Discovered:
        files = []
        for split, path in names.items():
            for kind, (word, folder) in kinds.items():
                lines = _text(home / path.format(word)).splitlines()
                files += [_listed(home, f"{folder}/{line.strip()}", split, kind) for line in lines if line.strip()]
        return _layout(files, classes, _groups(files, group), [])

    return read


def json_lists(names: Mapping[str, str], labels: Mapping[int, str], group: str) -> Reader:
    """A JSON file for each split: ``[{"name": "train/x.JPG", "label": 1}, …]``.

    Args:
        names: for each split its file; labels: the class of each number.
        group: a pattern whose group ``id`` is the group in a file's name.
    """

    def read(home: Path, classes: tuple[str, ...]) -> Discovered:
        files = []
        for split, name in names.items():
            try:
                entries: list[dict[str, Any]] = json.loads(_text(home / name))
                files += [_listed(home, str(entry["name"]), split, labels[entry["label"]]) for entry in entries]
            except (ValueError, KeyError, TypeError) as error:
                raise _unreadable(home / name, error) from None
        return _layout(files, classes, _groups(files, group), [])

    return read


def _layout(
    files: list[ImageFile], classes: tuple[str, ...], groups: dict[str, str], warnings: list[str]
) -> Discovered:
    files = sorted(files, key=lambda file: (file.split, file.name))
    splits = tuple(split for split in ("train", "val", "test") if any(file.split == split for file in files))
    return Layout(tuple(files), classes, splits, ()), groups, warnings


def _listed(home: Path, name: str, split: str, label: str) -> ImageFile:
    return ImageFile(name, home / name, split, label)


def _groups(files: Sequence[ImageFile], pattern: str) -> dict[str, str]:
    """The group in each file's name, where the pattern finds one."""
    matches = {file.name: re.search(pattern, file.path.name) for file in files} if pattern else {}
    return {name: match["id"] for name, match in matches.items() if match}


def _labeled(path: Path, columns: Sequence[str], label: Callable[[Row], str]) -> list[tuple[Row, str]]:
    """The rows of a table with the class of each."""
    try:
        return [(row, label(row)) for row in _rows(path, columns)]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    rows: list[Row] = list(csv.DictReader(_text(path).splitlines()))
    absent = [column for column in columns if not rows or rows[0].get(column) is None]
    if absent:
        header = ", ".join(rows[0]) if rows else "no rows"
        raise DatasetError(f"{path.name} has no column '{absent[0]}' (found: {header}). Is it the set's own table?")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = str(getattr(error, "strerror", None) or error).rstrip(".")
    return DatasetError(
        f"{path.name} cannot be understood: {type(error).__name__}, {reason}. Unpack the download again."
    )
