"""Shares of cases with their binomial intervals."""

from dataclasses import dataclass
from math import nan
from typing import Any

from scipy.stats import binomtest


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``cases``, with its 95 % Wilson interval.

    The interval assumes independent cases; several images of one patient make it too narrow.
    """

    count: int
    cases: int

    @property
    def value(self) -> float:
        """The share; NaN without cases."""
        return self.count / self.cases if self.cases else nan

    @property
    def counts(self) -> str:
        """The share as ``56 of 57``."""
        return f"{self.count:,} of {self.cases:,}"

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval (Wilson 1927); it also holds for few cases and for shares near 0 and 1."""
        if not self.cases:
            return nan, nan
        interval = binomtest(self.count, self.cases).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)

    def to_dict(self) -> dict[str, Any]:
        """Return count, cases, value and interval, for JSON."""
        low, high = self.interval
        return {"count": self.count, "cases": self.cases, "value": self.value, "low": low, "high": high}

    def __str__(self) -> str:
        if not self.cases:
            return "no cases"
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}], {self.count} of {self.cases}"
