"""Split conformal prediction intervals: a range that holds the true number at a chosen rate.

The half-width is the ⌈(n + 1)(1 − α)⌉-th smallest absolute error of n validation cases (Lei et al. 2018). The guarantee
assumes exchangeable cases and is marginal: it averages over cases, so that it can fail for large or for small numbers.
The validation split also chose the epoch, so it holds only approximately; the coverage on the test cases is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.conformal import SetRule, coverage_range, rank
from shpeft.evaluation.gate import OODDistances
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.regression import errors
from shpeft.support.formatting import measured
from shpeft.support.jsonable import to_jsonable
from shpeft.tasks import Regression

Array = NDArray[np.float64]


@dataclass(frozen=True)
class IntervalRule:
    """The share of cases whose interval is to hold the true number."""

    coverage: float = 0.9

    def __post_init__(self) -> None:
        SetRule(coverage=self.coverage)  # the same bounds, with the same error


@dataclass(frozen=True)
class NoveltyRates:
    """What the gate does to a set of cases: those that look unlike the training images get no answer.

    Attributes:
        unlike: cases of the right kind that get no answer.
        others: by kind, images of other kinds that get no answer.
    """

    unlike: Proportion
    others: dict[str, Proportion] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The rates in sentences.

        Examples:
            >>> NoveltyRates(Proportion(2, 40), {"photographs": Proportion(12, 12)}).sentences[1]
            'Images of other kinds that get no answer: photographs: 12 of 12.'
        """
        lines = [f"No answer for {self.unlike.counts} images, which look unlike the training images."]
        if self.others:
            kinds = "; ".join(f"{kind}: {share.counts}" for kind, share in self.others.items())
            lines.append(f"Images of other kinds that get no answer: {kinds}.")
        return tuple(lines)


@dataclass(frozen=True)
class IntervalResults:
    """What the intervals hold on test cases.

    Attributes:
        covered: the cases whose interval holds the true number.
        mae: their mean absolute error.
        gate: what gets no answer; None without out-of-distribution distances.
    """

    covered: Proportion
    mae: float
    gate: NoveltyRates | None = None


