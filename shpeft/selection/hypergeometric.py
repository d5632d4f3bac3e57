"""The hypergeometric distribution: how many weights two random selections share."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Hypergeometric:
    """The distribution of the intersection of random selections of a and b among n weights.

    Neighboring probabilities have a simple ratio, so that tail probabilities are sums from either end. SciPy's
    quantiles take seconds for the budgets of one chart.

    Attributes:
        first: the smallest intersection that is tabulated.
        below: the probabilities of at most ``first``, ``first + 1``, …
        above: the probabilities of at least ``first``, ``first + 1``, …
    """

    first: int
    below: NDArray[np.float64]
    above: NDArray[np.float64]

    def __repr__(self) -> str:
        low, high = self.range
        return f"Hypergeometric(95 % from {low:,} to {high:,})"

    @classmethod
    def of(cls, n: int, a: int, b: int, observed: int = 0) -> "Hypergeometric":
        """Tabulate the distribution within 14 standard deviations of its mean and of ``observed``."""
        mean = a * (b / n)
        reach = math.ceil(14 * math.sqrt(mean)) + 40
        low = max(0, a + b - n, min(math.floor(mean), observed) - reach)
        high = min(a, b, max(math.ceil(mean), observed) + reach)
        x = np.arange(low, high, dtype=np.float64)
        logs = np.r_[0, np.cumsum(np.log((a - x) / (x + 1)) + np.log((b - x) / (n - a - b + x + 1)))]
        p = np.exp(logs - logs.max())
        p /= p.sum()
        return cls(low, np.cumsum(p), np.cumsum(p[::-1])[::-1])

    def quantile(self, q: float) -> int:
        """Return the smallest intersection that is not exceeded with probability q."""
        return self.first + int(np.searchsorted(self.below, q))

    @property
    def range(self) -> tuple[int, int]:
        """The 2.5 and 97.5 % quantiles."""
        return self.quantile(0.025), self.quantile(0.975)
