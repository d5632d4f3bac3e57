"""The promise about the sensitivity on new cases, by simulation and against the exact binomial interval."""

import numpy as np
import pytest
from scipy.stats import binomtest

from shpeft import evaluation
from shpeft.errors import ConfigError
from shpeft.evaluation import ThresholdRule
from shpeft.evaluation.sensitivity_bound import SensitivityBound, allowed_misses
from shpeft.runs.reliability import parse_reliability, reliability_text
from tests.helpers.predictions import binary_predictions, sample_predictions
from tests.helpers.present import present


@pytest.mark.parametrize(("cases", "target", "confidence"), [(45, 0.95, 0.9), (120, 0.9, 0.95), (60, 0.5, 0.9)])
def test_allowed_misses_are_those_of_the_exact_lower_bound(cases: int, target: float, confidence: float) -> None:
    def lower_bound(misses: int) -> float:
        interval = binomtest(cases - misses, cases, alternative="greater").proportion_ci(confidence, method="exact")
        return float(interval.low)

    most = allowed_misses(cases, target, confidence)
    assert lower_bound(most) >= target > lower_bound(most + 1)


def test_fewest_cases_allow_the_promise_and_fewer_do_not() -> None:
    for target, confidence in ((0.95, 0.9), (0.9, 0.9), (0.99, 0.95), (0.8, 0.8)):
        needed = SensitivityBound("ill", target, confidence, 0).cases_needed
        assert allowed_misses(needed, target, confidence) >= 0 > allowed_misses(needed - 1, target, confidence)


def test_threshold_with_a_bound_reaches_its_target_as_often_as_promised() -> None:
    """Over draws of the validation cases, the sensitivity on many new cases is below the target in at most 10 %."""
    new = sample_predictions(20_000, 0)
    rule = ThresholdRule("malignant", "sensitivity", 0.8, confidence=0.9)
    reached, empirical = list[bool](), list[bool]()
    for seed in range(200):
        validation = sample_predictions(120, 100 + seed)
        for results, chosen in ((reached, rule), (empirical, ThresholdRule("malignant", "sensitivity", 0.8))):
            point = evaluation.choose_threshold(validation, chosen)
            rates = evaluation.rates(new, "malignant", point.threshold)
            results.append(rates.sensitivity.value >= 0.8)
    assert np.mean(reached) >= 0.9 - 3 * np.sqrt(0.09 / 200)
    assert np.mean(empirical) < 0.75  # without the bound, the target is missed far more often


def test_too_few_cases_use_the_empirical_point_and_say_how_many_are_needed() -> None:
    p = [0.05 * i for i in range(20)]
    validation = binary_predictions(p, [0] * 10 + [1] * 10)
    rule = ThresholdRule("ill", "sensitivity", 0.95, confidence=0.9)
    point, plain = (evaluation.choose_threshold(validation, r) for r in (rule, ThresholdRule("ill", "sensitivity")))
    assert point.threshold == plain.threshold
    assert not present(point.bound).holds
    assert "needs 45 validation images of ill, and there are 10" in present(point.bound).sentence
    assert plain.bound is None


def test_bound_is_kept_with_the_reliability(tmp_path: object) -> None:

    rules = evaluation.DecisionRules(ThresholdRule("malignant", "sensitivity", 0.8, confidence=0.9))
    reliability = evaluation.fit_reliability(sample_predictions(300, 1), rules, sample_predictions(100, 2))
    again = parse_reliability(reliability_text(reliability).encode())
    assert again == reliability
    assert present(present(again.operating).bound).holds
    assert again.headline == reliability.headline


def test_impossible_confidence_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ThresholdRule("ill", "sensitivity", confidence=90)
    validation = binary_predictions([0.1, 0.9], [0, 1])
    assert (
        evaluation.choose_threshold(validation, ThresholdRule("ill", "sensitivity", 1.0, confidence=0.9)).bound is None
    )
