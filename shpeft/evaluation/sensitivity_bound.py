"""What few positive validation cases allow to promise about the sensitivity on new cases."""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from scipy.stats import binom


class Promise:
    """A share of new cases that counts of validation cases may show, with a confidence."""

    target: float
    confidence: float
    cases: int

    @property
    def cases_needed(self) -> int:
        """The fewest cases, none of them an exception, that allow the promise: target^n ≤ 1 − confidence."""
        return cases_needed(self.target, self.confidence)

    @property
    def holds(self) -> bool:
        """Whether there are enough cases for the promise."""
        return self.cases >= self.cases_needed


@dataclass(frozen=True)
class SensitivityBound(Promise):
    """What the number of positive validation cases allows to promise about the sensitivity on new cases.

    Misses among n positive cases are binomial, and rise with the threshold. So thresholds can be tested from the lowest
    up, each at the same level, until one fails (learn then test with a fixed sequence, Angelopoulos et al. 2021), with
    the exact binomial test (Clopper and Pearson 1934). Bounds for losses that are not binary, such as
    Hoeffding-Bentkus, need more cases for the same promise.

    Attributes:
        cases: positive validation cases.

    Examples:
        >>> SensitivityBound("ill", 0.95, 0.9, 60).sentence
        'With 90 % confidence, at least 95 % of ill are found among images like the validation images.'
        >>> SensitivityBound("ill", 0.95, 0.9, 19).holds
        False
    """

    positive: str
    target: float
    confidence: float
    cases: int

    @property
    def sentence(self) -> str:
        """The promise, or why none can be made."""
        share, confidence = f"{100 * self.target:g} %", f"{100 * self.confidence:g} %"
        if self.holds:
            return (
                f"With {confidence} confidence, at least {share} of {self.positive} are found among images like the "
                "validation images."
            )
        return (
            f"No promise for new images: {share} with {confidence} confidence needs {self.cases_needed} validation "
            f"images of {self.positive}, and there are {self.cases}. The threshold finds at least {share} of those."
        )


def cases_needed(target: float, confidence: float) -> int:
    """Return the fewest cases, none of them an exception, that show a share of at least ``target``: t^n ≤ 1 − c.

    Examples:
        >>> cases_needed(0.95, 0.9), cases_needed(0.9, 0.9)
        (45, 22)
    """
    return ceil(log(1 - confidence) / log(target) - 1e-9)


def allowed_misses(cases: int, target: float, confidence: float) -> int:
    """Return the most misses among positive cases that still show a sensitivity of at least ``target``; -1 if none do.

    The largest m with P(X ≤ m) ≤ 1 − confidence for X ~ Binomial(cases, 1 − target).

    Examples:
        >>> allowed_misses(45, 0.95, 0.9), allowed_misses(44, 0.95, 0.9), allowed_misses(200, 0.95, 0.9)
        (0, -1, 5)
    """
    misses = np.arange(cases + 1)
    return int((binom.cdf(misses, cases, 1 - target) <= 1 - confidence).sum()) - 1
