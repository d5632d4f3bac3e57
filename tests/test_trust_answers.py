"""What a model may say: prediction sets, abstaining, curves, and the cases behind the numbers."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from shpeft import trust
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import Predictions, resample_groups
from shpeft.trust.conformal import nonconformity, rank
from tests.test_trust import CLASSES, drawn, two


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_cover_as_promised(method, by_class, coverage):
    rule = trust.SetRule(method, coverage, by_class)
    found, of_class = [], []
    for seed in range(150):
        validation, test = (drawn(n, 1000 * k + seed, overconfidence=2.0) for k, n in ((1, 90), (2, 400)))
        seen = trust.coverage_of(trust.fit_sets(validation, rule), test)
        found.append(seen.covered.value)
        of_class.append([share.value for share in seen.by_class.values()])
    error = 3 * np.std(found) / np.sqrt(len(found))
    assert np.mean(found) >= coverage - error
    assert np.mean(found) <= coverage + (0.1 if method == "aps" or by_class else 0.05)  # and not by large sets alone
    if by_class:
        assert np.mean(of_class, axis=0).min() >= coverage - 0.01


def test_sets_after_a_temperature_from_the_same_cases_still_cover():
    found = []
    for seed in range(100):
        validation, test = (drawn(n, 5000 * k + seed, overconfidence=3.0) for k, n in ((1, 60), (2, 400)))
        fitted = trust.fit_trust(validation)
        seen = trust.calibrated(test, fitted.calibration.temperature)
        found.append(trust.coverage_of(fitted.sets, seen).covered.value)
    assert np.mean(found) >= 0.9 - 0.01


def test_the_range_of_coverage_is_what_draws_of_validation_cases_give():
    test, found = drawn(20_000, 0), []
    for seed in range(200):
        sets = trust.fit_sets(drawn(60, 100 + seed), trust.SetRule("lac", 0.8))
        inside = nonconformity(test.probabilities, "lac") <= sets.limits[0]  # without the class that is always in
        found.append(inside[range(20_000), list(test.labels)].mean())
    low, high = sets.expected
    assert 0.9 < np.mean([low <= share <= high for share in found]) <= 1
    assert low < 0.8 < high


def test_the_limit_is_the_score_of_the_right_rank():
    validation = two([0.05 * i for i in range(1, 20)], [1] * 19)
    assert rank(19, 0.9) == 18
    sets = trust.fit_sets(validation, trust.SetRule("lac", 0.9))
    assert sets.limits == pytest.approx((0.9, 0.9))  # 1 − 0.10, the second lowest of 19 probabilities
    assert rank(9, 0.9) == 9
    assert trust.SetRule(coverage=0.9).needed == 9
    assert trust.SetRule(coverage=0.95).needed == 19


def test_aps_adds_up_the_classes_from_the_top():
    p = np.array([[0.2, 0.5, 0.3]])
    assert nonconformity(p, "aps") == pytest.approx(np.array([[1.0, 0.5, 0.8]]))
    sets = trust.PredictionSets(trust.SetRule("aps"), CLASSES, (0.8,) * 3, (50,) * 3, (0.8, 0.95))
    assert sets.set_of(p[0]) == ("malignant", "normal")
    tight = replace(sets, limits=(0.1,) * 3)
    assert tight.set_of(p[0]) == ("malignant",)  # never empty


def test_too_few_cases_are_said_and_leave_nothing_out():
    sets = trust.fit_sets(drawn(8, 0), trust.SetRule("lac", 0.9))
    assert "at least 9 validation cases; there are 8" in sets.cautions[0]
    assert sets.limits == (None, None, None)
    assert len(sets.set_of(np.array([0.98, 0.01, 0.01]))) == 3
    validation = drawn(100, 0)
    few = trust.fit_sets(
        trust.subgroups.select_cases(validation, _with_few(validation, 2, 4)), trust.SetRule("lac", 0.9, True)
    )
    assert few.limits[2] is None
    assert few.limits[0] is not None
    assert "normal (4)" in few.cautions[0]
    assert not trust.fit_sets(validation, trust.SetRule()).cautions


def _with_few(predictions: Predictions, label: int, count: int) -> list[int]:
    own = [i for i, found in enumerate(predictions.labels) if found == label]
    return [i for i, found in enumerate(predictions.labels) if found != label or i in own[:count]]


def test_the_curve_is_that_of_answering_the_surest():
    predictions = drawn(150, 9)
    curve = trust.risk_coverage(predictions)
    top, wrong = predictions.probabilities.max(1), predictions.probabilities.argmax(1) != np.asarray(predictions.labels)
    for certainty, coverage, risk in zip(curve.certainty, curve.coverage, curve.risk, strict=True):
        kept = top >= certainty
        assert coverage == pytest.approx(kept.mean())
        assert risk == pytest.approx(wrong[kept].mean())
    assert curve.coverage[-1] == 1
    assert curve.area < curve.risk[-1]  # certainty says something


def test_the_band_does_what_was_asked():
    validation = drawn(400, 10)
    band = trust.fit_trust(validation, trust.Choices(abstention=trust.AbstentionRule("coverage", 0.8))).abstention
    assert band.validation.coverage.value == pytest.approx(0.8, abs=0.0025)
    careful = trust.fit_trust(validation, trust.Choices(abstention=trust.AbstentionRule("risk", 0.05))).abstention
    assert careful.validation.risk.value <= 0.05
    assert 0 < careful.validation.coverage.value < 0.8
    with pytest.raises(ConfigError, match="Allow more errors"):
        trust.fit_trust(
            two([0.9, 0.8, 0.3, 0.2], [0, 1, 0, 1]), trust.Choices(abstention=trust.AbstentionRule("risk", 0.0))
        )


def test_a_band_around_the_threshold():
    validation = drawn(300, 11)
    choices = trust.Choices(
        trust.ThresholdRule("malignant"), abstention=trust.AbstentionRule("coverage", 0.9, "threshold")
    )
    found = trust.fit_trust(validation, choices)
    low, high = found.abstention.band
    assert low < found.operating.threshold < high
    p = trust.calibrated(validation, found.calibration.temperature).probabilities[:, 1]
    inside = ((p > low * (1 + 1e-9)) & (p < high * (1 - 1e-9))).mean()
    assert 1 - found.abstention.validation.coverage.value == pytest.approx(inside, abs=0.004)
    with pytest.raises(ConfigError, match="needs a threshold"):
        trust.fit_trust(validation, replace(choices, threshold=None))


@pytest.mark.parametrize("name", CLASSES)
def test_curves_are_scikit_learns(name):
    predictions, c = drawn(160, 12), CLASSES.index(name)
    predictions = replace(predictions, probabilities=np.round(predictions.probabilities, 2))  # ties
    truth, score = np.asarray(predictions.labels) == c, predictions.probabilities[:, c]
    roc = trust.roc_curve(predictions, name, resamples=200)
    x, y, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    assert roc.area.value == pytest.approx(sk.roc_auc_score(truth, score))
    assert roc.y[1:] == pytest.approx(np.interp(roc.x, x, y)[1:])
    pr = trust.pr_curve(predictions, name, resamples=200)
    assert pr.area.value == pytest.approx(sk.average_precision_score(truth, score))
    assert pr.chance == pytest.approx(truth.mean())
    precision, recall, _ = sk.precision_recall_curve(truth, score)
    for at in (10, 50, 90):
        reached = np.flatnonzero(recall >= pr.x[at] - 1e-12)[-1]  # scikit-learn's recall falls
        assert pr.y[at] == pytest.approx(precision[reached])
    for curve in (roc, pr):
        assert (curve.low[1:] <= curve.y[1:] + 0.05).all()
        assert curve.area.low < curve.area.value < curve.area.high


def test_replicates_are_curves_of_the_drawn_cases():
    predictions = drawn(40, 13)
    weights = resample_groups(predictions.groups, 60, 0).astype(int)
    areas = [
        sk.average_precision_score(
            np.repeat(np.asarray(predictions.labels) == 1, w), np.repeat(predictions.probabilities[:, 1], w)
        )
        for w in weights
    ]
    found = trust.pr_curve(predictions, "malignant", resamples=60).area
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))


def test_a_class_that_no_case_has_leaves_gaps_and_no_error():
    predictions = two([0.1, 0.4], [0, 0])
    assert np.isnan(trust.roc_curve(predictions, "ill", resamples=5).area.value)
    assert np.isnan(trust.pr_curve(predictions, "ill", resamples=5).area.value)


def test_cells_of_the_confusion_matrix_lead_to_their_cases():
    predictions = drawn(100, 14)
    guess = predictions.probabilities.argmax(1)
    matrix = trust.confusion(predictions)
    assert np.array_equal(matrix, sk.confusion_matrix(predictions.labels, guess))
    rows = trust.cases_in(predictions, "benign", "normal")
    assert len(rows) == matrix[0, 2]
    assert all(predictions.labels[row] == 0 and guess[row] == 2 for row in rows)
    assert sorted(predictions.probabilities[rows, 2], reverse=True) == predictions.probabilities[rows, 2].tolist()


def test_subgroups_have_their_own_metrics():
    predictions = drawn(90, 15)
    predictions = replace(predictions, subgroups=tuple("abc"[i % 3] for i in range(90)))
    found = trust.by_subgroup(predictions, resamples=20)
    assert [part.name for part in found] == ["a", "b", "c"]
    assert [part.metrics.cases for part in found] == [30] * 3
    rows = list(range(0, 90, 3))
    guess = predictions.probabilities.argmax(1)
    assert found[0].metrics.accuracy.value == np.mean(guess[rows] == np.asarray(predictions.labels)[rows])
    assert sum(found[0].counts.values()) == 30
    with pytest.raises(RunError, match="90 different values"):
        trust.by_subgroup(replace(predictions, subgroups=predictions.ids))
    assert trust.by_subgroup(drawn(9, 0)) == ()
