"""Conformal sets, abstention, curves and subgroups, by simulation and against scikit-learn."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from sklearn import metrics as sk

from shpeft import evaluation
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation.conformal import nonconformity, rank
from shpeft.evaluation.metrics import resample_groups
from shpeft.evaluation.predict import Predictions
from tests.helpers.predictions import CLASSES, binary_predictions, sample_predictions
from tests.helpers.present import present


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_prediction_sets_reach_their_coverage(method: Literal["lac", "aps"], by_class: bool, coverage: float) -> None:
    rule = evaluation.SetRule(method, coverage, by_class)
    result, of_class = [], []
    for seed in range(150):
        validation, test = (sample_predictions(n, 1000 * k + seed, overconfidence=2.0) for k, n in ((1, 90), (2, 400)))
        seen = evaluation.set_coverage(evaluation.fit_prediction_sets(validation, rule), test)
        result.append(seen.covered.value)
        of_class.append([share.value for share in seen.by_class.values()])
    error = 3 * np.std(result) / np.sqrt(len(result))
    assert np.mean(result) >= coverage - error
    assert np.mean(result) <= coverage + (0.1 if method == "aps" or by_class else 0.05)  # and not by large sets alone
    if by_class:
        assert np.mean(of_class, axis=0).min() >= coverage - 0.01


def test_sets_keep_their_coverage_after_calibration_on_the_same_cases() -> None:
    result = []
    for seed in range(100):
        validation, test = (sample_predictions(n, 5000 * k + seed, overconfidence=3.0) for k, n in ((1, 60), (2, 400)))
        fitted = evaluation.fit_reliability(validation)
        seen = evaluation.calibrate_predictions(test, fitted.calibration.temperature)
        result.append(evaluation.set_coverage(fitted.sets, seen).covered.value)
    assert np.mean(result) >= 0.9 - 0.01


def test_expected_coverage_range_matches_simulated_validation_sets() -> None:
    test, result = sample_predictions(20_000, 0), []
    for seed in range(200):
        sets = evaluation.fit_prediction_sets(
            sample_predictions(60, 100 + seed), evaluation.SetRule("lac", 0.8, by_class=False)
        )
        inside = nonconformity(test.probabilities, "lac") <= present(
            sets.limits[0]
        )  # without the class that is always in
        result.append(inside[range(20_000), list(test.labels)].mean())
    low, high = sets.expected
    assert 0.9 < np.mean([low <= share <= high for share in result]) <= 1
    assert low < 0.8 < high


def test_limit_is_the_score_of_the_conformal_rank() -> None:
    validation = binary_predictions([0.05 * i for i in range(1, 20)], [1] * 19)
    assert rank(19, 0.9) == 18
    sets = evaluation.fit_prediction_sets(validation, evaluation.SetRule("lac", 0.9, by_class=False))
    assert sets.limits == pytest.approx((0.9, 0.9))  # 1 − 0.10, the second lowest of 19 probabilities
    assert rank(9, 0.9) == 9
    assert evaluation.SetRule(coverage=0.9).min_cases == 9
    assert evaluation.SetRule(coverage=0.95).min_cases == 19


def test_aps_score_is_the_cumulative_probability() -> None:
    p = np.array([[0.2, 0.5, 0.3]])
    assert nonconformity(p, "aps") == pytest.approx(np.array([[1.0, 0.5, 0.8]]))
    sets = evaluation.PredictionSets(evaluation.SetRule("aps"), CLASSES, (0.8,) * 3, (50,) * 3, (0.8, 0.95))
    assert sets.set_of(p[0]) == ("malignant", "normal")
    tight = replace(sets, limits=(0.1,) * 3)
    assert tight.set_of(p[0]) == ("malignant",)  # never empty


def test_too_few_cases_give_a_caution_and_full_sets() -> None:
    sets = evaluation.fit_prediction_sets(sample_predictions(8, 0), evaluation.SetRule("lac", 0.9, by_class=False))
    assert "at least 9 validation cases; there are 8" in sets.cautions[0]
    assert sets.limits == (None, None, None)
    assert len(sets.set_of(np.array([0.98, 0.01, 0.01]))) == 3
    validation = sample_predictions(100, 0)
    few = evaluation.fit_prediction_sets(
        evaluation.subgroups.select_cases(validation, _with_few(validation, 2, 4)), evaluation.SetRule("lac", 0.9)
    )
    assert few.limits[2] is None
    assert few.limits[0] is not None
    assert "normal (4)" in few.cautions[0]
    assert not evaluation.fit_prediction_sets(validation, evaluation.SetRule()).cautions


def _with_few(predictions: Predictions, label: int, count: int) -> list[int]:
    own = [i for i, result in enumerate(predictions.labels) if result == label]
    return [i for i, result in enumerate(predictions.labels) if result != label or i in own[:count]]


def test_risk_coverage_curve_answers_the_most_certain_cases() -> None:
    predictions = sample_predictions(150, 9)
    curve = evaluation.risk_coverage(predictions)
    top, wrong = predictions.probabilities.max(1), predictions.probabilities.argmax(1) != np.asarray(predictions.labels)
    for certainty, coverage, risk in zip(curve.certainty, curve.coverage, curve.risk, strict=True):
        answered = top >= certainty
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx(wrong[answered].mean())
    assert curve.coverage[-1] == 1
    assert curve.area < curve.risk[-1]  # certainty says something


def test_abstain_band_meets_its_rule() -> None:
    validation = sample_predictions(400, 10)
    band = evaluation.fit_reliability(
        validation, evaluation.DecisionRules(abstention=evaluation.AbstentionRule("coverage", 0.8, confidence=None))
    ).abstention
    assert present(band).validation.coverage.value == pytest.approx(0.8, abs=0.0025)
    assert present(band).bound is None
    careful = evaluation.fit_reliability(
        validation, evaluation.DecisionRules(abstention=evaluation.AbstentionRule("risk", 0.05))
    ).abstention
    bound = present(careful).bound
    assert bound is not None
    assert not bound.holds  # 2 of 45 wrong answers do not show it
    assert present(careful).validation.risk.value <= 0.05
    assert 0 < present(careful).validation.coverage.value < 0.8
    with pytest.raises(ConfigError, match="Allow more errors"):
        evaluation.fit_reliability(
            binary_predictions([0.9, 0.8, 0.3, 0.2], [0, 1, 0, 1]),
            evaluation.DecisionRules(abstention=evaluation.AbstentionRule("risk", 0.0)),
        )


def test_abstain_band_around_the_threshold() -> None:
    validation = sample_predictions(300, 11)
    rules = evaluation.DecisionRules(
        evaluation.ThresholdRule("malignant"), abstention=evaluation.AbstentionRule("coverage", 0.9, "threshold")
    )
    result = evaluation.fit_reliability(validation, rules)
    abstention = present(result.abstention)
    low, high = abstention.band
    assert low < present(result.operating).threshold < high
    p = evaluation.calibrate_predictions(validation, result.calibration.temperature).probabilities[:, 1]
    inside = ((p > low * (1 + 1e-9)) & (p < high * (1 - 1e-9))).mean()
    assert 1 - abstention.validation.coverage.value == pytest.approx(inside, abs=0.004)
    assert 0.9 < abstention.validation.coverage.value < 1  # above what is promised for new cases
    with pytest.raises(ConfigError, match="needs a threshold"):
        evaluation.fit_reliability(validation, replace(rules, threshold=None))


@pytest.mark.parametrize("name", CLASSES)
def test_curves_equal_scikit_learn(name: str) -> None:
    predictions, c = sample_predictions(160, 12), CLASSES.index(name)
    predictions = replace(predictions, probabilities=np.round(predictions.probabilities, 2))  # ties
    truth, score = np.asarray(predictions.labels) == c, predictions.probabilities[:, c]
    roc = evaluation.roc_curve(predictions, name, resamples=200)
    x, y, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    assert roc.area.value == pytest.approx(sk.roc_auc_score(truth, score))
    assert roc.y[1:] == pytest.approx(np.interp(roc.x, x, y)[1:])
    pr = evaluation.pr_curve(predictions, name, resamples=200)
    assert pr.area.value == pytest.approx(sk.average_precision_score(truth, score))
    assert pr.chance == pytest.approx(truth.mean())
    precision, recall, _ = sk.precision_recall_curve(truth, score)
    for at in (10, 50, 90):
        reached = np.flatnonzero(recall >= pr.x[at] - 1e-12)[-1]  # scikit-learn's recall falls
        assert pr.y[at] == pytest.approx(precision[reached])
    for curve in (roc, pr):
        assert (curve.low[1:] <= curve.y[1:] + 0.05).all()
        assert curve.area.low < curve.area.value < curve.area.high


def test_band_comes_from_the_resampled_cases() -> None:
    predictions = sample_predictions(40, 13)
    weights = resample_groups(predictions.groups, 60, 0).astype(int)
    areas = [
        sk.average_precision_score(
            np.repeat(np.asarray(predictions.labels) == 1, w), np.repeat(predictions.probabilities[:, 1], w)
        )
        for w in weights
    ]
    result = evaluation.pr_curve(predictions, "malignant", resamples=60).area
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))


def test_class_without_cases_gives_nan() -> None:
    predictions = binary_predictions([0.1, 0.4], [0, 0])
    assert np.isnan(evaluation.roc_curve(predictions, "ill", resamples=5).area.value)
    assert np.isnan(evaluation.pr_curve(predictions, "ill", resamples=5).area.value)


def test_confusion_matrix_cells_list_their_cases() -> None:
    predictions = sample_predictions(100, 14)
    guess = predictions.probabilities.argmax(1)
    matrix = evaluation.confusion(predictions)
    assert np.array_equal(matrix, sk.confusion_matrix(predictions.labels, guess))
    rows = evaluation.cases_in_cell(predictions, "benign", "normal")
    assert len(rows) == matrix[0, 2]
    assert all(predictions.labels[row] == 0 and guess[row] == 2 for row in rows)
    assert sorted(predictions.probabilities[rows, 2], reverse=True) == predictions.probabilities[rows, 2].tolist()


def test_subgroups_have_their_own_metrics() -> None:
    predictions = sample_predictions(90, 15)
    predictions = replace(predictions, subgroups=tuple("abc"[i % 3] for i in range(90)))
    result = evaluation.by_subgroup(predictions, resamples=20)
    assert [part.name for part in result] == ["a", "b", "c"]
    assert [part.metrics.cases for part in result] == [30] * 3
    rows = list(range(0, 90, 3))
    guess = predictions.probabilities.argmax(1)
    assert result[0].metrics.accuracy.value == np.mean(guess[rows] == np.asarray(predictions.labels)[rows])
    assert sum(result[0].counts.values()) == 30
    with pytest.raises(RunError, match="90 different values"):
        evaluation.by_subgroup(replace(predictions, subgroups=predictions.ids))
    assert evaluation.by_subgroup(sample_predictions(9, 0)) == ()
