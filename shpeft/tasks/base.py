"""What a diagnosis task is: its labels, its loss, and what a model's logits mean."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Task(ABC):
    """A kind of diagnosis. A dataset, a backbone, predictions and a delta each have one.

    Attributes:
        name: as in the setting ``task``.
        label_column: the title of the labels in ``predictions.csv``, which says of which task they are.
        fewest_classes: the fewest outputs of a head.
        drawn_by: how a drawn split is balanced, in words.
    """

    name: ClassVar[str]
    label_column: ClassVar[str]
    fewest_classes: ClassVar[int] = 2
    drawn_by: ClassVar[str] = "stratified by class, "

    @property
    def column(self) -> str:
        """The title of the labels in ``predictions.csv``."""
        return self.label_column

    @classmethod
    def of_column(cls, title: str) -> Self:
        """Return the task whose ``column`` is this title."""
        return cls()

    def fitted(self, labels: Sequence[Any]) -> Self:
        """Return the task with what it takes from the labels of the training cases."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which :func:`shpeft.tasks.read_task` reads."""
        return {"name": self.name, **asdict(self)}

    @abstractmethod
    def target(self, labels: Sequence[Any]) -> Tensor:
        """Return the labels of B cases as the tensor that ``loss`` takes."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the loss of logits (B, C): the mean or the sum of those of the cases, so that it is linear in them."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return what the logits (..., C) mean: float64 (..., C), a probability for each class."""

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return (N,) the class that is decided on without a threshold, of (N, C): the most probable one."""
        decided: NDArray[np.int64] = probabilities.argmax(1)
        return decided

    def means_the_same(self, other: "Task") -> bool:
        """Return whether logits of this task mean the same as those of another."""
        return self == other

    @abstractmethod
    def counts(self, labels: Sequence[Any], classes: Sequence[str]) -> dict[str, int]:
        """Return the number of cases of each class."""

    @abstractmethod
    def renumbered(self, labels: Sequence[Any], before: Sequence[str], after: Sequence[str]) -> tuple[Any, ...]:
        """Return the labels for the same classes in another order."""

    @abstractmethod
    def strata(self, labels: Sequence[Any], classes: Sequence[str]) -> list[tuple[int, ...]]:
        """Return for each case the strata that it counts in when a split is drawn."""

    def parts(self, text: str) -> tuple[str, ...]:
        """Return the classes that a label's text names."""
        return (text,)

    def unlearnable(self, labels: Sequence[Any], classes: Sequence[str]) -> str:
        """Return why these labels cannot be learned from, in words; empty if they can."""
        return ""

    @abstractmethod
    def parse(self, text: str, classes: Sequence[str]) -> Any:
        """Return a label that is written as text.

        Raises:
            ValueError: it is none.
        """

    @abstractmethod
    def text(self, label: Any, classes: Sequence[str]) -> str:
        """Return a label as text, as ``parse`` reads it."""

    def shown(self, label: Any, classes: Sequence[str]) -> str:
        """Return a label as people read it."""
        return self.text(label, classes)
