"""Metrics with 95 % intervals from a bootstrap over cases.

All metrics are computed from case weights: weights of 1 give the metric itself, the multiplicities of a resample give
its bootstrap replicate. Cases of one group, such as a patient, are drawn together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ClassMismatch
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import MultiLabel, Regression

Array = NDArray[np.float64]

ECE_BINS = 15
TINY = 1e-300
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "mcc", "ece", "brier")


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, repr=False)
class Metrics:
    """Metrics of one set of predictions, as fractions with 95 % intervals.

    Attributes:
        cases: number of cases.
        ece: expected calibration error over 15 bins of the top probability; lower is better.
        brier: squared error, summed over the classes; lower is better.
        per_class: for each class its ``name``, ``cases``, ``recall`` and ``auroc``.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> predictions = shpeft.Predictions(tuple("abcd"), (0, 1, 1, 1), tuple("abcd"), ("healthy", "ill"), p)
        >>> metrics = shpeft.evaluate(predictions)
        >>> metrics.accuracy.value
        0.75
        >>> [row["name"] for row in metrics.per_class]
        ['healthy', 'ill']
    """

    cases: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    macro_auroc: Interval
    mcc: Interval
    ece: Interval
    brier: Interval
    per_class: tuple[dict[str, Any], ...]

    def __repr__(self) -> str:
        return (
            f"Metrics({self.cases:,} cases, balanced accuracy {self.balanced_accuracy}, macro AUROC {self.macro_auroc})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return asdict(self)


def evaluate(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> Metrics:
    """Return all metrics with their intervals.

    Args:
        resamples: number of bootstrap replicates, drawn with replacement over groups.
        seed: of the resamples; the same seed gives the same intervals.

    Raises:
        ClassMismatch: predictions of several findings an image, or of numbers.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> predictions = shpeft.Predictions(tuple("abcd"), (0, 1, 1, 1), tuple("abcd"), ("healthy", "ill"), p)
        >>> shpeft.evaluate(predictions).balanced_accuracy  # doctest: +ELLIPSIS
        Interval(value=0.833..., low=..., high=1.0)
    """
    if isinstance(predictions.task, MultiLabel):
        raise ClassMismatch("These predictions are of several findings an image: use shpeft.evaluate_findings.")
    if isinstance(predictions.task, Regression):
        raise ClassMismatch("These predictions are numbers: use shpeft.evaluate_regression.")
    n = len(predictions.labels)
    weights = np.vstack([np.ones((1, n)), resample_groups(predictions.groups, resamples, seed)])
    replicates = weighted_metrics(predictions, weights)
    labels = np.asarray(predictions.labels)
    per_class = tuple(
        {
            "name": name,
            "cases": int((labels == c).sum()),
            "recall": interval_of(replicates["recall"][:, c]),
            "auroc": interval_of(replicates["auroc"][:, c]),
        }
        for c, name in enumerate(predictions.classes)
    )
    return Metrics(n, **{name: interval_of(replicates[name]) for name in METRICS}, per_class=per_class)


def difference(a: Predictions, b: Predictions, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Return the paired difference a − b of every metric, from the same resamples of the same cases.

    Raises:
        ClassMismatch: the two sets of predictions are of different cases or classes.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> a = shpeft.Predictions(tuple("abcd"), (0, 1, 1, 1), tuple("abcd"), ("healthy", "ill"), p)
        >>> str(shpeft.difference(a, a)["accuracy"])
        '0.000 [0.000, 0.000]'
    """
    check_paired(a, b)
    weights = np.vstack([np.ones((1, len(a.labels))), resample_groups(a.groups, resamples, seed)])
    of_a, of_b = weighted_metrics(a, weights), weighted_metrics(b, weights)
    return {name: interval_of(of_a[name] - of_b[name]) for name in METRICS}


def check_paired(a: Predictions, b: Predictions) -> None:
    """Check that two sets of predictions are of the same cases and classes.

    Raises:
        ClassMismatch: they are not.
    """
    if a.ids != b.ids or a.classes != b.classes or a.labels != b.labels:
        raise ClassMismatch(
            "A paired difference needs predictions of the same cases and classes; these differ. Predict the same split "
            "with both models."
        )


