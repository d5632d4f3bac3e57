"""How sure a comparison is: pure functions of arrays, with scipy for what it has.

Differences are always paired: two arms are compared on the same resamples of the same test cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shpeft.errors import ClassMismatch
from shpeft.evaluation import Predictions, resample_groups, weighted_metrics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A paired difference with its bootstrap replicates.

    Attributes:
        value: the difference itself.
        replicates: (R,) of it.
    """

    value: float
    replicates: Array

    def interval(self, coverage: float = 0.95) -> tuple[float, float]:
        """The percentile interval."""
        tail = (1 - coverage) / 2
        low, high = np.quantile(self.replicates, [tail, 1 - tail])
        return float(low), float(high)

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``tie``: whether the 95 % interval excludes 0."""
        low, high = self.interval()
        return "better" if low > 0 else "worse" if high < 0 else "tie"


def bootstrap_difference(
    a: Sequence[Sequence[Predictions]],
    b: Sequence[Sequence[Predictions]],
    metric: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """mean(a) − mean(b) of a metric on one dataset, over seeds; replicates resample test groups and seeds.

    Whole groups (patients) are drawn with replacement, the same ones for both arms and for all seeds that share the
    test cases; seeds are drawn with replacement, in pairs.

    Args:
        a: for each seed the predictions of an arm, several where it has several random masks.
        b: the same of the other arm, for the same seeds.

    Raises:
        ClassMismatch: other seeds, or a seed with other test cases.
    """
    if len(a) != len(b) or not a:
        raise ClassMismatch(f"A paired difference needs the same seeds on both sides; found {len(a)} and {len(b)}.")
    drawn: dict[tuple[object, ...], Array] = {}
    rows = []
    for ours, theirs in zip(a, b, strict=True):
        cases = _cases(ours[0])
        if any(_cases(other) != cases for other in (*ours, *theirs)):
            raise ClassMismatch("A paired difference needs predictions of the same cases; these are of different ones.")
        if cases not in drawn:
            picks = resample_groups(ours[0].groups, resamples, [seed, len(drawn)])
            drawn[cases] = np.vstack([np.ones((1, len(ours[0].labels))), picks])
        rows.append(_mean_metric(ours, metric, drawn[cases]) - _mean_metric(theirs, metric, drawn[cases]))
    by_seed = np.array(rows)  # (S, 1 + R)
    share = np.random.default_rng([seed, len(drawn)]).multinomial(
        len(a), np.full(len(a), 1 / len(a)), size=resamples
    ) / len(a)
    return Difference(float(by_seed[:, 0].mean()), (by_seed[:, 1:].T * share).sum(1))


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """The mean over datasets, whose test cases are drawn independently; they must have equally many replicates."""
    return Difference(
        float(np.mean([d.value for d in differences])), np.mean([d.replicates for d in differences], axis=0)
    )


def _cases(predictions: Predictions) -> tuple[object, ...]:
    return predictions.labels, predictions.groups, predictions.classes


def _mean_metric(of: Sequence[Predictions], metric: str, weights: Array) -> Array:
    return np.mean([weighted_metrics(predictions, weights)[metric] for predictions in of], axis=0)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation (n − 1); NaN for a single value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test that paired differences are symmetric about 0; 1 where all are 0.

    With n datasets it cannot fall below 2 / 2ⁿ: five datasets cannot show more than 0.0625.
    """
    array = np.asarray(differences, dtype=np.float64)
    return float(stats.wilcoxon(array).pvalue) if np.any(array != 0) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: the i-th smallest of m times m − i + 1, none below the one before."""
    order = np.argsort(p_values, kind="stable")
    adjusted, m, highest = np.empty(len(order)), len(order), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (m - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted.tolist()


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of arms over datasets, 1 the best; ``p`` is Friedman's; None for fewer than three arms."""

    mean: tuple[float, ...]
    p: float | None


def ranks(scores: Array) -> Ranks:
    """Ranks of arms on each dataset, ties sharing theirs, and their mean.

    Args:
        scores: (datasets, arms), larger is better.
    """
    by_dataset = stats.rankdata(-np.asarray(scores), axis=1)
    p = None
    if scores.shape[1] > 2 and scores.shape[0] > 1:
        found = float(stats.friedmanchisquare(*np.asarray(scores).T).pvalue)
        p = 1.0 if np.isnan(found) else found  # all arms equal
    return Ranks(tuple(by_dataset.mean(0).tolist()), p)


def false_claim(only_a: float, only_b: float) -> float:
    """The posterior probability that A is not better than B, given how many test cases only one of them got right.

    Christodoulou et al. 2025 (arXiv 2505.04720): with a Dirichlet(x_A + 1, x_B + 1, n − x_A − x_B + 2) posterior of the
    shares of cases that only A, only B, both or neither got right, P(p_A ≤ p_B). The share of A among the discordant
    cases is then Beta(x_A + 1, x_B + 1), whatever n is.

    Args:
        only_a, only_b: x_A and x_B; means over seeds need not be whole.
    """
    return float(stats.beta.cdf(0.5, only_a + 1, only_b + 1))


def discordant(a: Sequence[Sequence[Predictions]], b: Sequence[Sequence[Predictions]]) -> tuple[float, float]:
    """How many cases only a and only b got right, as a mean over seeds (and over pairs of masks)."""
    found = [
        (float((right & ~wrong).sum()), float((wrong & ~right).sum()))
        for ours, theirs in zip(a, b, strict=True)
        for x in ours
        for y in theirs
        for right, wrong in [(_right(x), _right(y))]
    ]
    only_a, only_b = np.mean(found, axis=0)
    return float(only_a), float(only_b)


def _right(predictions: Predictions) -> NDArray[np.bool_]:
    return predictions.probabilities.argmax(1) == np.asarray(predictions.labels)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests against a margin: p values of "worse by the margin" and of "better by the margin"."""

    p_worse: float
    p_better: float

    @property
    def not_worse(self) -> bool:
        """Non-inferior at 5 %."""
        return self.p_worse < 0.05

    @property
    def equivalent(self) -> bool:
        """Neither worse nor better by the margin or more, at 5 %."""
        return max(self.p_worse, self.p_better) < 0.05


def tost(difference: Difference, margin: float) -> Equivalence:
    """Two one-sided tests with the bootstrap's replicates: p is the share of them that lies beyond the margin.

    Both below 5 % is the same as the 90 % percentile interval lying within ± margin.
    """
    r = difference.replicates
    return Equivalence(
        float((1 + (r <= -margin).sum()) / (1 + len(r))), float((1 + (r >= margin).sum()) / (1 + len(r)))
    )
