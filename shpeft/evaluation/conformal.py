"""Split conformal prediction: sets of classes that hold the true one as often as was asked.

The guarantee is that of exchangeable cases, and an average over cases and over draws of the validation cases. The
validation cases have also chosen the epoch and the temperature, so here it holds up to what these choices learned of
them; the coverage on test cases is the honest number.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from shpeft.errors import ConfigError
from shpeft.evaluation import Predictions
from shpeft.trust.proportions import Proportion

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SetRule:
    """Which sets are wanted.

    Attributes:
        method: ``lac`` (classes whose probability is high enough: the smallest sets on average) or ``aps`` (the most
            probable classes until they are enough together: larger sets for hard cases).
        coverage: the wanted share of cases whose set holds the true class.
        by_class: whether it is to hold for the cases of each class by themselves.
    """

    method: Literal["lac", "aps"] = "lac"
    coverage: float = 0.9
    by_class: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ConfigError(f"A coverage of {self.coverage:g} cannot be had: it lies between 0 and 1, such as 0.9.")

    @property
    def needed(self) -> int:
        """The fewest validation cases with which a set can leave anything out: ⌈(n + 1)(1 − α)⌉ ≤ n."""
        return next(n for n in range(1, 1_000_000) if rank(n, self.coverage) <= n)


@dataclass(frozen=True)
class PredictionSets:
    """Prediction sets, made ready on validation cases.

    Attributes:
        limits: for each class the highest nonconformity with which it is in a set; None: it is in every set.
        cases: how many validation cases each limit comes from.
        expected: the range, 95 %, in which the coverage lies for validation cases as many as these.
        cautions: sentences on what the validation cases are too few for.
    """

    rule: SetRule
    classes: tuple[str, ...]
    limits: tuple[float | None, ...]
    cases: tuple[int, ...]
    expected: tuple[float, float]
    cautions: tuple[str, ...] = ()

    def members(self, probabilities: Array) -> NDArray[np.bool_]:
        """(N, C) which classes are in each case's set. The most probable class always is: no set is empty."""
        limits = np.array([inf if limit is None else limit for limit in self.limits])
        inside = nonconformity(probabilities, self.rule.method) <= limits + 1e-12
        inside[np.arange(len(inside)), probabilities.argmax(1)] = True
        return inside

    def set_of(self, probabilities: Array) -> tuple[str, ...]:
        """One case's set, the most probable class first; ``probabilities`` (C,)."""
        inside = self.members(probabilities[None])[0]
        return tuple(self.classes[c] for c in np.argsort(-probabilities, kind="stable") if inside[c])


@dataclass(frozen=True)
class Coverage:
    """What prediction sets did on some cases.

    Attributes:
        covered: the cases whose set held the true class.
        by_class: the same for the cases of each class.
        sizes: how many cases had a set of 1, 2, ... classes.
    """

    covered: Proportion
    by_class: dict[str, Proportion]
    sizes: dict[int, int]

    @property
    def mean_size(self) -> float:
        """Classes in a set, on average."""
        return sum(size * count for size, count in self.sizes.items()) / max(1, self.covered.cases)


def nonconformity(probabilities: Array, method: str) -> Array:
    """How little each class fits each case, (N, C).

    LAC (Sadinle et al. 2019): 1 − p_c. APS (Romano et al. 2020), without its random tie-break, so that the same image
    has the same set: Σ_k p_k over the classes at least as probable as c.
    """
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
    scores = np.empty_like(total)
    np.put_along_axis(scores, order, total, 1)
    return scores


def rank(cases: int, coverage: float) -> int:
    """⌈(n + 1)·coverage⌉: which of n ascending scores is the limit; above n there is none."""
    return ceil((cases + 1) * coverage - 1e-9)


def fit_sets(validation: Predictions, rule: SetRule) -> PredictionSets:
    """The limits: the ⌈(n + 1)(1 − α)⌉-th smallest score of the true classes of n validation cases.

    Args:
        validation: calibrated probabilities.
    """
    labels = np.asarray(validation.labels)
    scores = nonconformity(validation.probabilities, rule.method)[np.arange(len(labels)), labels]
    classes = range(len(validation.classes))
    parts = [scores[labels == c] if rule.by_class else scores for c in classes]
    limits = tuple(_limit(part, rule.coverage) for part in parts)
    cases = tuple(len(part) for part in parts)
    expected = _coverage_range(min(cases), rule.coverage)
    return PredictionSets(rule, validation.classes, limits, cases, expected, _cautions(validation, rule, cases))


def coverage_of(sets: PredictionSets, predictions: Predictions) -> Coverage:
    """How often the sets hold the true class, and how large they are.

    Args:
        predictions: calibrated probabilities.
    """
    inside, labels = sets.members(predictions.probabilities), np.asarray(predictions.labels)
    held = inside[np.arange(len(labels)), labels]
    sizes = np.bincount(inside.sum(1), minlength=len(sets.classes) + 1)[1:]
    return Coverage(
        covered=Proportion(int(held.sum()), len(held)),
        by_class={
            name: Proportion(int(held[labels == c].sum()), int((labels == c).sum()))
            for c, name in enumerate(sets.classes)
        },
        sizes={size: int(count) for size, count in enumerate(sizes, start=1)},
    )


def _limit(scores: Array, coverage: float) -> float | None:
    at = rank(len(scores), coverage)
    return float(np.sort(scores)[at - 1]) if at <= len(scores) else None


def _coverage_range(cases: int, coverage: float) -> tuple[float, float]:
    """Where the coverage lies for given validation cases: Beta(k, n + 1 − k) (Vovk 2012); 95 % of it."""
    k = rank(cases, coverage)
    if k > cases:
        return 1.0, 1.0
    low, high = beta(k, cases + 1 - k).ppf([0.025, 0.975])
    return float(low), float(high)


def _cautions(validation: Predictions, rule: SetRule, cases: tuple[int, ...]) -> tuple[str, ...]:
    needed = rule.needed
    if not rule.by_class and cases[0] < needed:
        return (
            f"A coverage of {rule.coverage:.0%} needs at least {needed} validation cases; there are {cases[0]}: "
            "every set holds every class.",
        )
    few = [f"{name} ({n})" for name, n in zip(validation.classes, cases, strict=True) if n < needed]
    if rule.by_class and few:
        return (
            f"A coverage of {rule.coverage:.0%} for each class needs at least {needed} validation cases of it; too few "
            f"are there of {', '.join(few)}: every set holds {'them' if len(few) > 1 else 'it'}.",
        )
    return ()
