"""Images listed in a table: a CSV, TSV, Parquet or JSON-lines file with a row for each image."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from shpeft.datasets.discover import SPLIT_ALIASES, ImageFile, Layout, difference, natural
from shpeft.datasets.labels import AUTOMATIC, LabelRules, Labels, finding_columns, joined, read_labels
from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset, did_you_mean
from shpeft.support.allowed_folders import check_allowed
from shpeft.support.limits import TABLE_BYTES, TABLE_CELLS, TABLE_COLUMNS
from shpeft.tasks import Regression, SingleLabel, Task
from shpeft.tasks.multi_label import SEPARATOR
from shpeft.tasks.regression import split_unit

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")

WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")

COLUMNS = {
    "path": ("path", "file", "file_name", "filename", "image", "image_path", "Path", "Image Index"),
    "label": ("label", "class", "diagnosis", "target", "labels", "findings", "Finding Labels"),
    "split": ("split", "fold", "subset"),
    "group": ("patient_id", "patient", "subject", "group", "Patient ID"),
    "subgroup": ("subgroup", "site", "hospital", "scanner", "device"),
    "fold": ("fold",),
}
"""Names of the column for each role; the first that exists is used."""

NUMBERS = ("value", "target", "age", "label")
"""Names of the column of labels of a regression; its unit may follow in brackets, as in ``diameter [mm]``."""

NEEDED = ("path", "label")

MOST_NAMES = 30
"""Columns that an error lists."""

METADATA = "metadata"
"""Name of the table of Hugging Face's ``imagefolder`` layout, in the dataset's folder or in that of each split."""


def tables_of(root: Path) -> dict[str, Path]:
    """Return the metadata tables of an ``imagefolder`` by split, or that of the whole folder under ''."""
    homes = {"": root} | {
        split: folder
        for split, aliases in SPLIT_ALIASES.items()
        for folder in (*root.iterdir(), *((root / "data").iterdir() if (root / "data").is_dir() else ()))
        if folder.is_dir() and folder.name.lower() in aliases
    }
    tables = {
        split: home / f"{METADATA}{suffix}"
        for split, home in homes.items()
        for suffix in SUFFIXES
        if _lists_files(home / f"{METADATA}{suffix}")
    }
    return {"": tables[""]} if "" in tables else tables


def discover(
    tables: Mapping[str, Path],
    columns: Mapping[str, str],
    rules: LabelRules = AUTOMATIC,
    *,
    whole: bool = False,
) -> tuple[Layout, dict[str, str]]:
    """Return the images listed in tables, and their groups by name.

    Args:
        tables: a table for each split; under '' one with a column for the split, or without given splits.
        columns: names of the columns for path, label, split, group, subgroup and fold that differ from ``COLUMNS``;
            several columns of findings are named with ``|`` between them.
        rules: how labels are read.
        whole: the images are for testing alone: there need be no training rows, and the splits may have any classes.

    Raises:
        DatasetError: the table cannot be read, or lacks a column.
        EmptyDataset, ClassMismatch: see :func:`shpeft.datasets.discover.discover`.
    """
    files: list[ImageFile] = []
    groups: dict[str, str] = {}
    labeled: dict[str, Labels] = {}
    for split, path in tables.items():
        rows = _completed(path, _read(path))
        if rules.task == Regression.name:
            columns, rows = _number_column(rows, columns)
        findings = _finding_columns(rows, columns)
        names = _columns(path, list(rows.columns), columns, bool(findings))
        labels = read_labels(path.name, rows, findings or [names["label"]], rules)
        labeled[path.relative_to(path.parent.parent).as_posix()] = labels
        rows = rows.fillna("")
        names = _split_or_fold(names, columns, rows)
        for row, label in zip(rows.to_dict("records"), labels.texts, strict=True):
            name = str(row[names["path"]]).strip().replace("\\", "/")
            if not name:
                raise DatasetError(f"{path.name} has a row without a path or a label. Complete or remove it.")
            if "\0" in name:
                raise DatasetError(
                    f"{path.name} names the file {name[:80]!r}, which no file can be called. Correct it."
                )
            where = _file(path.parent, name)
            check_allowed(where, DatasetError, named_in=path)
            name = f"{split}/{name}" if split else name
            home = split or _split(path, str(row[names["split"]]) if "split" in names else "")
            subgroup = str(row[names["subgroup"]]).strip() if "subgroup" in names else ""
            fold = str(row[names["fold"]]).strip() if "fold" in names else ""
            files.append(ImageFile(name, where, home, label, subgroup=subgroup, fold=fold))
            group = str(row[names["group"]]).strip() if "group" in names else _patient(name)
            if group:
                groups[name] = group
    files.sort(key=lambda file: (file.split, file.name))
    splits = [split for split in SPLIT_ALIASES if any(file.split == split for file in files)]
    task, named = joined(labeled)
    given = {split: {file.label for file in files if file.split == split} for split in splits or ["train"]}
    classes = {
        split: sorted(c, key=natural) if isinstance(task, SingleLabel) else list(named) for split, c in given.items()
    }
    warnings = tuple(warning for labels in labeled.values() for warning in labels.warnings)
    first = next(iter(tables.values()))
    if whole:
        if not files:
            raise EmptyDataset(f"'{first.name}' has no rows.")
        return Layout(tuple(files), named, ("test",), warnings, task), groups
    if "train" not in classes:
        raise DatasetError(f"{first.name} has no rows of the split train; found {', '.join(splits)}.")
    _check(first.name, classes, task)
    return Layout(tuple(files), tuple(classes["train"]), tuple(classes), warnings, task), groups


def _finding_columns(rows: pd.DataFrame, named: Mapping[str, str]) -> list[str]:
    """Return the columns of findings: those named, or those of 0 and 1 in a table without a column for the label."""
    if "label" in named:
        listed = [name.strip() for name in named["label"].split(SEPARATOR)]
        return listed if len(listed) > 1 and set(listed) <= set(rows.columns) else []
    if set(COLUMNS["label"]) & set(rows.columns):
        return []
    roles = [name for role, usual in COLUMNS.items() if role != "label" for name in (named.get(role), *usual) if name]
    return finding_columns(rows, roles)


def _number_column(rows: pd.DataFrame, named: Mapping[str, str]) -> tuple[dict[str, str], pd.DataFrame]:
    """Return the columns with that of a regression's numbers, and the rows; its title may lack the unit that is named.

    ``label=age [years]`` names the unit of a column ``age``, and ``label=age`` means a column ``age [years]``, too.
    """
    titles = {split_unit(str(title))[0]: str(title) for title in reversed(list(rows.columns))}
    candidates = [named["label"]] if "label" in named else NUMBERS
    for candidate in candidates:
        if candidate in rows.columns:
            return {**named, "label": candidate}, rows
        quantity, unit = split_unit(candidate)
        if (title := titles.get(quantity)) is not None:
            if unit and split_unit(title)[1] != unit:
                rows, title = rows.rename(columns={title: candidate}), candidate
            return {**named, "label": title}, rows
    return {"label": " or ".join(map(repr, NUMBERS)), **named}, rows


def _file(home: Path, name: str) -> Path:
    """Return the file of a row: below the table's folder, or where CheXpert and ChestX-ray14 have it.

    CheXpert's paths begin with the name of the folder that holds the table; ChestX-ray14 names the files alone, which
    are in ``images/`` or in ``images_001/images/`` and so on.
    """
    path = home / name
    if path.exists():
        return path
    _, slash, rest = name.partition("/")
    if slash:
        return home / rest if (home / rest).exists() else path
    return next((file for folder in _image_folders(home) if (file := folder / name).exists()), path)


@cache
def _image_folders(home: Path) -> tuple[Path, ...]:
    return (home / "images", *sorted(home.glob("images_*/images")))


def _patient(name: str) -> str:
    """Return the patient that CheXpert's paths name, such as ``patient00001``; empty in any other path."""
    return next((part for part in PurePosixPath(name).parts if re.fullmatch(r"patient\d+", part)), "")


