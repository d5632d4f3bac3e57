"""Results for parts of the cases: a hospital, a scanner, a sex."""

from dataclasses import dataclass, replace

import numpy as np

from shpeft.errors import RunError
from shpeft.evaluation import Metrics, Predictions, evaluate

MOST = 30
"""More subgroups than this are no subgroups but patients, or numbers."""


@dataclass(frozen=True)
class Subgroup:
    """One subgroup's metrics; ``counts`` says how many of its cases each class has."""

    name: str
    counts: dict[str, int]
    metrics: Metrics


def by_subgroup(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> tuple[Subgroup, ...]:
    """Metrics with intervals for each subgroup, by name; none where the predictions know no subgroups.

    Raises:
        RunError: there are more than thirty.
    """
    names = sorted(set(predictions.subgroups))
    if len(names) > MOST:
        raise RunError(
            f"The column of subgroups has {len(names)} different values, and results are given for {MOST} at most. "
            "Name a column with few values, such as the hospital, with columns: {subgroup: NAME}."
        )
    found = []
    for name in names:
        part = select_cases(predictions, [i for i, own in enumerate(predictions.subgroups) if own == name])
        counts = np.bincount(part.labels, minlength=len(part.classes)).tolist()
        metrics = evaluate(part, resamples=resamples, seed=seed)
        found.append(Subgroup(name or "not known", dict(zip(part.classes, counts, strict=True)), metrics))
    return tuple(found)


def select_cases(predictions: Predictions, rows: list[int]) -> Predictions:
    """The predictions of the cases at these positions."""
    subgroups = predictions.subgroups
    return replace(
        predictions,
        ids=tuple(predictions.ids[row] for row in rows),
        labels=tuple(predictions.labels[row] for row in rows),
        groups=tuple(predictions.groups[row] for row in rows),
        probabilities=predictions.probabilities[rows],
        subgroups=tuple(subgroups[row] for row in rows) if subgroups else (),
    )
