"""A share of cases, with the interval that its count affords."""

from dataclasses import dataclass
from math import nan
from typing import Any

from scipy.stats import binomtest


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``cases``.

    The interval takes cases as independent; several images of one patient make it too narrow.
    """

    count: int
    cases: int

    @property
    def value(self) -> float:
        """The share; NaN of no cases."""
        return self.count / self.cases if self.cases else nan

    @property
    def interval(self) -> tuple[float, float]:
        """The score interval of 95 % (Wilson 1927), which holds for few cases and for shares near 0 and 1."""
        if not self.cases:
            return nan, nan
        found = binomtest(self.count, self.cases).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def to_dict(self) -> dict[str, Any]:
        """Count, cases, value and interval."""
        low, high = self.interval
        return {"count": self.count, "cases": self.cases, "value": self.value, "low": low, "high": high}

    def __str__(self) -> str:
        if not self.cases:
            return "no cases"
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}], {self.count} of {self.cases}"