@dataclass(frozen=True, repr=False)
class IntervalReliability:
    """The prediction interval of a regression, fitted on validation cases.

    Attributes:
        rules: the user's choice.
        quantity: what is predicted.
        unit: its unit; empty if unknown.
        half_width: the interval is the prediction ± this; None: too few validation cases for any.
        cases: number of validation cases.
        expected: 95 % range of the coverage over draws of as many validation cases.
        test: results on test cases; None if the model has not been tested.
        gate: what gets no answer among the validation cases; None without out-of-distribution distances.
    """

    rules: IntervalRule
    quantity: str
    unit: str
    half_width: float | None
    cases: int
    expected: tuple[float, float]
    test: IntervalResults | None = None
    gate: NoveltyRates | None = None

    def __repr__(self) -> str:
        return f"IntervalReliability({self.quantity} {self.shown_width}, {self.cases} validation cases)"

    @property
    def parts(self) -> dict[str, Any]:
        """Nothing: a regression has no classes to calibrate or to decide between."""
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The quantity."""
        return (self.quantity,)

    @property
    def must_not_miss(self) -> str:
        """Empty: a number has no class that must not be missed."""
        return ""

    @property
    def shown_width(self) -> str:
        """The half-width with its unit: ``± 6.1 years``."""
        if self.half_width is None:
            return "without an interval"
        return f"± {measured(self.half_width, self.half_width)} {self.unit}".strip()

    @property
    def headline(self) -> str:
        """What the model achieves on the test images; on the validation images where it was not tested."""
        if self.test is None:
            return f"Predicts {self.quantity}, {self.shown_width} on {self.cases:,} validation images."
        error = f"{measured(self.test.mae, self.test.mae)} {self.unit}".strip()
        said = f"Predicts {self.quantity} with a mean absolute error of {error}"
        if self.half_width is None:
            return f"{said}."
        return f"{said}; {self.test.covered.counts} intervals of {self.shown_width} hold the true value."

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences for the user, where the validation cases are too few."""
        if self.half_width is not None:
            return ()
        needed = SetRule(coverage=self.rules.coverage).min_cases
        return (
            f"A coverage of {self.rules.coverage:.0%} needs at least {needed} validation cases; there are "
            f"{self.cases}. Predictions therefore have no interval.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, under the keys of ``trust.json``."""
        values: dict[str, Any] = to_jsonable(self)
        return {"interval": {"choices": values.pop("rules"), **values}}


@dataclass(frozen=True)
class Estimate:
    """A predicted number with its interval.

    Attributes:
        quantity: what is predicted.
        value: the prediction, in the unit.
        unit: empty if unknown.
        low, high: ends of the interval; None without one.
        coverage: target share of cases whose interval holds the true number; None without an interval.
        test: test images whose interval holds it; None without a test.
        cases: validation images behind the interval.

    Examples:
        >>> Estimate("age", 42.13, "years", 36.0, 48.2, 0.9).text
        '42.1 years, 90 % interval 36.0 to 48.2'
    """

    quantity: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    test: Proportion | None = None
    cases: int = 0

    @property
    def text(self) -> str:
        """The number, its unit and its interval, in as many digits as the interval's width allows."""
        if self.low is None or self.high is None or self.coverage is None:
            return f"{measured(self.value)} {self.unit}".strip()
        width = (self.high - self.low) / 2
        value, low, high = (measured(number, width) for number in (self.value, self.low, self.high))
        return f"{f'{value} {self.unit}'.strip()}, {100 * self.coverage:.0f} % interval {low} to {high}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the interval means, and how often such intervals held the true number in the test."""
        if self.coverage is None:
            return (f"The prediction of {self.quantity} has no interval: the validation images are too few, or none.",)
        fitted = (
            f"The interval is as wide as is needed for {100 * self.coverage:.0f} % of {self.cases:,} validation "
            "images. It is the same for every image."
        )
        tested = () if self.test is None else (f"{self.test.counts} intervals of test images hold the true value.",)
        return (fitted, *tested)


def fit_interval(
    validation: Predictions,
    rule: IntervalRule | None = None,
    test: Predictions | None = None,
    distances: OODDistances | None = None,
) -> IntervalReliability:
    """Fit the interval on validation cases, and evaluate it on test cases.

    Args:
        validation: of a regression; so is ``test``.
        rule: the user's choice; None: the default.
        distances: of an out-of-distribution detector, for the rates of the gate.

    Raises:
        ConfigError: a coverage that is no share.

    Examples:
        >>> import numpy as np, shpeft
        >>> truth, task = tuple(float(n) for n in range(19)), shpeft.tasks.Regression(unit="mm")
        >>> cases, guesses = tuple(map(str, range(19))), np.arange(19.0)[:, None] + np.arange(19)[:, None] / 10
        >>> fit_interval(shpeft.Predictions(cases, truth, cases, ("size",), guesses, task=task))
        IntervalReliability(size ± 1.7 mm, 19 validation cases)
    """
    rule = rule or IntervalRule()
    task, residuals = validation.task, np.abs(errors(validation))
    assert isinstance(task, Regression)
    at = rank(len(residuals), rule.coverage)
    width = float(np.sort(residuals)[at - 1]) if at <= len(residuals) else None
    gate = None if distances is None else _rates(distances.validation, distances.limit)
    results = None
    if test is not None:
        off = np.abs(errors(test))
        held = len(off) if width is None else int((off <= width + 1e-12).sum())
        others = {} if distances is None else {k: _share(d, distances.limit) for k, d in distances.others.items()}
        tested = None if distances is None else _rates(distances.test, distances.limit, others)
        results = IntervalResults(Proportion(held, len(off)), float(off.mean()), tested)
    expected = coverage_range(len(residuals), rule.coverage)
    return IntervalReliability(rule, validation.classes[0], task.unit, width, len(residuals), expected, results, gate)


def estimate_case(quantity: str, value: float, unit: str, fitted: IntervalReliability | None) -> Estimate:
    """Return the estimate of one case; without a fitted reliability it has no interval."""
    if fitted is None or fitted.half_width is None:
        return Estimate(quantity, value, unit)
    test, width = fitted.test, fitted.half_width
    covered = None if test is None else test.covered
    return Estimate(quantity, value, unit, value - width, value + width, fitted.rules.coverage, covered, fitted.cases)


def _rates(distances: Array, limit: float, others: dict[str, Proportion] | None = None) -> NoveltyRates:
    return NoveltyRates(_share(distances, limit), others or {})


def _share(distances: Array | Sequence[float], limit: float) -> Proportion:
    return Proportion(int((np.asarray(distances) > limit).sum()), len(distances))
