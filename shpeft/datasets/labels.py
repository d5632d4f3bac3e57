"""The labels of a table: a class or a number a row, findings in a cell (``edema|mass``), or a column for each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from shpeft.config.schema import Blank, TaskName, Uncertain
from shpeft.datasets.base import Split
from shpeft.datasets.discover import natural
from shpeft.errors import DatasetError, EmptyDataset
from shpeft.tasks import MULTI_LABEL, ORDINAL, SINGLE_LABEL, Regression, Task
from shpeft.tasks.multi_label import DOUBT, NO_FINDING, SEPARATOR, is_no_finding
from shpeft.tasks.regression import split_unit

PRESENT, ABSENT, UNCERTAIN = {"1", "1.0"}, {"0", "0.0"}, {"-1", "-1.0"}
"""Cells of a column of one finding."""


@dataclass(frozen=True)
class LabelRules:
    """How labels are read; see the settings of the same names."""

    task: TaskName = "auto"
    uncertain: Uncertain = "ignore"
    blank: Blank = "zeros"


AUTOMATIC = LabelRules()
"""The rules of a run that names none."""


@dataclass(frozen=True)
class Labels:
    """The labels of a table's rows.

    Attributes:
        texts: one a row, as the task writes them.
        task: what they are.
        classes: the classes, in their order; those of single labels sorted.
        warnings: sentences on how cells were read.
    """

    texts: tuple[str, ...]
    task: Task
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def finding_columns(rows: pd.DataFrame, others: Sequence[str]) -> list[str]:
    """Return the columns that say of a finding whether it is there: 1, 0, -1 or blank; fewer than two are none."""
    cells = PRESENT | ABSENT | UNCERTAIN
    names = [
        str(name)
        for name in rows.columns
        if name not in others and (values := set(rows[name].dropna().str.strip()) - {""}) and values <= cells
    ]
    return names if len(names) > 1 else []


def read_labels(name: str, rows: pd.DataFrame, columns: Sequence[str], rules: LabelRules) -> Labels:
    """Return the labels of a table.

    Args:
        name: of the table's file, for messages.
        rows: its cells as text.
        columns: the column of labels, or those of findings.
        rules: how to read them.

    Raises:
        DatasetError: a row without a label, several findings in a row where an image has one class, or a cell that is
            no number where an image has one.
    """
    if len(columns) > 1:
        if rules.task not in ("auto", "multi-label"):
            raise DatasetError(
                f"{name} has {len(columns)} columns of findings, and the task is {rules.task}. Name the column of the "
                "label with columns: {label: NAME}, or set the task to multi-label."
            )
        return _of_columns(name, rows, columns, rules)
    cells = tuple(rows[columns[0]].fillna("").str.strip())
    if rules.task == "regression":
        return _numbers(name, cells, columns[0])
    several = next((cell for cell in cells if SEPARATOR in cell), None)
    if not all(cells):
        raise DatasetError(f"{name} has a row without a path or a label. Complete or remove it.")
    if rules.task == "multi-label" or (rules.task == "auto" and several is not None):
        texts = tuple(SEPARATOR.join(MULTI_LABEL.parts(cell)) or NO_FINDING for cell in cells)
        findings = {part for cell in cells for part in MULTI_LABEL.parts(cell)}
        return Labels(texts, MULTI_LABEL, tuple(sorted(findings, key=natural)))
    if several is not None:
        raise DatasetError(_several(name, several))
    task = ORDINAL if rules.task == "ordinal" else SINGLE_LABEL
    return Labels(cells, task, tuple(sorted(set(cells), key=natural)))


def _numbers(name: str, cells: Sequence[str], column: str) -> Labels:
    """Return the labels of a column of numbers."""
    quantity, unit = split_unit(column)
    task = Regression(unit=unit)
    for row, cell in enumerate(cells, start=1):
        try:
            usable = math.isfinite(float(cell))
        except ValueError:
            usable = False
        if not usable:
            what = f"{cell[:40]!r}" if cell else "no value"
            raise DatasetError(
                f"{name} has {what} in the column {column!r}, row {row:,}, and a regression needs a finite number in "
                "every row, such as 42.1. Correct the cell, or remove the row."
            )
    return Labels(tuple(task.text(float(cell), (quantity,)) for cell in cells), task, (quantity,))


def _of_columns(name: str, rows: pd.DataFrame, columns: Sequence[str], rules: LabelRules) -> Labels:
    """Return the labels of columns of findings; what a column ``No Finding`` says follows from the others."""
    table = {column: rows[column].fillna("").str.strip().tolist() for column in columns}
    healthy = [column for column in columns if is_no_finding(column)]
    findings = [column for column in columns if column not in healthy]
    texts, uncertain, blank = [], 0, 0
    for row in range(len(rows)):
        none = any(table[column][row] in PRESENT for column in healthy)
        parts = []
        for finding in findings:
            cell = table[finding][row]
            uncertain += cell in UNCERTAIN
            blank += not cell and not none
            if cell not in PRESENT | ABSENT | UNCERTAIN | {""}:
                raise DatasetError(
                    f"{name} has {cell!r} in the column of the finding {finding!r}. Write 1 (present), 0 (absent), -1 "
                    "(uncertain), or leave the cell blank."
                )
            if cell in PRESENT or (cell in UNCERTAIN and rules.uncertain == "ones"):
                parts.append(finding)
            elif (cell in UNCERTAIN and rules.uncertain == "ignore") or (
                not cell and not none and rules.blank == "ignore"
            ):
                parts.append(DOUBT + finding)
        texts.append(SEPARATOR.join(parts) or NO_FINDING)
    return Labels(tuple(texts), MULTI_LABEL, tuple(findings), _readings(name, uncertain, blank, rules))


def _readings(name: str, uncertain: int, blank: int, rules: LabelRules) -> tuple[str, ...]:
    """Return sentences on how many cells were read by a rule."""
    reading = {"ignore": "are left out of loss and metrics", "zeros": "count as absent", "ones": "count as present"}
    sentences = []
    if uncertain:
        sentences.append(f"{uncertain:,} uncertain findings (-1) of {name} {reading[rules.uncertain]}.")
    if blank:
        sentences.append(f"{blank:,} blank cells in the columns of findings of {name} {reading[rules.blank]}.")
    return tuple(sentences)


def joined(parts: Mapping[str, Labels]) -> tuple[Task, tuple[str, ...]]:
    """Return the task and the classes of several tables, such as one a split.

    Raises:
        DatasetError: their tasks differ.
    """
    tasks = {name: labels.task for name, labels in parts.items()}
    first = next(iter(tasks))
    for name, task in tasks.items():
        if task != tasks[first]:
            raise DatasetError(
                f"The labels of {first} are {tasks[first].name}, those of {name} {task.name}. Set the task of both."
            )
    quantities = {labels.classes for labels in parts.values()}
    if isinstance(tasks[first], Regression) and len(quantities) > 1:
        listed = ", ".join(sorted(name for names in quantities for name in names))
        raise DatasetError(
            f"The tables of the splits have different numbers: {listed}. Name one column for all of them."
        )
    classes = list(dict.fromkeys(c for labels in parts.values() for c in labels.classes))
    if all(labels.classes == tuple(sorted(labels.classes, key=natural)) for labels in parts.values()):
        classes = sorted(classes, key=natural)
    return tasks[first], tuple(classes)


def check_labels(name: str, splits: Sequence[Split]) -> None:
    """Check that there is something to learn, and to choose a threshold by, in the training and validation images.

    Raises:
        EmptyDataset: there is none in one of the splits.
    """
    for split in splits:
        if why := split.task.unlearnable(split.labels, split.classes):
            other = "choose another column" if isinstance(split.task, Regression) else "leave the finding out"
            raise EmptyDataset(f"In {split.name} of '{name}', {why}. Add images, {other}, or let the splits be drawn.")


def _several(name: str, label: str) -> str:
    findings = [part.strip() for part in label.split(SEPARATOR)]
    return (
        f"{name} has the label '{label}', which names {len(findings)} findings of one image, and the task gives an "
        "image one class. Set the task to multi-label, or keep the images with one finding."
    )
