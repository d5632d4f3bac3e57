"""A number for each case, such as an age or a diameter."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shpeft.tasks.base import Reduction, Task

WITH_UNIT = re.compile(r"(?P<name>.*\S)\s*[(\[](?P<unit>[^()\[\]]+)[)\]]")
"""A quantity with its unit in brackets: ``age (years)``, ``diameter [mm]``."""


@dataclass(frozen=True)
class Regression(Task):
    """One number for each case: the logit is the number, standardized by the training cases; half the squared error.

    There is one class, which is the name of the quantity. A label is a number in its unit.

    Attributes:
        mean, std: of the training cases, in the quantity's unit.
        unit: of the quantity; empty if unknown.

    Examples:
        >>> task = Regression(unit="years").fitted([40.0, 50.0, 60.0])
        >>> task.target([50.0]).tolist(), task.probabilities(torch.zeros(1, 1)).tolist()
        ([[0.0]], [[50.0]])
        >>> task.shown(42.0, ("age",))
        '42 years'
    """

    name = "regression"
    label_column = "value"
    fewest_classes = 1
    drawn_by = ""

    mean: float = 0.0
    std: float = 1.0
    unit: str = ""

    @property
    def column(self) -> str:
        """The title of the labels in ``predictions.csv``, with the unit."""
        return f"{self.label_column} [{self.unit}]" if self.unit else self.label_column

    @classmethod
    def of_column(cls, title: str) -> "Regression":
        """Return the task of such a title."""
        return cls(unit=split_unit(title)[1])

    def fitted(self, labels: Sequence[float]) -> "Regression":
        """Return the task with mean and standard deviation of the training cases."""
        values = np.asarray(labels, dtype=np.float64)
        spread = float(values.std())
        return replace(self, mean=float(values.mean()), std=spread if spread > 0 else 1.0)

    def target(self, labels: Sequence[float]) -> Tensor:
        """Return the standardized labels, float32 (B, 1)."""
        values = (np.asarray(labels, dtype=np.float64) - self.mean) / self.std
        return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1)

    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return half the squared error of the standardized number: ½ (z − t)²."""
        cases = 0.5 * (logits - target.to(logits.dtype)).square().sum(1)
        return cases.mean() if reduction == "mean" else cases.sum()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the predicted number in its unit, float64 (..., 1); it is no probability."""
        return self.mean + self.std * logits.double()

    def counts(self, labels: Sequence[float], classes: Sequence[str]) -> dict[str, int]:
        """Return the number of cases."""
        return {name: len(labels) for name in classes}

    def renumbered(self, labels: Sequence[float], before: Sequence[str], after: Sequence[str]) -> tuple[float, ...]:
        """Return the labels as they are: there is one quantity."""
        return tuple(labels)

    def strata(self, labels: Sequence[float], classes: Sequence[str]) -> list[tuple[int, ...]]:
        """Return one stratum for all cases."""
        return [(0,)] * len(labels)

    def parts(self, text: str) -> tuple[str, ...]:
        """Return no class: a number names none."""
        return ()

    def unlearnable(self, labels: Sequence[float], classes: Sequence[str]) -> str:
        """Return that all numbers are equal, in words; empty if they are not."""
        values = set(labels)
        return f"every image has the {classes[0]} {next(iter(values)):g}" if len(values) == 1 else ""

    def parse(self, text: str, classes: Sequence[str]) -> float:
        """Return a number that is written as text.

        Raises:
            ValueError: it is none, or not finite.
        """
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not a finite number")
        return value

    def text(self, label: float, classes: Sequence[str]) -> str:
        """Return a number as text with all its digits."""
        return repr(float(label))

    def shown(self, label: Any, classes: Sequence[str]) -> str:
        """Return a number with its unit, in at most six digits."""
        return f"{label:.6g} {self.unit}".strip()


REGRESSION = Regression()
"""The task of a number for each case, before it has seen training cases."""


def split_unit(title: str) -> tuple[str, str]:
    """Return the name and the unit of a column's title; the unit is empty if there is none.

    Examples:
        >>> split_unit("age (years)"), split_unit("diameter [mm]"), split_unit("age")
        (('age', 'years'), ('diameter', 'mm'), ('age', ''))
    """
    match = WITH_UNIT.fullmatch(title.strip())
    return (match["name"], match["unit"].strip()) if match else (title.strip(), "")
