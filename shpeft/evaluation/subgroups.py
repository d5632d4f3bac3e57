"""Metrics by subgroup: hospital, scanner, sex."""

from dataclasses import dataclass, replace

import numpy as np

from shpeft.errors import RunError
from shpeft.evaluation.metrics import Metrics, evaluate
from shpeft.evaluation.predict import Predictions

MOST = 30
"""Most subgroups; a column with more values probably holds patients or measurements."""


@dataclass(frozen=True)
class Subgroup:
    """Metrics of one subgroup; ``counts`` holds its number of cases by class."""

    name: str
    counts: dict[str, int]
    metrics: Metrics


def by_subgroup(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> tuple[Subgroup, ...]:
    """Return metrics with intervals for each subgroup, by name; empty if the predictions have no subgroups.

    Raises:
        RunError: there are more than :data:`MOST` subgroups.
    """
    names = sorted(set(predictions.subgroups))
    if len(names) > MOST:
        raise RunError(
            f"The subgroup column has {len(names)} different values; at most {MOST} are allowed. Choose a column with "
            "few values, such as the hospital, with columns: {subgroup: NAME}."
        )
    subgroups = []
    for name in names:
        part = select_cases(predictions, [i for i, own in enumerate(predictions.subgroups) if own == name])
        counts = np.bincount(part.labels, minlength=len(part.classes)).tolist()
        metrics = evaluate(part, resamples=resamples, seed=seed)
        subgroups.append(Subgroup(name or "not known", dict(zip(part.classes, counts, strict=True)), metrics))
    return tuple(subgroups)


def select_cases(predictions: Predictions, rows: list[int]) -> Predictions:
    """Return the predictions of the cases at these positions."""
    subgroups, decisions = predictions.subgroups, predictions.decisions
    return replace(
        predictions,
        ids=tuple(predictions.ids[row] for row in rows),
        labels=tuple(predictions.labels[row] for row in rows),
        groups=tuple(predictions.groups[row] for row in rows),
        probabilities=predictions.probabilities[rows],
        subgroups=tuple(subgroups[row] for row in rows) if subgroups else (),
        decisions=None if decisions is None else decisions[rows],
    )
