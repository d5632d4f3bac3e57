"""Images listed in a table: a CSV, TSV, Parquet or JSON-lines file with a row for each image."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from shpeft.datasets.layout import SPLIT_WORDS, Found, Layout, difference
from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset, did_you_mean

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")

COLUMNS = {
    "path": ("path", "file", "file_name", "filename", "image", "image_path"),
    "label": ("label", "class", "diagnosis", "target"),
    "split": ("split", "fold", "subset"),
    "group": ("patient_id", "patient", "subject", "group"),
    "subgroup": ("subgroup", "site", "hospital", "scanner", "device"),
}
"""What each column may be called; the first that is there is taken."""

NEEDED = ("path", "label")

METADATA = "metadata"
"""The table that Hugging Face's ``imagefolder`` layout keeps beside the images, in the folder or in each split's."""


def tables_of(root: Path) -> dict[str, Path]:
    """The metadata tables of an ``imagefolder``, by split; under '' the one of the whole folder."""
    homes = {"": root} | {
        split: folder
        for split, words in SPLIT_WORDS.items()
        for folder in (*root.iterdir(), *((root / "data").iterdir() if (root / "data").is_dir() else ()))
        if folder.is_dir() and folder.name.lower() in words
    }
    found = {
        split: home / f"{METADATA}{suffix}"
        for split, home in homes.items()
        for suffix in SUFFIXES
        if _lists_files(home / f"{METADATA}{suffix}")
    }
    return {"": found[""]} if "" in found else found


def discover(tables: Mapping[str, Path], columns: Mapping[str, str]) -> tuple[Layout, dict[str, str]]:
    """The images that tables list, and the group of each (by name) where a column says so.

    Args:
        tables: a table for each split; under '' one that has a column for the split, or leaves it to be drawn.
        columns: what the columns are called, where not as in ``COLUMNS``: path, label, split, group, subgroup.

    Raises:
        DatasetError: the table cannot be read, or lacks a column.
        EmptyDataset, ClassMismatch: as of folders.
    """
    files: list[Found] = []
    groups: dict[str, str] = {}
    for split, path in tables.items():
        rows = _completed(path, _read(path))
        names = _columns(path, list(rows.columns), columns)
        rows = rows.fillna("")
        for row in rows.to_dict("records"):
            name, label = str(row[names["path"]]).strip().replace("\\", "/"), str(row[names["label"]]).strip()
            if not name or not label:
                raise DatasetError(f"{path.name} has a row without a path or a label. Complete or remove it.")
            where = path.parent / name
            name = f"{split}/{name}" if split else name
            home = split or _split(path, str(row[names["split"]]) if "split" in names else "")
            subgroup = str(row[names["subgroup"]]).strip() if "subgroup" in names else ""
            files.append(Found(name, where, home, label, subgroup=subgroup))
            if "group" in names and str(row[names["group"]]).strip():
                groups[name] = str(row[names["group"]]).strip()
    files.sort(key=lambda file: (file.split, file.name))
    splits = [split for split in SPLIT_WORDS if any(file.split == split for file in files)]
    classes = {split: sorted({file.label for file in files if file.split == split}) for split in splits or ["train"]}
    first = next(iter(tables.values()))
    if "train" not in classes:
        raise DatasetError(f"{first.name} has no rows of the split train; found {', '.join(splits)}.")
    _check(first.name, classes)
    return Layout(tuple(files), tuple(classes["train"]), tuple(classes), ()), groups


def _lists_files(path: Path) -> bool:
    """Whether this is a table of that layout: other data sets call tables of something else so, too."""
    return path.is_file() and "file_name" in _read(path).columns


def _completed(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """An ``imagefolder``'s table with what its folders say where no column does: the split, and the class."""
    if path.stem != METADATA or rows.empty:
        return rows
    homes = [PurePosixPath(str(name)).parts[:-1] for name in rows["file_name"]]
    words = {word: split for split, words in SPLIT_WORDS.items() for word in words}
    splits = [words.get(home[0].lower(), "") if home else "" for home in homes]
    labels = [home[-1] if len(home) > bool(split) else "" for home, split in zip(homes, splits, strict=True)]
    if any(splits) and not set(COLUMNS["split"]) & set(rows.columns):
        rows = rows.assign(split=splits)
    if all(labels) and len(set(labels)) > 1 and not set(COLUMNS["label"]) & set(rows.columns):
        rows = rows.assign(label=labels)
    return rows


def _check(name: str, classes: Mapping[str, Sequence[str]]) -> None:
    """There are rows, of two classes or more, of the same classes in every split."""
    train = classes["train"]
    if len(train) < 2:
        found = f"only the class '{train[0]}'" if train else "no rows"
        raise EmptyDataset(f"'{name}' has {found}; a diagnosis needs images of at least two classes.")
    for split, names in classes.items():
        if names != train:
            raise ClassMismatch(
                f"The classes of '{name}' differ: {difference(train, names, split)} Every split needs at least one"
                " image of every class."
            )


def _read(path: Path) -> pd.DataFrame:
    """Every cell as text: 007 stays 007."""
    try:
        if path.suffix == ".parquet":
            rows = pd.read_parquet(path)
            if "image" in rows and rows["image"].map(lambda cell: isinstance(cell, dict)).any():
                raise DatasetError(
                    f"The table {path.name} holds the images themselves, and not their paths. Save them as files, and "
                    "list those."
                )
            return rows.astype("string")
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False).astype("string")
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype="string", encoding="utf-8-sig")
    except (OSError, ValueError, UnicodeDecodeError, ImportError) as error:
        raise DatasetError(f"The table {path.name} cannot be read: {str(error).splitlines()[0]}.") from None


def _columns(path: Path, found: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Which column holds what."""
    unknown = sorted(set(named) - set(COLUMNS))
    if unknown:
        raise DatasetError(f"A table has no column for {unknown[0]!r}. {did_you_mean(unknown[0], COLUMNS)}")
    chosen = {}
    for role, usual in COLUMNS.items():
        wanted = [named[role]] if role in named else usual
        there = [name for name in wanted if name in found]
        if there:
            chosen[role] = there[0]
        elif role in named or role in NEEDED:
            raise DatasetError(
                f"{path.name} has no column {' or '.join(repr(name) for name in wanted)} for the {role}; it has "
                f"{', '.join(repr(name) for name in found)}. Say which column it is, with columns: {{{role}: NAME}}."
            )
    return chosen


def _split(path: Path, word: str) -> str:
    """``train``, ``val`` or ``test``; train where nothing is said."""
    for split, words in SPLIT_WORDS.items():
        if word.strip().lower() in words:
            return split
    if word.strip():
        known = ", ".join(word for words in SPLIT_WORDS.values() for word in words)
        raise DatasetError(f"{path.name} names a split {word.strip()!r}; known are {known}.")
    return "train"