def change(
    external: Predictions, internal: Predictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return the difference external − internal of every metric between two sets of cases, each resampled by itself.

    Raises:
        ClassMismatch: the two sets have different classes.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> a = shpeft.Predictions(tuple("abcd"), (0, 1, 1, 1), tuple("abcd"), ("healthy", "ill"), p)
        >>> change(a, a)["accuracy"].value
        0.0
    """
    if external.classes != internal.classes:
        raise ClassMismatch(
            f"The classes differ: {', '.join(external.classes)} and {', '.join(internal.classes)}. Use the same model."
        )

    def replicates(predictions: Predictions, stream: int) -> dict[str, Array]:
        weights = resample_groups(predictions.groups, resamples, (seed, stream))
        return weighted_metrics(predictions, np.vstack([np.ones((1, len(predictions.labels))), weights]))

    of_external, of_internal = replicates(external, 0), replicates(internal, 1)
    return {name: interval_of(of_external[name] - of_internal[name]) for name in METRICS}


def interval_of(replicates: Array) -> Interval:
    """Return the first replicate as the value, with the 95 % interval of the others; NaN where a class is absent."""
    usable = replicates[1:][~np.isnan(replicates[1:])]
    low, high = np.quantile(usable, [0.025, 0.975]) if usable.size else (np.nan, np.nan)
    return Interval(float(replicates[0]), float(low), float(high))


def resample_groups(groups: tuple[str, ...], resamples: int, seed: int | Sequence[int]) -> Array:
    """Return (R, N) multiplicities of the cases when whole groups are drawn with replacement."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, member].astype(np.float64)


def weighted_metrics(predictions: Predictions, weights: Array, *, auroc: bool = True) -> dict[str, Array]:
    """Return every metric for each row of case weights (R, N): arrays (R,); ``recall`` and ``auroc`` are (R, C).

    ``log_loss`` is the mean cross-entropy in nats, which is not among ``METRICS``.

    Args:
        auroc: whether to compute the two metrics of the AUROC, which take nearly all of the time.
    """
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    classes = p.shape[1]
    guess = predictions.decided
    cell = labels * classes + guess
    confusion = (weights @ np.eye(classes * classes)[cell]).reshape(-1, classes, classes)  # (R, true, predicted)
    total, hits = weights.sum(1), np.diagonal(confusion, axis1=1, axis2=2)
    truth, guessed = confusion.sum(2), confusion.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / truth
        f1 = np.where(truth + guessed > 0, 2 * hits / (truth + guessed), np.nan)
        correct = hits.sum(1)
        covariance = correct * total - (truth * guessed).sum(1)
        spread = np.sqrt((total**2 - (guessed**2).sum(1)) * (total**2 - (truth**2).sum(1)))
        mcc = np.where(spread > 0, covariance / spread, 0.0)
    errors = ((p - np.eye(classes)[labels]) ** 2).sum(1)
    metrics = {
        "accuracy": correct / total,
        "balanced_accuracy": _mean_present(recall),
        "macro_f1": _mean_present(f1),
        "mcc": mcc,
        "ece": calibration_error(p.max(1), p.argmax(1) == labels, weights),
        "brier": weights @ errors / total,
        "log_loss": weights @ -np.log(np.maximum(p[np.arange(len(p)), labels], TINY)) / total,
        "recall": recall,
    }
    if auroc:
        areas = np.stack([auroc_of(p[:, c], labels == c, weights) for c in range(classes)], axis=1)
        metrics |= {"macro_auroc": _mean_present(areas), "auroc": areas}
    return metrics


def _mean_present(by_class: Array) -> Array:
    """Return the mean over the classes that occur in a resample."""
    present = ~np.isnan(by_class)
    mean: Array = np.where(present, by_class, 0).sum(1) / np.maximum(present.sum(1), 1)
    return mean


def auroc_of(score: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return P(positive outranks negative), ties counted half, for each row of weights."""
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    w = weights[:, order]
    up = np.add.reduceat(np.where(positive[order], w, 0), ties, axis=1)
    down = np.add.reduceat(np.where(positive[order], 0, w), ties, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    area = (up * below).sum(1)
    pairs = up.sum(1) * down.sum(1)
    return np.where(pairs > 0, area / np.where(pairs > 0, pairs, 1), np.nan)


def calibration_error(confidence: Array, correct: NDArray[np.bool_], weights: Array) -> Array:
    """Return the ECE for each row of weights: Σ_bins |Σ w·(correct − confidence)| / Σ w over equal-width bins."""
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = weights @ (np.eye(ECE_BINS)[bins] * (correct - confidence)[:, None])
    error: Array = np.abs(gaps).sum(1) / weights.sum(1)
    return error
