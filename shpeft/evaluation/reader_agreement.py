"""Blinded reading: a reader's answers, the model's, and their agreement, of classes and of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from shpeft import NOTICE
from shpeft.errors import DiagnosisError
from shpeft.evaluation import Proportion
from shpeft.support.formatting import measured


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
        _check_confidence(self.reader_confidence)

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


@dataclass(frozen=True)
class NumberReading:
    """One number, given by a person who had not seen the model's.

    Attributes:
        case: opaque id.
        quantity: what the numbers are of.
        unit: of both numbers; empty if unknown.
        reader_confidence: the reader's own, from 0 to 100.

    Raises:
        DiagnosisError: a confidence out of range.
    """

    case: str
    quantity: str
    unit: str
    reader_value: float
    reader_confidence: int
    model_value: float

    def __post_init__(self) -> None:
        _check_confidence(self.reader_confidence)

    @property
    def difference(self) -> float:
        """The model's number minus the reader's."""
        return self.model_value - self.reader_value

    def to_dict(self) -> dict[str, Any]:
        """Return a table row, with the notice."""
        return {
            "case": self.case,
            "quantity": self.quantity,
            "unit": self.unit,
            "reader_value": self.reader_value,
            "reader_confidence": self.reader_confidence,
            "model_value": self.model_value,
            "difference": self.difference,
            "notice": NOTICE,
        }


@dataclass(frozen=True)
class NumberAgreement:
    """Agreement between a reader's numbers and the model's, after Bland and Altman (1986).

    Attributes:
        cases: number of readings.
        unit: of all numbers; empty if unknown.
        bias: the mean of model − reader.
        bias_low, bias_high: its 95 % t-interval.
        low, high: the limits of agreement, bias ± 1.96 standard deviations of the differences, between which 95 % of
            them lie if they are normal.
        mean_absolute: the mean absolute difference.
    """

    cases: int
    unit: str
    bias: float
    bias_low: float
    bias_high: float
    low: float
    high: float
    mean_absolute: float

    @property
    def text(self) -> str:
        """The numbers in a sentence, in as many digits as the limits allow.

        Examples:
            >>> NumberAgreement(12, "mm", -0.42, -1.0, 0.2, -3.1, 2.3, 1.13).text
            'The model minus you: bias -0.4 mm, limits of agreement -3.1 to 2.3 mm; mean absolute difference 1.1 mm.'
        """
        bias, low, high, off = (self.shown(value) for value in (self.bias, self.low, self.high, self.mean_absolute))
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"The model minus you: bias {bias}{unit}, limits of agreement {low} to {high}{unit}; mean absolute "
            f"difference {off}{unit}."
        )

    def shown(self, value: float) -> str:
        """Return one of the numbers as text."""
        return measured(value, (self.high - self.low) / 2)


def number_agreement(readings: Sequence[NumberReading]) -> NumberAgreement:
    """Return the agreement over all readings of numbers.

    Raises:
        DiagnosisError: fewer than two readings, which have no spread.

    Examples:
        >>> pairs = [(10.0, 11.0), (12.0, 12.0), (20.0, 18.0)]
        >>> readings = [NumberReading(str(i), "size", "mm", a, 50, b) for i, (a, b) in enumerate(pairs)]
        >>> agreed = number_agreement(readings)
        >>> round(agreed.bias, 2), round(agreed.low, 2), round(agreed.high, 2), agreed.mean_absolute
        (-0.33, -3.33, 2.66, 1.0)
    """
    n = len(readings)
    if n < 2:
        raise DiagnosisError(f"Limits of agreement need at least two readings; there {'is one' if n else 'are none'}.")
    off = np.array([reading.difference for reading in readings])
    bias, sd = float(off.mean()), float(off.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    limit = float(stats.norm.ppf(0.975)) * sd
    return NumberAgreement(
        n, readings[0].unit, bias, bias - half, bias + half, bias - limit, bias + limit, float(np.abs(off).mean())
    )


def _check_confidence(confidence: int) -> None:
    if not 0 <= confidence <= 100:
        raise DiagnosisError(f"A reader's confidence must lie between 0 and 100; found {confidence}.")
