"""A person's answers beside the model's: the person's first, and how far the two agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import cohen_kappa_score

from shpeft import NOTICE
from shpeft.errors import DiagnosisError
from shpeft.trust import Proportion


@dataclass(frozen=True)
class Reading:
    """One case, read by a person who had not seen the model's answer.

    Attributes:
        case: opaque.
        reader_confidence: 0 to 100, as the reader put it.
        model_probability: of the class that the model finds most probable.
    """

    case: str
    reader_class: str
    reader_confidence: int
    model_class: str
    model_probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.reader_confidence <= 100:
            raise DiagnosisError(f"A reader's confidence lies between 0 and 100; found {self.reader_confidence}.")

    @property
    def agreed(self) -> bool:
        """Whether both name the same class."""
        return self.reader_class == self.model_class

    def to_dict(self) -> dict[str, Any]:
        """A row of a table, with the notice."""
        return {
            "case": self.case,
            "reader_class": self.reader_class,
            "reader_confidence": self.reader_confidence,
            "model_class": self.model_class,
            "model_probability": self.model_probability,
            "agreed": self.agreed,
            "notice": NOTICE,
        }


@dataclass(frozen=True)
class Agreement:
    """How far a reader and the model agree.

    Attributes:
        agreed: the cases in which both name the same class.
        kappa: Cohen's (1960), (p_o − p_e) / (1 − p_e): the agreement beyond that of two who answer by chance, each as
            often with each class as here; None where both have named one and the same class only.
    """

    agreed: Proportion
    kappa: float | None


def agreement(readings: Sequence[Reading]) -> Agreement:
    """Count the cases in which reader and model agree."""
    reader = [reading.reader_class for reading in readings]
    model = [reading.model_class for reading in readings]
    agreed = Proportion(sum(reading.agreed for reading in readings), len(readings))
    kappa = float(cohen_kappa_score(reader, model)) if len({*reader, *model}) > 1 else None
    return Agreement(agreed, kappa)