def _lists_files(path: Path) -> bool:
    """Return whether a table lists files: other datasets use the same name for other tables."""
    return path.is_file() and "file_name" in _read(path).columns


def _completed(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Return an ``imagefolder``'s table with split and class from its folders, if it has no column for them."""
    if path.stem != METADATA or rows.empty:
        return rows
    homes = [PurePosixPath(str(name)).parts[:-1] for name in rows["file_name"]]
    split_of = {alias: split for split, aliases in SPLIT_ALIASES.items() for alias in aliases}
    splits = [split_of.get(home[0].lower(), "") if home else "" for home in homes]
    labels = [home[-1] if len(home) > bool(split) else "" for home, split in zip(homes, splits, strict=True)]
    if any(splits) and not set(COLUMNS["split"]) & set(rows.columns):
        rows = rows.assign(split=splits)
    if all(labels) and len(set(labels)) > 1 and not set(COLUMNS["label"]) & set(rows.columns):
        rows = rows.assign(label=labels)
    return rows


def _check(name: str, classes: Mapping[str, Sequence[str]], task: Task) -> None:
    """Check that there are rows of enough classes, the same in every split."""
    train = classes["train"]
    if len(train) < task.fewest_classes:
        present = f"only the class '{train[0]}'" if train else "no rows"
        raise EmptyDataset(f"'{name}' has {present}; a diagnosis needs images of at least two classes.")
    for split, names in classes.items():
        if names != train:
            raise ClassMismatch(
                f"The classes of '{name}' differ: {difference(train, names, split)} Every split needs at least one"
                " image of every class."
            )


def _read(path: Path) -> pd.DataFrame:
    """Read a table with every cell as text, so that 007 stays 007."""
    try:
        if path.suffix.lower() == ".parquet":
            _check_parquet(path)
            rows = pd.read_parquet(path)
            if "image" in rows and rows["image"].map(lambda cell: isinstance(cell, dict)).any():
                raise DatasetError(
                    f"The table {path.name} holds the images themselves, and not their paths. Save them as files, and "
                    "list those."
                )
            return rows.astype("string")
        _check_text(path)
        if path.suffix.lower() == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False).astype("string")
        encoding = _encoding(path)
        return pd.read_csv(path, sep=_separator(path, encoding), dtype="string", encoding=encoding)
    except UnicodeDecodeError:
        raise DatasetError(
            f"The table {path.name} is not text in UTF-8. In Excel, save it as 'CSV UTF-8 (comma delimited)'; "
            "elsewhere, convert it to UTF-8."
        ) from None
    except (OSError, ValueError, ImportError) as error:
        raise DatasetError(f"The table {path.name} cannot be read: {str(error).splitlines()[0]}.") from None


