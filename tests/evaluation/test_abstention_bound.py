"""The abstain band keeps what it promises on new cases: by simulation, and against the exact binomial interval."""

from typing import Literal

import numpy as np
import pytest
from scipy.stats import binomtest

from shpeft import evaluation
from shpeft.errors import ConfigError
from shpeft.evaluation.abstention import choose_abstention
from shpeft.evaluation.abstention_bound import BANDS, AbstentionBound, RiskBound
from shpeft.runs.reliability import parse_reliability, reliability_text
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


@pytest.mark.slow
@pytest.mark.parametrize("on", ["maximum", "threshold"])
@pytest.mark.parametrize("cases", [40, 160])
def test_the_promise_holds_in_nine_of_ten_draws(cases: int, on: Literal["maximum", "threshold"]) -> None:
    shares = shares_answered(cases, on, 0.9)
    assert (shares < 0.9).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / DRAWS)
    assert shares.mean() < 0.99  # and not because nothing is withheld


@pytest.mark.slow
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

    assert isinstance(abstention.bound, AbstentionBound)
    assert abstention.bound.holds
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


def wrong_answers(cases: int, target: float, confidence: float | None, draws: int = 100) -> np.ndarray:
    """Return the share of wrong answers among those to many new cases, for each draw of validation cases, (draws,)."""
    rule = evaluation.AbstentionRule("risk", target, confidence=confidence)
    ends = [choose_abstention(sample_predictions(cases, 100 + seed), rule).certainty for seed in range(draws)]
    new = evaluation.risk_coverage(sample_predictions(20_000, 1))
    shares: np.ndarray = new.risk[np.searchsorted(-new.certainty, -np.array(ends), side="right") - 1]
    return shares


@pytest.mark.slow
def test_the_promise_about_wrong_answers_holds_in_nine_of_ten_draws() -> None:
    new = sample_predictions(20_000, 1)
    full = evaluation.risk_coverage(new).risk[-1]
    target = 0.7 * full  # not met without a band
    risks = wrong_answers(400, target, 0.9)
    assert (risks > target).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / len(risks))
    without = wrong_answers(400, target, None)
    assert (without > target).mean() > 0.3  # the validation cases alone promise nothing
    assert risks.mean() < without.mean()


def test_a_band_answers_as_many_cases_as_the_exact_interval_allows_for_wrong_answers() -> None:
    validation = sample_predictions(400, 3)
    abstention = choose_abstention(validation, evaluation.AbstentionRule("risk", 0.15))
    bound = present(abstention.bound)
    assert isinstance(bound, RiskBound)
    assert (bound.answered, bound.wrong) == (abstention.validation.coverage.count, abstention.validation.risk.count)
    assert bound.holds

    def highest(wrong: int, answered: int) -> float:
        level = 1 - (1 - 0.9) / BANDS
        interval = binomtest(wrong, answered, alternative="less").proportion_ci(level, method="exact")
        return float(interval.high)

    assert highest(bound.wrong, bound.answered) <= 0.15
    curve = evaluation.risk_coverage(validation)
    more = [at for at in range(bound.answered + 1, 401) if at % (400 // BANDS) == 0]
    assert more
    for answered in more:
        assert highest(round(curve.risk[answered - 1] * answered), answered) > 0.15


def test_too_few_cases_promise_nothing_about_wrong_answers() -> None:
    abstention = choose_abstention(sample_predictions(30, 3), evaluation.AbstentionRule("risk", 0.1))
    bound = abstention.bound
    assert isinstance(bound, RiskBound)
    assert bound.sentence.startswith("No promise for new images: the validation images do not show")
    assert abstention.validation.risk.value <= 0.1


def test_a_promise_about_wrong_answers_is_stored() -> None:
    rules = evaluation.DecisionRules(abstention=evaluation.AbstentionRule("risk", 0.15))
    fitted = evaluation.fit_reliability(sample_predictions(400, 3), rules)
    assert isinstance(present(fitted.abstention).bound, RiskBound)
    assert parse_reliability(reliability_text(fitted).encode()) == fitted


def test_an_impossible_confidence_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluation.AbstentionRule(confidence=1.0)
