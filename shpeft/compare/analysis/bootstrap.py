"""Bootstrap estimates and paired differences, as pure functions of arrays.

Differences are always paired: two arms are compared on the same resamples of the same test cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shpeft.errors import ClassMismatch
from shpeft.evaluation.metrics import ECE_BINS, resample_groups

Array = NDArray[np.float64]

ROUNDING = 1e-12
"""Replicates with a smaller range are equal: the rest is the rounding of sums in another order."""


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap replicates.

    Attributes:
        value: the number.
        replicates: (R,).
    """

    value: float
    replicates: Array

    def interval(self, coverage: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval."""
        tail = (1 - coverage) / 2
        low, high = np.quantile(self.replicates, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its bootstrap replicates.

    Attributes:
        larger_is_better: whether a positive difference is an improvement.
        parts: number of datasets that the difference is averaged over.
        flat: number of these on which all replicates are equal.
    """

    larger_is_better: bool = True
    parts: int = 1
    flat: int = 0

    @property
    def same(self) -> bool:
        """Whether no resample shows any difference, so that there is no interval."""
        return self.flat == self.parts and self.value == 0

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the 95 % interval excludes 0, ``tie`` where it does not, or ``same``."""
        if self.same:
            return "same"
        low, high = self.interval()
        if low <= 0 <= high:
            return "tie"
        return "better" if (low > 0) == self.larger_is_better else "worse"

    @property
    def p(self) -> float:
        """The two-sided p value: twice the share of replicates on the other side of 0."""
        r = self.replicates
        return float(min(1.0, 2 * (1 + min((r <= 0).sum(), (r >= 0).sum())) / (1 + len(r))))

    @property
    def p_better(self) -> float:
        """Twice the share of replicates without an improvement, at most 1; 1 where no resample varies."""
        if self.flat:
            return 1.0
        gains = self.replicates if self.larger_is_better else -self.replicates
        return float(min(1.0, 2 * (1 + (gains <= 0).sum()) / (1 + len(gains))))

    @property
    def smallest(self) -> float | None:
        """The minimal detectable difference at 5 % and a power of 80 %; None where the replicates do not vary.

        It is 1.96 + 0.84 standard errors.
        """
        error = float(np.std(self.replicates))
        return float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error if error > ROUNDING else None


def draw(groups: Sequence[tuple[str, ...]], resamples: int, seed: int) -> list[Array]:
    """Draw bootstrap weights for each seed's test cases: (1 + R, N), a row of ones and then the number of draws.

    Whole groups (patients) are drawn with replacement, with the same weight for all seeds that test them: seeds share
    the test cases, and three seeds are not three times the cases.

    Args:
        groups: for each seed, the groups of its cases.
        resamples: R.
        seed: of the random generator.
    """
    names = sorted(set().union(*groups))
    drawn = resample_groups(tuple(names), resamples, seed)
    return [np.vstack([np.ones((1, len(of))), drawn[:, np.searchsorted(names, of)]]) for of in groups]


def over_seeds(by_seed: Array, seed: int) -> Array:
    """Return the mean over seeds with replicates in which the seeds vary, too: (1 + R,), the value first.

    Each replicate of the test cases, averaged over seeds, gets the mean deviation of seeds drawn with replacement,
    scaled by √(S / (S − 1)) so that its variance is that of a mean of S. In simulations with three seeds of 180 cases,
    95 % intervals without seed variation cover 58 to 95 %, these 89 to 98 %. With a single seed the intervals are those
    of the test cases alone.

    Args:
        by_seed: (S, 1 + R), the values first.
        seed: of the random generator.
    """
    seeds = len(by_seed)
    mean: Array = by_seed.mean(0)
    if seeds > 1:
        resamples = by_seed.shape[1] - 1
        share = np.random.default_rng([seed, seeds]).multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
        mean[1:] += np.sqrt(seeds / (seeds - 1)) * (share @ (by_seed[:, 0] - mean[0]))
    return mean


def paired(a: Array, b: Array, seed: int, *, larger_is_better: bool = True) -> Difference:
    """Return mean(a) − mean(b) of a metric on one dataset, over seeds.

    Args:
        a, b: (S, 1 + R) of two arms for the same seeds and the same draws.
        seed: of the random generator.

    Raises:
        ClassMismatch: the seeds or draws differ.
    """
    if a.shape != b.shape or not len(a):
        raise ClassMismatch(f"A paired difference needs the same seeds on both sides; found {len(a)} and {len(b)}.")
    mean = over_seeds(a - b, seed)
    return Difference(float(mean[0]), mean[1:], larger_is_better, 1, int(np.ptp(mean[1:]) < ROUNDING))


def recentered(difference: Difference) -> Difference:
    """Shift the replicates of a biased metric by twice their bias.

    A sample overestimates the calibration error, most of all for a well calibrated model, and a resample overestimates
    it again, so differences shrink at both steps; the shift undoes the second one. In simulations of five datasets of
    250 cases, with one calibrated model and one overconfident by 3, 6 and 10 points, the plain interval covers the true
    difference 53, 5 and 0 times in 100, the shifted one 55, 34 and 31 times: better, and still too narrow.
    """
    bias = float(difference.replicates.mean()) - difference.value
    return replace(difference, replicates=difference.replicates - 2 * bias)


def calibration_by_chance(confidence: Array, draws: int = 200) -> float:
    """Return the calibration error that correct probabilities show on as many cases, averaged over drawn outcomes.

    Args:
        confidence: (N,) the top probability of each case.
        draws: number of drawn outcomes.
    """
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = (right - confidence) @ np.eye(ECE_BINS)[bins]
    return float(np.abs(gaps).sum(1).mean() / len(confidence))


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """Return the mean over datasets, whose test cases are drawn independently, with equally many replicates."""
    return Difference(
        float(np.mean([d.value for d in differences])),
        np.mean([d.replicates for d in differences], axis=0),
        differences[0].larger_is_better,
        sum(d.parts for d in differences),
        sum(d.flat for d in differences),
    )


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (n − 1), which is NaN for a single value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")