def _check_text(path: Path) -> None:
    """Check the size of a text table and of its header.

    Raises:
        DatasetError: they are too large for a table of images.
    """
    with path.open("rb") as file:
        header = file.readline(TABLE_BYTES // 1024)
    columns, size = 1 + max(map(header.count, (b",", b";", b"\t"))), path.stat().st_size
    if columns > TABLE_COLUMNS or size > TABLE_BYTES:
        raise DatasetError(
            f"The table {path.name} has {size / 2**20:,.0f} MiB and about {columns:,} columns, which is more than a "
            f"table of images needs (at most {TABLE_BYTES // 2**20:,} MiB and {TABLE_COLUMNS:,} columns). Save the "
            "columns of paths and labels alone."
        )


def _check_parquet(path: Path) -> None:
    """Check what a Parquet file takes in memory: it stores a repeated value once.

    Raises:
        DatasetError: it has too many cells, or texts that are too long for a table of images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    cells = file.metadata.num_rows * file.metadata.num_columns
    texts = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_dictionary(f.type)]
    longest = 0
    if cells <= TABLE_CELLS:
        for column in pq.read_table(path, columns=texts, read_dictionary=texts).columns:
            lengths = (pa.compute.max(pa.compute.binary_length(chunk.dictionary)).as_py() for chunk in column.chunks)
            longest = max([longest, *(length or 0 for length in lengths)])
    if cells > TABLE_CELLS or cells * longest > TABLE_BYTES:
        raise DatasetError(
            f"The table {path.name} has {cells:,} cells with texts of up to {longest:,} bytes, which is more than a "
            f"table of images needs (at most {TABLE_CELLS:,} cells and {TABLE_BYTES // 2**20:,} MiB). Save the columns "
            "of paths and labels alone."
        )


def _encoding(path: Path) -> str:
    """Return UTF-16 for a file that begins with its mark, as Excel writes Unicode text, and UTF-8 for all others."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _separator(path: Path, encoding: str) -> str:
    """Return what separates the cells of the header: a comma, or in many countries a semicolon, or a tab."""
    with path.open(encoding=encoding, newline="") as file:
        header = file.readline()
    return max(",;\t", key=header.count)  # of none, the comma


def _columns(path: Path, header: Sequence[str], named: Mapping[str, str], unlabeled: bool) -> dict[str, str]:
    """Return the name of the column for each role; an unlabeled table has columns of findings instead."""
    unknown = sorted(set(named) - set(COLUMNS))
    if unknown:
        raise DatasetError(f"A table has no column for {unknown[0]!r}. {did_you_mean(unknown[0], COLUMNS)}")
    chosen = {}
    for role, usual in COLUMNS.items():
        candidates = [named[role]] if role in named else usual
        present = [name for name in candidates if name in header]
        if role == "label" and unlabeled:
            continue
        if present:
            chosen[role] = present[0]
        elif role in named or role in NEEDED:
            usable = ", ".join(map(repr, header[:MOST_NAMES])) + (" and more" if len(header) > MOST_NAMES else "")
            raise DatasetError(
                f"{path.name} has no column {' or '.join(repr(name) for name in candidates)} for the {role}; it has "
                f"{usable}. Say which column it is, with columns: {{{role}: NAME}}."
            )
    return chosen


def _split_or_fold(names: dict[str, str], named: Mapping[str, str], rows: pd.DataFrame) -> dict[str, str]:
    """Return the columns, where a column ``fold`` is that of the split if it has words such as train and test."""
    column = names.get("fold")
    if column is None or names.get("split") != column:
        return names
    known = {alias for aliases in SPLIT_ALIASES.values() for alias in aliases}
    is_split = "fold" not in named and ("split" in named or bool({v.strip().lower() for v in rows[column]} & known))
    return {role: name for role, name in names.items() if role != ("fold" if is_split else "split")}


def _split(path: Path, word: str) -> str:
    """Return ``train``, ``val`` or ``test`` for a cell; train if it is empty."""
    for split, aliases in SPLIT_ALIASES.items():
        if word.strip().lower() in aliases:
            return split
    if word.strip():
        known = ", ".join(word for aliases in SPLIT_ALIASES.values() for word in aliases)
        raise DatasetError(f"{path.name} names a split {word.strip()!r}; known are {known}.")
    return "train"
