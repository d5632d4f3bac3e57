"""Split conformal prediction: sets of classes that hold the true class at a chosen rate.

The guarantee assumes exchangeable cases and is marginal: it averages over cases and over draws of the calibration set.
Here the calibration set is the validation split, which also chose the epoch and the temperature, so the guarantee holds
only approximately. Report the coverage on held-out test cases.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from shpeft.errors import ConfigError
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.thresholds import OperatingPoint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SetRule:
    """Rule that sets the prediction sets.

    Attributes:
        method: ``lac`` (all classes above a probability: the smallest sets on average) or ``aps`` (the most probable
            classes up to a cumulative probability: larger sets for hard cases).
        coverage: target share of cases whose set holds the true class.
        by_class: reach the coverage within each class, not only on average (class-conditional, or Mondrian, Vovk 2012).
    """

    method: Literal["lac", "aps"] = "lac"
    coverage: float = 0.9
    by_class: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ConfigError(
                f"The coverage {self.coverage:g} is out of range. Give a share between 0 and 1, such as 0.9."
            )

    @property
    def min_cases(self) -> int:
        """Fewest validation cases n with which a set can leave a class out: ⌈(n + 1)(1 − α)⌉ ≤ n."""
        return next(n for n in range(1, 1_000_000) if rank(n, self.coverage) <= n)


@dataclass(frozen=True)
class PredictionSets:
    """Prediction sets, fitted on validation cases.

    Attributes:
        limits: for each class the highest nonconformity score that a set admits; None: every set holds the class.
        cases: for each class the number of validation cases behind its limit.
        expected: 95 % range of the coverage over draws of as many validation cases.
        cautions: sentences for the user, where the validation cases are too few.
    """

    rule: SetRule
    classes: tuple[str, ...]
    limits: tuple[float | None, ...]
    cases: tuple[int, ...]
    expected: tuple[float, float]
    cautions: tuple[str, ...] = ()

    def members(
        self,
        probabilities: Array,
        operating: OperatingPoint | None = None,
        decided: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        """Return (N, C) bool, the classes in each case's set.

        The most probable class is always in, so no set is empty; and so is a class that is positive at the operating
        threshold, or that is ``decided`` on, (N,), so no set contradicts the decision. All only raise the coverage.
        """
        limits = np.array([inf if limit is None else limit for limit in self.limits])
        inside = nonconformity(probabilities, self.rule.method) <= limits + 1e-12
        inside[np.arange(len(inside)), probabilities.argmax(1)] = True
        if decided is not None:
            inside[np.arange(len(inside)), decided] = True
        if operating is not None:
            c = class_index(self.classes, operating.rule.positive)
            inside[:, c] |= probabilities[:, c] >= operating.threshold
        return inside

    def set_of(
        self, probabilities: Array, operating: OperatingPoint | None = None, decided: int | None = None
    ) -> tuple[str, ...]:
        """Return one case's set, the most probable class first, for ``probabilities`` (C,)."""
        chosen = None if decided is None else np.array([decided])
        inside = self.members(probabilities[None], operating, chosen)[0]
        return tuple(self.classes[c] for c in np.argsort(-probabilities, kind="stable") if inside[c])


@dataclass(frozen=True)
class Coverage:
    """Coverage of prediction sets on a set of cases.

    Attributes:
        covered: share of cases whose set holds the true class.
        by_class: the same within each class.
        sizes: number of cases with a set of 1, 2, ... classes.
    """

    covered: Proportion
    by_class: dict[str, Proportion]
    sizes: dict[int, int]

    @property
    def mean_size(self) -> float:
        """Mean number of classes in a set."""
        return sum(size * count for size, count in self.sizes.items()) / max(1, self.covered.cases)


def nonconformity(probabilities: Array, method: str) -> Array:
    """Return the nonconformity score of each class for each case, (N, C).

    LAC (Sadinle et al. 2019): 1 − p_c. APS (Romano et al. 2020): Σ_k p_k over the classes at least as probable as c,
    without the random tie-break, so that the same image always gets the same set.
    """
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
    scores = np.empty_like(total)
    np.put_along_axis(scores, order, total, 1)
    return scores


def rank(cases: int, coverage: float) -> int:
    """Return ⌈(n + 1)·coverage⌉, the rank of the limit among n ascending scores; above n there is no limit."""
    return ceil((cases + 1) * coverage - 1e-9)


def fit_prediction_sets(validation: Predictions, rule: SetRule) -> PredictionSets:
    """Fit the limits: the ⌈(n + 1)(1 − α)⌉-th smallest score of the true classes of n validation cases.

    Args:
        validation: calibrated probabilities.
    """
    labels = np.asarray(validation.labels)
    scores = nonconformity(validation.probabilities, rule.method)[np.arange(len(labels)), labels]
    classes = range(len(validation.classes))
    parts = [scores[labels == c] if rule.by_class else scores for c in classes]
    limits = tuple(_limit(part, rule.coverage) for part in parts)
    cases = tuple(len(part) for part in parts)
    expected = coverage_range(min(cases), rule.coverage)
    return PredictionSets(rule, validation.classes, limits, cases, expected, _cautions(validation, rule, cases))


def set_coverage(sets: PredictionSets, predictions: Predictions, operating: OperatingPoint | None = None) -> Coverage:
    """Return how often the sets hold the true class, and how large they are.

    Args:
        predictions: calibrated probabilities.
        operating: a class that is positive at this threshold is in the set.
    """
    inside = sets.members(predictions.probabilities, operating, predictions.decided)
    labels = np.asarray(predictions.labels)
    covered = inside[np.arange(len(labels)), labels]
    sizes = np.bincount(inside.sum(1), minlength=len(sets.classes) + 1)[1:]
    return Coverage(
        covered=Proportion(int(covered.sum()), len(covered)),
        by_class={
            name: Proportion(int(covered[labels == c].sum()), int((labels == c).sum()))
            for c, name in enumerate(sets.classes)
        },
        sizes={size: int(count) for size, count in enumerate(sizes, start=1)},
    )


def _limit(scores: Array, coverage: float) -> float | None:
    at = rank(len(scores), coverage)
    return float(np.sort(scores)[at - 1]) if at <= len(scores) else None


def coverage_range(cases: int, coverage: float) -> tuple[float, float]:
    """Return the central 95 % of Beta(k, n + 1 − k), the coverage over draws of n validation cases (Vovk 2012)."""
    k = rank(cases, coverage)
    if k > cases:
        return 1.0, 1.0
    low, high = beta(k, cases + 1 - k).ppf([0.025, 0.975])
    return float(low), float(high)


def _cautions(validation: Predictions, rule: SetRule, cases: tuple[int, ...]) -> tuple[str, ...]:
    min_cases = rule.min_cases
    if not rule.by_class and cases[0] < min_cases:
        return (
            f"A coverage of {rule.coverage:.0%} needs at least {min_cases} validation cases; there are {cases[0]}. "
            "Every set therefore holds every class.",
        )
    rare = [f"{name} ({n})" for name, n in zip(validation.classes, cases, strict=True) if n < min_cases]
    if rule.by_class and rare:
        return (
            f"A coverage of {rule.coverage:.0%} within each class needs at least {min_cases} validation cases of the "
            f"class. Too few: {', '.join(rare)}. Every set therefore holds {'these' if len(rare) > 1 else 'it'}.",
        )
    return ()
