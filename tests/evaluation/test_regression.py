"""Predicted numbers: metrics against their literal definitions, and intervals that cover as promised."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from shpeft.errors import ClassMismatch, ConfigError
from shpeft.evaluation import DecisionRules, IntervalReliability, IntervalRule, SetRule, ThresholdRule, fit_interval
from shpeft.evaluation.by_task import change, difference, fit_any_reliability, metrics_of, validation_loss
from shpeft.evaluation.gate import OODDistances
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.prediction_interval import Estimate, estimate_case
from shpeft.evaluation.regression import evaluate_regression, regression_by_subgroup
from shpeft.runs.predictions import parse_predictions, predictions_text
from shpeft.runs.reliability import parse_reliability, reliability_text
from shpeft.tasks import Regression


def numbers(cases: int = 60, seed: int = 0, noise: float = 4.0, **more: Any) -> Predictions:
    rng = np.random.default_rng(seed)
    true = rng.uniform(20, 90, cases)
    guess = true + rng.normal(1, noise, cases)
    ids = tuple(f"{seed}-{n}" for n in range(cases))
    groups = tuple(f"{n // 2}" for n in range(cases))
    task = Regression(unit="years").fitted(true.tolist())
    return Predictions(ids, tuple(true.tolist()), groups, ("age",), guess[:, None], task=task, **more)


def test_metrics_are_those_of_scikit_learn() -> None:
    given = numbers()
    true, guess = np.array(given.labels), given.probabilities[:, 0]
    metrics = evaluate_regression(given)
    assert metrics.mae.value == pytest.approx(mean_absolute_error(true, guess), rel=1e-12)
    assert metrics.rmse.value == pytest.approx(root_mean_squared_error(true, guess), rel=1e-12)
    assert metrics.r2.value == pytest.approx(r2_score(true, guess), rel=1e-12)
    assert metrics.bias.value == pytest.approx((guess - true).mean(), rel=1e-12)
    for interval in (metrics.mae, metrics.rmse, metrics.r2, metrics.bias):
        assert interval.low < interval.value < interval.high
    assert "per_class" not in metrics.to_dict()


def test_intervals_resample_whole_patients() -> None:
    given = numbers(cases=4)
    single = Predictions(given.ids, given.labels, ("a",) * 4, given.classes, given.probabilities, task=given.task)
    mae = evaluate_regression(single).mae
    assert mae.low == pytest.approx(mae.value) == pytest.approx(mae.high)


def test_r2_of_equal_numbers_is_undefined() -> None:
    given = Predictions(("a", "b"), (3.0, 3.0), ("a", "b"), ("age",), np.array([[1.0], [2.0]]), task=Regression())
    assert np.isnan(evaluate_regression(given).r2.value)


def test_the_difference_is_paired() -> None:
    a = numbers()
    b = Predictions(a.ids, a.labels, a.groups, a.classes, np.array(a.labels)[:, None] + 9.0, task=a.task)
    assert difference(a, a)["mae"].low == difference(a, a)["mae"].high == 0
    assert difference(b, a)["mae"].value == pytest.approx(9 - evaluate_regression(a).mae.value)
    with pytest.raises(ClassMismatch, match="same cases"):
        difference(a, numbers(seed=1))
    assert change(numbers(seed=1), a)["mae"].value == pytest.approx(
        evaluate_regression(numbers(seed=1)).mae.value - evaluate_regression(a).mae.value
    )


def test_the_validation_loss_is_the_tasks_loss() -> None:
    given = numbers()
    assert isinstance(given.task, Regression)
    off = (given.probabilities[:, 0] - np.array(given.labels)) / given.task.std
    assert validation_loss(given) == pytest.approx(0.5 * (off**2).mean(), rel=1e-12)


def test_metrics_of_classes_and_of_numbers_refuse_each_other() -> None:
    with pytest.raises(ClassMismatch, match="evaluate_regression"):
        evaluate(numbers())
    classes = Predictions(("a", "b"), (0, 1), ("a", "b"), ("x", "y"), np.eye(2))
    with pytest.raises(ClassMismatch, match=r"shpeft\.evaluate"):
        evaluate_regression(classes)
    assert metrics_of(numbers(), resamples=10)["unit"] == "years"


def test_the_half_width_is_the_rank_of_the_absolute_errors() -> None:
    given = numbers(cases=39)
    off = np.sort(np.abs(given.probabilities[:, 0] - np.array(given.labels)))
    assert fit_interval(given, IntervalRule(0.9)).half_width == off[36 - 1]  # ⌈40 × 0.9⌉ = 36
    assert fit_interval(given, IntervalRule(0.5)).half_width == off[20 - 1]


def test_new_cases_are_covered_as_often_as_promised() -> None:
    """Over 200 draws the mean coverage is that of the theory: 36/40 for 39 validation cases, within its error."""
    covered = []
    for seed in range(200):
        fitted = fit_interval(numbers(39, seed), IntervalRule(0.9), numbers(50, seed + 1000))
        assert fitted.test is not None
        covered.append(fitted.test.covered.value)
    error = np.std(covered) / len(covered) ** 0.5
    assert abs(np.mean(covered) - 0.9) < 3 * error


def test_too_few_cases_have_no_interval() -> None:
    fitted = fit_interval(numbers(8), IntervalRule(0.9), numbers(20, 1))
    assert fitted.half_width is None
    assert "needs at least 9 validation cases; there are 8" in fitted.cautions[0]
    assert estimate_case("age", 50.0, "years", fitted).text == "50.0 years"
    assert fit_interval(numbers(9), IntervalRule(0.9)).half_width is not None
    assert fit_interval(numbers(9), IntervalRule(0.9)).cautions == ()
    with pytest.raises(ConfigError, match="coverage"):
        IntervalRule(1.2)


def test_the_gate_counts_what_is_unlike() -> None:
    distances = OODDistances(1.0, np.array([0.5] * 39), np.array([0.5, 2.0]), {"photographs": np.array([3.0, 0.2])})
    fitted = fit_interval(numbers(39), None, numbers(2, 1), distances)
    assert fitted.test is not None
    assert fitted.test.gate is not None
    assert fitted.test.gate.sentences == (
        "No answer for 1 of 2 images, which look unlike the training images.",
        "Images of other kinds that get no answer: photographs: 1 of 2.",
    )


def test_rules_of_classes_give_a_coverage_but_no_threshold() -> None:
    fitted = fit_any_reliability(numbers(39), DecisionRules(sets=SetRule(coverage=0.8)))
    assert isinstance(fitted, IntervalReliability)
    assert fitted.rules.coverage == 0.8
    with pytest.raises(ConfigError, match="threshold for 'age'"):
        fit_any_reliability(numbers(39), DecisionRules(ThresholdRule("age")))


def test_the_record_survives_its_file() -> None:
    fitted = fit_interval(numbers(39), IntervalRule(0.9), numbers(20, 1))
    assert parse_reliability(reliability_text(fitted).encode()) == fitted


def test_predictions_survive_their_file() -> None:
    given = numbers(10)
    text = predictions_text({"finetuned": given, "probe": given})
    assert text.splitlines()[0] == "id,group,value [years],finetuned:age,probe:age"
    restored = parse_predictions(text, "finetuned")
    assert restored.labels == given.labels
    assert np.array_equal(restored.probabilities, given.probabilities)
    assert restored.task == Regression(unit="years")


def test_an_estimate_has_the_digits_of_its_interval() -> None:
    assert Estimate("age", 42.13, "years", 36.03, 48.23, 0.9).text == "42.1 years, 90 % interval 36.0 to 48.2"
    assert Estimate("volume", 1234.5, "ml", 934.5, 1534.5, 0.95).text == "1234 ml, 95 % interval 934 to 1534"
    assert Estimate("ratio", 0.4213, "", 0.4113, 0.4313, 0.9).text == "0.421, 90 % interval 0.411 to 0.431"


def test_subgroups_have_their_own_metrics() -> None:
    given = numbers(40, subgroups=("A", "B") * 20)
    parts = dict(regression_by_subgroup(given))
    assert {name: part.cases for name, part in parts.items()} == {"A": 20, "B": 20}
    off = np.abs(given.probabilities[::2, 0] - np.array(given.labels[::2]))
    assert parts["A"].mae.value == pytest.approx(off.mean())
    assert regression_by_subgroup(numbers()) == ()
