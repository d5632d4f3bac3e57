"""Several findings an image: metrics of each and their means, with 95 % intervals from a bootstrap over cases."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.metrics import Interval, auroc_of, interval_of, resample_groups
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.subgroups import select_cases
from shpeft.evaluation.temperature import TINY, calibrate, fit_temperature, refinement_loss
from shpeft.tasks import SINGLE_LABEL
from shpeft.tasks.multi_label import PRESENT, UNKNOWN

Array = NDArray[np.float64]

FINDING_METRICS = ("macro_auroc", "macro_average_precision", "brier")


@dataclass(frozen=True, repr=False)
class FindingMetrics:
    """Metrics of findings that may occur together, as fractions with 95 % intervals.

    Attributes:
        cases: number of cases.
        macro_auroc: mean of the findings' AUROC.
        macro_average_precision: mean of the findings' average precision; guessing gives their mean prevalence.
        brier: squared error, the mean over the known findings; lower is better.
        per_class: for each finding its ``name``, ``cases`` (that have it), ``known`` (of which it is known whether they
            have it), ``auroc`` and ``average_precision``.
    """

    cases: int
    macro_auroc: Interval
    macro_average_precision: Interval
    brier: Interval
    per_class: tuple[dict[str, Any], ...]

    def __repr__(self) -> str:
        return f"FindingMetrics({self.cases:,} cases, {len(self.per_class)} findings, macro AUROC {self.macro_auroc})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return asdict(self)


def evaluate_findings(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> FindingMetrics:
    """Return the metrics of every finding, and their means over the findings, with intervals.

    A case counts for the findings that are known of it. A finding that all or none of the cases have is left out of the
    means.

    Args:
        resamples: number of bootstrap replicates, drawn with replacement over groups.
        seed: of the resamples; the same seed gives the same intervals.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.2], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> labels = ((1, 0), (0, 1), (1, -1), (0, 1))
        >>> cases, task = tuple("abcd"), shpeft.tasks.MULTI_LABEL
        >>> predictions = shpeft.Predictions(cases, labels, cases, ("edema", "mass"), p, task=task)
        >>> shpeft.evaluate_findings(predictions).per_class[1]["known"]
        3
    """
    values = finding_replicates(predictions, _weights(predictions, resamples, seed))
    labels = _labels(predictions)
    per_class = tuple(
        {
            "name": name,
            "cases": int((labels[:, c] == PRESENT).sum()),
            "known": int((labels[:, c] != UNKNOWN).sum()),
            "auroc": interval_of(values["auroc"][:, c]),
            "average_precision": interval_of(values["average_precision"][:, c]),
        }
        for c, name in enumerate(predictions.classes)
    )
    return FindingMetrics(
        len(predictions.labels), **{name: interval_of(values[name]) for name in FINDING_METRICS}, per_class=per_class
    )


def finding_difference(
    a: Predictions, b: Predictions, *, resamples: int = 1000, seed: int = 0, paired: bool = True
) -> dict[str, Interval]:
    """Return the difference a − b of every metric, of the same cases, or where not paired of two sets of cases."""
    of_a = finding_replicates(a, _weights(a, resamples, seed if paired else (seed, 0)))
    of_b = finding_replicates(b, _weights(b, resamples, seed if paired else (seed, 1)))
    return {name: interval_of(of_a[name] - of_b[name]) for name in FINDING_METRICS}


def of_finding(predictions: Predictions, name: str) -> Predictions:
    """Return the cases of which a finding is known, as predictions of two classes: ``no edema`` and ``edema``.

    Raises:
        ClassMismatch: there is no such finding.
    """
    c = class_index(predictions.classes, name)
    known = select_cases(predictions, known_rows(predictions, name))
    p = known.probabilities[:, c]
    return replace(
        known,
        labels=tuple(int(label[c] == PRESENT) for label in known.labels),
        classes=sides(name),
        probabilities=np.stack([1 - p, p], axis=1),
        task=SINGLE_LABEL,
    )


def known_rows(predictions: Predictions, name: str) -> list[int]:
    """Return the positions of the cases of which a finding is known."""
    c = class_index(predictions.classes, name)
    return [row for row, label in enumerate(predictions.labels) if label[c] != UNKNOWN]


def as_known_in(other: Predictions, predictions: Predictions) -> tuple[tuple[int, ...], ...]:
    """Return the labels of ``predictions`` without the findings that are unknown of all cases of ``other``."""
    asked = (_labels(other) != UNKNOWN).any(0)
    return tuple(
        tuple(value if known else UNKNOWN for value, known in zip(label, asked, strict=True))
        for label in predictions.labels
    )


def sides(name: str) -> tuple[str, str]:
    """Return the two classes of a finding: without it, and with it."""
    return f"no {name}", name


def finding_refinement_loss(predictions: Predictions) -> float:
    """Return the mean over the findings of ``refinement_loss``, each at a temperature of its own."""
    parts = (of_finding(predictions, name) for name in predictions.classes)
    return float(np.mean([refinement_loss(part.probabilities, part.labels) for part in parts if part.labels]))


def finding_case_losses(predictions: Predictions) -> Array:
    """Return (N,) binary cross-entropies: the sum over a case's known findings, each at its temperature, over C."""
    total = np.zeros(len(predictions.labels))
    for name in predictions.classes:
        part = of_finding(predictions, name)
        p = calibrate(part.probabilities, fit_temperature(part.probabilities, part.labels)[0])
        total[known_rows(predictions, name)] -= np.log(np.maximum(p[np.arange(len(part.labels)), part.labels], TINY))
    return total / len(predictions.classes)


