"""Significance across datasets: rank tests, corrections, the chance of a false claim, and equivalence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shpeft.compare.analysis.bootstrap import Array, Difference
from shpeft.evaluation.predict import Predictions


def wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p of the signed-rank test that paired differences are symmetric about 0; 1 if all are 0.

    With n datasets it cannot fall below 2 / 2ⁿ: 0.0625 for five datasets.
    """
    array = np.asarray(differences, dtype=np.float64)
    return float(stats.wilcoxon(array).pvalue) if np.any(array != 0) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's (1979) step-down method: the i-th smallest of m times m − i + 1, made monotonic."""
    order = np.argsort(p_values, kind="stable")
    adjusted, m, highest = np.empty(len(order)), len(order), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted.tolist()


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of arms over datasets, 1 the best; ``p`` is of Friedman's test, None for fewer than three arms."""

    mean: tuple[float, ...]
    p: float | None


def ranks(scores: Array) -> Ranks:
    """Rank the arms on each dataset, ties by their mean rank, and average over datasets.

    Args:
        scores: (datasets, arms), larger is better.
    """
    by_dataset = stats.rankdata(-np.asarray(scores), axis=1)
    p = None
    if scores.shape[1] > 2 and scores.shape[0] > 1:
        p = float(stats.friedmanchisquare(*np.asarray(scores).T).pvalue)
        p = 1.0 if np.isnan(p) else p  # all arms are equal
    return Ranks(tuple(by_dataset.mean(0).tolist()), p)


def critical_difference(arms: int, datasets: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference of two mean ranks, q·√(k (k + 1) / 6 N) (Demšar 2006)."""
    q = float(stats.studentized_range.ppf(1 - level, arms, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(arms * (arms + 1) / (6 * datasets)))


def false_claim(only_a: float, only_b: float) -> float:
    """Return the posterior probability that A is not better than B, given the cases that only one gets right.

    Christodoulou et al. 2025 (arXiv 2505.04720): with a Dirichlet(x_A + 1, x_B + 1, n − x_A − x_B + 2) posterior of the
    shares of cases that only A, only B, and both or neither get right, it is P(p_A ≤ p_B). The share of A among the
    discordant cases is then Beta(x_A + 1, x_B + 1), whatever n is.

    Args:
        only_a, only_b: x_A and x_B; means over seeds need not be whole.
    """
    return float(stats.beta.cdf(0.5, only_a + 1, only_b + 1))


def discordant(a: Sequence[Sequence[Predictions]], b: Sequence[Sequence[Predictions]]) -> tuple[float, float]:
    """Count the cases that only a and only b get right, averaged over seeds and over pairs of masks."""
    counts = [
        (float((right & ~wrong).sum()), float((wrong & ~right).sum()))
        for ours, theirs in zip(a, b, strict=True)
        for x in ours
        for y in theirs
        for right, wrong in [(_right(x), _right(y))]
    ]
    only_a, only_b = np.mean(counts, axis=0)
    return float(only_a), float(only_b)


def _right(predictions: Predictions) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = predictions.decided == np.asarray(predictions.labels)
    return right


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests against a margin: p of "worse by the margin" and of "better by the margin"."""

    p_worse: float
    p_better: float

    @property
    def not_worse(self) -> bool:
        """Whether non-inferiority holds at 5 %."""
        return self.p_worse < 0.05

    @property
    def equivalent(self) -> bool:
        """Whether equivalence within the margin holds at 5 %."""
        return max(self.p_worse, self.p_better) < 0.05


def tost(difference: Difference, margin: float) -> Equivalence | None:
    """Test equivalence with bootstrap replicates: each p is the share of replicates beyond the margin.

    Both are below 5 % where the 90 % percentile interval lies within ± margin. Returns None where the resamples of a
    dataset do not vary: a bootstrap without spread would make anything equivalent.
    """
    if difference.flat:
        return None
    r = difference.replicates if difference.larger_is_better else -difference.replicates
    return Equivalence(
        float((1 + (r <= -margin).sum()) / (1 + len(r))), float((1 + (r >= margin).sum()) / (1 + len(r)))
    )
