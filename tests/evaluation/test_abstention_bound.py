"""The abstain band takes no more new cases than it says: by simulation, and against the exact binomial interval."""

from typing import Literal

import numpy as np
import pytest
from scipy.stats import binomtest

from shpeft import evaluation
from shpeft.errors import ConfigError
from shpeft.evaluation.abstention_bound import AbstentionBound
from tests.helpers.predictions import sample_predictions
from tests.helpers.present import present

DRAWS = 200


def shares_answered(cases: int, on: Literal["maximum", "threshold"], confidence: float | None) -> np.ndarray:
    """Return the share of many new cases that is answered, for each draw of ``cases`` validation cases, (DRAWS,)."""
    new = sample_predictions(20_000, 1)
    rules = evaluation.DecisionRules(
        evaluation.ThresholdRule("malignant"), abstention=evaluation.AbstentionRule("coverage", 0.9, on, confidence)
    )
    shares = []
    for seed in range(DRAWS):
        fitted = evaluation.fit_reliability(sample_predictions(cases, 100 + seed), rules)
        calibrated = evaluation.calibrate_predictions(new, fitted.calibration.temperature)
        shares.append(evaluation.abstention_rates(present(fitted.abstention), calibrated).coverage.value)
    return np.array(shares)


@pytest.mark.parametrize("on", ["maximum", "threshold"])
@pytest.mark.parametrize("cases", [40, 160])
def test_the_promise_holds_in_nine_of_ten_draws(cases: int, on: Literal["maximum", "threshold"]) -> None:
    shares = shares_answered(cases, on, 0.9)
    assert (shares < 0.9).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / DRAWS)
    assert shares.mean() < 0.99  # and not because nothing is withheld


def test_without_a_confidence_the_share_holds_on_average_alone() -> None:
    shares = shares_answered(40, "maximum", None)
    assert shares.mean() >= 0.9 - 0.01
    assert (shares < 0.9).mean() > 0.25


@pytest.mark.parametrize("cases", [22, 80, 400])
def test_the_band_takes_as_many_validation_cases_as_the_exact_interval_allows(cases: int) -> None:
    rules = evaluation.DecisionRules(abstention=evaluation.AbstentionRule("coverage", 0.9))
    abstention = present(evaluation.fit_reliability(sample_predictions(cases, 3), rules).abstention)
    answered = abstention.validation.coverage.count

    def lowest(count: int) -> float:
        return float(binomtest(count, cases, alternative="greater").proportion_ci(0.9, method="exact").low)

    assert present(abstention.bound).holds
    assert lowest(answered) >= 0.9 > lowest(answered - 1)


def test_too_few_cases_promise_nothing() -> None:
    abstention = present(evaluation.fit_reliability(sample_predictions(21, 3)).abstention)
    bound = present(abstention.bound)
    assert bound == AbstentionBound(0.9, 0.9, 21)
    assert bound.cases_needed == 22
    assert bound.sentence.startswith("No promise for new images")
    assert abstention.validation.coverage.count == 20  # ⌈22 · 0.9⌉


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_none_and_all_need_no_promise(target: float) -> None:
    rules = evaluation.DecisionRules(abstention=evaluation.AbstentionRule("coverage", target))
    abstention = present(evaluation.fit_reliability(sample_predictions(50, 3), rules).abstention)
    assert abstention.bound is None
    assert abstention.validation.coverage.count == (50 if target else 1)


def test_an_impossible_confidence_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluation.AbstentionRule(confidence=1.0)
