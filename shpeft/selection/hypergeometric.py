"""Chance: how many weights random choices share."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Chance:
    """The hypergeometric law of the intersection of random choices of a and b among n weights.

    Neighbouring probabilities have a simple ratio, so that they are added up from one end of what counts to the other;
    SciPy's quantiles take seconds for the budgets of one chart.

    Attributes:
        first: the smallest intersection that is looked at.
        below: the probabilities of at most ``first``, ``first + 1``, …
        above: those of at least as many.
    """

    first: int
    below: NDArray[np.float64]
    above: NDArray[np.float64]

    @classmethod
    def of(cls, n: int, a: int, b: int, found: int = 0) -> "Chance":
        """The law over all that is not negligibly improbable (14 standard deviations), ``found`` included."""
        mean = a * (b / n)
        reach = math.ceil(14 * math.sqrt(mean)) + 40
        low = max(0, a + b - n, min(math.floor(mean), found) - reach)
        high = min(a, b, max(math.ceil(mean), found) + reach)
        x = np.arange(low, high, dtype=np.float64)
        logs = np.r_[0, np.cumsum(np.log((a - x) / (x + 1)) + np.log((b - x) / (n - a - b + x + 1)))]
        p = np.exp(logs - logs.max())
        p /= p.sum()
        return cls(low, np.cumsum(p), np.cumsum(p[::-1])[::-1])

    def quantile(self, q: float) -> int:
        """The smallest intersection that is not exceeded with probability q."""
        return self.first + int(np.searchsorted(self.below, q))

    @property
    def range(self) -> tuple[int, int]:
        """The 2.5 and 97.5 % quantiles."""
        return self.quantile(0.025), self.quantile(0.975)