def finding_replicates(predictions: Predictions, weights: Array) -> dict[str, Array]:
    """Return every metric for each row of case weights (R, N): (R,), and by finding (R, C).

    ``log_loss`` is the mean binary cross-entropy of the known findings in nats, which is not among ``FINDING_METRICS``.
    """
    p, labels = predictions.probabilities, _labels(predictions)
    known, present = labels != UNKNOWN, labels == PRESENT

    def by_finding(metric: Callable[[Array, NDArray[np.bool_], Array], Array]) -> Array:
        rows = [np.flatnonzero(known[:, c]) for c in range(p.shape[1])]
        return np.stack([metric(p[r, c], present[r, c], weights[:, r]) for c, r in enumerate(rows)], axis=1)

    areas, precisions = by_finding(auroc_of), by_finding(average_precision)
    errors = np.where(known, (p - present) ** 2, 0).sum(1)
    losses = np.where(known, -np.log(np.maximum(np.where(present, p, 1 - p), TINY)), 0).sum(1)
    number = np.maximum(weights @ known.sum(1), 1e-300)
    return {
        "auroc": areas,
        "average_precision": precisions,
        "macro_auroc": _mean(areas),
        "macro_average_precision": _mean(precisions),
        "brier": weights @ errors / number,
        "log_loss": weights @ losses / number,
    }


def average_precision(score: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return Σ_k (R_k − R_{k−1}) P_k over the thresholds k, for each row of weights (R, N); NaN without a positive."""
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    w = weights[:, order]
    hits, called = np.cumsum(w * positive[order], axis=1)[:, ends], np.cumsum(w, axis=1)[:, ends]
    precision = hits / np.where(called > 0, called, 1)
    area = (np.diff(hits, axis=1, prepend=0) * precision).sum(1)
    total = hits[:, -1]
    some_of_each = (total > 0) & (called[:, -1] > total)
    return np.where(some_of_each, area / np.where(total > 0, total, 1), np.nan)


def _mean(by_finding: Array) -> Array:
    """Return the mean over the findings that a replicate has and lacks; NaN where there is none."""
    defined = ~np.isnan(by_finding)
    count = defined.sum(1)
    return np.where(count > 0, np.where(defined, by_finding, 0).sum(1) / np.maximum(count, 1), np.nan)


def _weights(predictions: Predictions, resamples: int, seed: int | Iterable[int]) -> Array:
    draws = resample_groups(predictions.groups, resamples, seed if isinstance(seed, int) else tuple(seed))
    return np.vstack([np.ones((1, len(predictions.labels))), draws])


def _labels(predictions: Predictions) -> NDArray[np.int8]:
    return np.asarray(predictions.labels, dtype=np.int8).reshape(-1, len(predictions.classes))
