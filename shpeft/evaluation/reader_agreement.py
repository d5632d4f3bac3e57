"""Blinded reading: a reader's answers, the model's, and their agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import cohen_kappa_score

from shpeft import NOTICE
from shpeft.errors import DiagnosisError
from shpeft.evaluation import Proportion


@dataclass(frozen=True)
class Reading:
    """One case, read by a person who had not seen the model's answer.

    Attributes:
        case: opaque id.
        reader_confidence: the reader's own, from 0 to 100.
        model_probability: probability of the model's most probable class.

    Raises:
        DiagnosisError: a confidence out of range.
    """

    case: str
    reader_class: str
    reader_confidence: int
    model_class: str
    model_probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.reader_confidence <= 100:
            raise DiagnosisError(f"A reader's confidence must lie between 0 and 100; found {self.reader_confidence}.")

    @property
    def agreed(self) -> bool:
        """Whether reader and model name the same class."""
        return self.reader_class == self.model_class

    def to_dict(self) -> dict[str, Any]:
        """Return a table row, with the notice."""
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
    """Agreement between a reader and the model.

    Attributes:
        agreed: share of cases in which both name the same class.
        kappa: Cohen's kappa (1960), (p_o − p_e) / (1 − p_e), the agreement beyond chance; None if both named a single
            class throughout.
    """

    agreed: Proportion
    kappa: float | None


def agreement(readings: Sequence[Reading]) -> Agreement:
    """Return the agreement over all readings."""
    reader = [reading.reader_class for reading in readings]
    model = [reading.model_class for reading in readings]
    agreed = Proportion(sum(reading.agreed for reading in readings), len(readings))
    kappa = float(cohen_kappa_score(reader, model)) if len({*reader, *model}) > 1 else None
    return Agreement(agreed, kappa)
