"""Evaluation: probabilities on a split, and metrics with 95 % intervals from a bootstrap over cases.

All metrics are computed from case weights: with weights of one they are the metric itself, with a resample's
multiplicities its bootstrap replicate. Cases of one group (a patient) are drawn together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.errors import ClassMismatch
from shpeft.feed import Feed
from shpeft.progress import Progress, silent

Array = NDArray[np.float64]

ECE_BINS = 15
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "mcc", "ece", "brier")


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Predictions:
    """What a model says about the cases of a split; ``ids`` and ``groups`` are opaque.

    Attributes:
        probabilities: (N, C) softmax of the logits.
        subgroups: what results are also told apart by, such as the hospital; empty where nothing is known.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Array
    subgroups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metrics:
    """Metrics of one set of predictions, as fractions.

    ``ece`` (expected calibration error, 15 bins of the top probability) and ``brier`` (sum over classes of squared
    errors) are better when smaller.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


@torch.no_grad()
def predict(
    backbone: Backbone,
    split: Split,
    *,
    batch_size: int = 32,
    feed: Feed | None = None,
    views: int = 1,
    progress: Progress = silent,
    stage: str = "predictions",
) -> Predictions:
    """Probabilities for every case of a split.

    Args:
        feed: how the backbone gets its images; None: each image through the whole backbone.
        views: 2 shows each image mirrored, too, and takes the mean of both probabilities.

    Raises:
        ClassMismatch: the backbone was made for other classes.
    """
    if backbone.classes != split.classes:
        raise ClassMismatch(
            f"The model tells {', '.join(backbone.classes)} apart; the images are of {', '.join(split.classes)}. "
            "Use a dataset with the same classes."
        )
    rows, done = [], 0
    feed = feed or Feed(backbone)
    for mirrored in (None, [True] * len(split))[:views]:
        for inputs, target in feed.batches(split, batch_size, mirrored=mirrored):
            progress(stage, done // views, len(split))
            rows.append(feed(inputs).double().softmax(1).cpu().numpy())
            done += len(target)
    progress(stage, len(split), len(split))
    probabilities = np.concatenate(rows).reshape(views, len(split), -1).mean(0)
    return Predictions(split.ids, split.labels, split.groups, split.classes, probabilities, split.subgroups)


def evaluate(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> Metrics:
    """All metrics with intervals.

    Args:
        resamples: bootstrap replicates, drawn with replacement over groups.
    """
    n = len(predictions.labels)
    weights = np.vstack([np.ones((1, n)), resample_groups(predictions.groups, resamples, seed)])
    replicates = weighted_metrics(predictions, weights)
    labels = np.asarray(predictions.labels)
    per_class = tuple(
        {
            "name": name,
            "cases": int((labels == c).sum()),
            "recall": _interval(replicates["recall"][:, c]),
            "auroc": _interval(replicates["auroc"][:, c]),
        }
        for c, name in enumerate(predictions.classes)
    )
    return Metrics(n, **{name: _interval(replicates[name]) for name in METRICS}, per_class=per_class)


def difference(a: Predictions, b: Predictions, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Paired differences a − b of every metric: both are evaluated on the same resamples of the same cases.

    Raises:
        ClassMismatch: the predictions are of other cases or classes.
    """
    if a.ids != b.ids or a.classes != b.classes or a.labels != b.labels:
        raise ClassMismatch("A paired difference needs predictions of the same cases; these are of different ones.")
    weights = np.vstack([np.ones((1, len(a.labels))), resample_groups(a.groups, resamples, seed)])
    of_a, of_b = weighted_metrics(a, weights), weighted_metrics(b, weights)
    return {name: _interval(of_a[name] - of_b[name]) for name in METRICS}


def _interval(replicates: Array) -> Interval:
    """The first replicate is the value; the others give the interval (a class may be missing from a resample)."""
    usable = replicates[1:][~np.isnan(replicates[1:])]
    low, high = np.quantile(usable, [0.025, 0.975]) if usable.size else (np.nan, np.nan)
    return Interval(float(replicates[0]), float(low), float(high))


def resample_groups(groups: tuple[str, ...], resamples: int, seed: int | Sequence[int]) -> Array:
    """(R, N) how often each case is drawn when whole groups are drawn with replacement."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, member].astype(np.float64)


def weighted_metrics(predictions: Predictions, weights: Array, *, auroc: bool = True) -> dict[str, Array]:
    """Every metric for each row of case weights (R, N): arrays (R,), and ``recall`` and ``auroc`` (R, C).

    Args:
        auroc: without it, all but the two that take nearly all of the time.
    """
    p, labels = predictions.probabilities, np.asarray(predictions.labels)
    classes = p.shape[1]
    guess = p.argmax(1)
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
    found = {
        "accuracy": correct / total,
        "balanced_accuracy": _mean_present(recall),
        "macro_f1": _mean_present(f1),
        "mcc": mcc,
        "ece": calibration_error(p.max(1), guess == labels, weights),
        "brier": weights @ errors / total,
        "recall": recall,
    }
    if auroc:
        areas = np.stack([_auroc(p[:, c], labels == c, weights) for c in range(classes)], axis=1)
        found |= {"macro_auroc": _mean_present(areas), "auroc": areas}
    return found


def _mean_present(by_class: Array) -> Array:
    """The mean over the classes that a resample holds."""
    present = ~np.isnan(by_class)
    return np.where(present, by_class, 0).sum(1) / np.maximum(present.sum(1), 1)


def _auroc(score: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """One class against the rest for each row of weights: the chance that a positive outranks a negative, ties half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    w = weights[:, order]
    up = np.add.reduceat(np.where(positive[order], w, 0), starts, axis=1)
    down = np.add.reduceat(np.where(positive[order], 0, w), starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    area = (up * below).sum(1)
    pairs = up.sum(1) * down.sum(1)
    return np.where(pairs > 0, area / np.where(pairs > 0, pairs, 1), np.nan)


def calibration_error(confidence: Array, correct: NDArray[np.bool_], weights: Array) -> Array:
    """ECE, one for a row of weights: Σ_bins |Σ w·(correct − confidence)| / Σ w over even bins of top probability."""
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = weights @ (np.eye(ECE_BINS)[bins] * (correct - confidence)[:, None])
    return np.abs(gaps).sum(1) / weights.sum(1)
