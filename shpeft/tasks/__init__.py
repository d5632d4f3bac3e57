"""Diagnosis tasks: what labels are, what a model's logits mean, and what it learns by."""

from collections.abc import Mapping
from typing import Any

from shpeft.tasks.base import Task
from shpeft.tasks.multi_label import MULTI_LABEL, MultiLabel
from shpeft.tasks.ordinal import ORDINAL, Ordinal
from shpeft.tasks.regression import REGRESSION, Regression
from shpeft.tasks.single_label import SINGLE_LABEL, SingleLabel

__all__ = [
    "MULTI_LABEL",
    "ORDINAL",
    "REGRESSION",
    "SINGLE_LABEL",
    "TASKS",
    "MultiLabel",
    "Ordinal",
    "Regression",
    "SingleLabel",
    "Task",
    "read_column",
    "read_task",
]

TASKS: dict[str, type[Task]] = {task.name: task for task in (SingleLabel, MultiLabel, Ordinal, Regression)}
"""The tasks by the name that the setting ``task`` takes."""


def read_task(values: Mapping[str, Any] | None) -> Task:
    """Return the task that ``Task.to_dict`` describes; files of single labels have none.

    Raises:
        ValueError: another version's task, or damaged.

    Examples:
        >>> read_task({"name": "single-label"}) == read_task(None) == SINGLE_LABEL
        True
    """
    if values is None:
        return SINGLE_LABEL
    try:
        settings = dict(values)
        return TASKS[settings.pop("name")](**settings)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its task {values!r:.100} is unknown to this version") from None


def read_column(title: str) -> Task:
    """Return the task whose labels have this title in ``predictions.csv``.

    Raises:
        ValueError: there is none.

    Examples:
        >>> read_column("label") == SINGLE_LABEL, read_column("value [mm]").unit
        (True, 'mm')
    """
    for task in TASKS.values():
        if title.partition(" [")[0] == task.label_column:
            return task.of_column(title)
    raise ValueError(f"its labels have the title {title!r:.100}, which is of no task")
