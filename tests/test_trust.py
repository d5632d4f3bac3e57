"""Calibration, thresholds, prediction sets and abstaining: by simulation where they promise, by hand elsewhere."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from shpeft import trust
from shpeft.errors import ClassMismatch, ConfigError, RunError
from shpeft.evaluation import Predictions, evaluate, resample_groups
from shpeft.temperature import calibrate, fit_temperature, refinement_loss
from shpeft.trust.calibration import reliability
from shpeft.trust.conformal import nonconformity, rank
from shpeft.trust.thresholds import expected_cost

CLASSES = ("benign", "malignant", "normal")


def drawn(n: int, seed: int, *, overconfidence: float = 1.0, sharpness: float = 2.0) -> Predictions:
    """Labels that are drawn from softmax(z), and a model that says softmax(overconfidence · z)."""
    rng = np.random.default_rng(seed)
    z = sharpness * rng.normal(size=(n, len(CLASSES)))
    labels = (rng.random((n, 1)) > softmax(z, axis=1).cumsum(1)).sum(1)
    ids = tuple(f"{seed}-{i}" for i in range(n))
    return Predictions(ids, tuple(labels.tolist()), ids, CLASSES, softmax(overconfidence * z, axis=1))


def two(p: list[float], labels: list[int]) -> Predictions:
    """Predictions of two classes, given the probability of the second."""
    ids = tuple(map(str, range(len(p))))
    return Predictions(ids, tuple(labels), ids, ("healthy", "ill"), np.array([[1 - q, q] for q in p]))


# -- proportions


def test_the_interval_of_a_share_is_wilsons():
    k, n, z = 7, 20, 1.959963984540054
    middle, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    assert trust.Proportion(k, n).interval == pytest.approx((middle - half, middle + half))
    assert trust.Proportion(20, 20).interval[1] == 1
    assert trust.Proportion(20, 20).interval[0] == pytest.approx(0.8389, abs=1e-4)
    assert np.isnan(trust.Proportion(0, 0).value)
    assert str(trust.Proportion(0, 0)) == "no cases"


# -- calibration


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(overconfidence):
    validation = drawn(20_000, 1, overconfidence=overconfidence)
    found, (low, high) = fit_temperature(validation.probabilities, validation.labels)
    assert low < found < high
    assert found == pytest.approx(overconfidence, rel=0.04)  # 20 000 labels know it that well


def test_the_temperature_is_the_lowest_loss_of_a_fine_grid():
    validation = drawn(80, 2, overconfidence=2.0)
    p, y = validation.probabilities, np.asarray(validation.labels)

    def loss(t: float) -> float:
        q = calibrate(p, t)
        return -np.log(q[range(80), y]).sum() - np.log(q).mean()

    grid = np.exp(np.linspace(np.log(0.3), np.log(8), 4000))
    assert fit_temperature(p, validation.labels)[0] == pytest.approx(grid[np.argmin([loss(t) for t in grid])], rel=2e-3)


def test_the_interval_of_the_temperature_holds_the_truth():
    held = []
    for seed in range(200):
        validation = drawn(60, seed, overconfidence=2.0)
        _, (low, high) = fit_temperature(validation.probabilities, validation.labels)
        held.append(low <= 2.0 <= high)
    assert 0.9 < np.mean(held) <= 1


def test_calibration_lowers_the_error_on_other_cases_and_keeps_the_order():
    validation, test = (drawn(3000, seed, overconfidence=3.0) for seed in (3, 4))
    found = trust.fit_trust(validation, test=test)
    assert found.test.calibration.ece_before.value > 0.1
    assert found.test.calibration.ece_after.value < 0.03
    assert found.test.calibration.ece_change.high < 0
    after = trust.calibrated(test, found.calibration.temperature)
    for own, errors in ((test, "before"), (after, "after")):
        metrics = evaluate(own, resamples=0)
        assert getattr(found.test.calibration, f"ece_{errors}").value == pytest.approx(metrics.ece.value)
        assert getattr(found.test.calibration, f"brier_{errors}").value == pytest.approx(metrics.brier.value)
    assert np.array_equal(np.argsort(after.probabilities, 1), np.argsort(test.probabilities, 1))
    assert after.probabilities.sum(1) == pytest.approx(np.ones(3000))


def test_a_model_that_is_always_right_is_not_called_certain():
    p = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1))
    t, _ = fit_temperature(p, [0, 1] * 20)
    assert 0.2 < t < 1
    assert calibrate(p, t).max() == pytest.approx(1 - 0.5 / 41, abs=1e-3)  # as of 40 right cases and half a wrong one


def test_probabilities_of_zero_and_one_stay_finite():
    assert np.isfinite(calibrate(np.array([1.0, 0.0, 0.0]), 3.0)).all()
    assert np.isfinite(fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), [0, 1, 1])[0])


def test_the_refinement_loss_does_not_mind_confidence():
    """The lowest loss on a grid of temperatures; scaling the logits changes nothing, mixing up the order does."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 500)
    z = 2 * np.eye(3)[labels] + rng.normal(size=(500, 3))
    found = refinement_loss(softmax(z, 1), labels.tolist())
    grid = [-np.log(softmax(z / t, 1)[range(500), labels]).mean() for t in np.geomspace(0.1, 10, 2000)]
    assert found == pytest.approx(min(grid), rel=1e-3)  # the extra uniform case of the fit
    assert refinement_loss(softmax(5 * z, 1), labels.tolist()) == pytest.approx(found, rel=1e-4)
    assert refinement_loss(softmax(z + rng.normal(size=(500, 3)), 1), labels.tolist()) > found + 0.1


def test_bins_hold_equally_many_cases_and_every_probability():
    rng = np.random.default_rng(5)
    p = rng.random(200)
    bins = reliability(p, rng.random(200) < p)
    assert [found.observed.cases for found in bins] == [20] * 10
    assert bins[0].low == 0
    assert bins[-1].high == 1
    assert all(a.high == b.low for a, b in pairwise(bins))
    for found in bins:
        inside = (p >= found.low) & (p < found.high)
        assert found.mean == pytest.approx(p[inside].mean())
    assert len(reliability(p[:35], p[:35] > 2)) == 3  # at least ten cases in each
    assert len(reliability(np.full(100, 0.5), np.arange(100) < 40)) == 1


def test_intervals_of_bins_hold_a_calibrated_model():
    held = []
    for seed in range(40):
        found = trust.reliability_of(drawn(400, seed), "malignant")
        held += [low <= b.mean <= high for b in found for low, high in [b.observed.interval]]
    assert 0.9 < np.mean(held) < 0.99  # 400 intervals of 95 %


def test_the_counts_behind_a_probability_are_those_of_its_neighbours():
    validation = drawn(300, 6)
    found = trust.fit_trust(validation)
    judged = trust.judge(found, [0.2, 0.7, 0.1])
    p = trust.calibrated(validation, found.calibration.temperature).probabilities
    for c, (behind, own) in enumerate(zip(judged.evidence, judged.probabilities, strict=True)):
        assert behind.low <= own < behind.high
        inside = (p[:, c] >= behind.low) & (p[:, c] < behind.high)
        truth = np.asarray(validation.labels) == c
        assert (behind.observed.cases, behind.observed.count) == (inside.sum(), (inside & truth).sum())


# -- thresholds


def test_a_threshold_is_what_its_rule_says():
    validation = two([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], [0, 0, 1, 0, 0, 1, 1, 1])
    youden = trust.choose_threshold(validation, trust.ThresholdRule("ill"))
    assert youden.threshold == pytest.approx(0.65)
    assert (youden.validation.sensitivity.count, youden.validation.specificity.count) == (3, 4)
    sensitive = trust.choose_threshold(validation, trust.ThresholdRule("ill", "sensitivity", 0.95))
    assert sensitive.threshold == pytest.approx(0.25)
    specific = trust.choose_threshold(validation, trust.ThresholdRule("ill", "specificity", 0.75))
    assert specific.threshold == pytest.approx(0.5)
    assert specific.validation.specificity.value == 0.75
    other = trust.choose_threshold(validation, trust.ThresholdRule("healthy", "sensitivity", 1.0))
    assert other.threshold == pytest.approx(0.35)  # of being healthy


@pytest.mark.parametrize("positive", CLASSES)
def test_rates_are_scikit_learns_in_the_binary_view(positive):
    validation, c = drawn(200, 7), CLASSES.index(positive)
    curve = trust.threshold_curve(validation, positive)
    truth = np.asarray(validation.labels) == c
    for at in range(0, len(curve.thresholds), 17):
        called = validation.probabilities[:, c] >= curve.thresholds[at]
        found = trust.rates(validation, positive, float(curve.thresholds[at]))
        assert found.sensitivity.value == curve.sensitivity[at] == pytest.approx(sk.recall_score(truth, called))
        assert found.specificity.value == curve.specificity[at]
        assert found.specificity.value == pytest.approx(sk.recall_score(~truth, ~called))
    assert (curve.sensitivity[0], curve.specificity[0]) == (1, 0)
    assert (curve.sensitivity[-1], curve.specificity[-1]) == (0, 1)


def test_cost_follows_prevalence_and_ratio():
    validation = drawn(4000, 8)
    curve = trust.threshold_curve(validation, "malignant")
    chosen = [
        trust.choose_threshold(validation, trust.ThresholdRule("malignant", "cost", prevalence=p, cost_ratio=r))
        for p, r in ((0.02, 1.0), (0.02, 10.0), (0.4, 10.0))
    ]
    assert chosen[0].threshold > chosen[1].threshold > chosen[2].threshold
    cost = expected_cost(curve, 0.4, 10.0)
    at = np.flatnonzero(curve.thresholds == chosen[2].threshold)[0]
    assert cost[at] == pytest.approx(cost.min())
    # at the validation cases' own prevalence a calibrated model's best threshold is 1 / (1 + ratio)
    own = trust.choose_threshold(validation, trust.ThresholdRule("malignant", "cost", cost_ratio=4.0))
    assert own.threshold == pytest.approx(0.2, abs=0.06)


def test_wrong_rules_are_sentences():
    with pytest.raises(ConfigError, match="cannot be had"):
        trust.ThresholdRule("ill", "sensitivity", 95)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        trust.ThresholdRule("ill", "cost", prevalence=5)
    with pytest.raises(ConfigError, match="above 0"):
        trust.ThresholdRule("ill", "cost", cost_ratio=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        trust.SetRule(coverage=90)
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        trust.AbstentionRule("risk", 5)
    with pytest.raises(ClassMismatch, match="malignant"):
        trust.choose_threshold(drawn(20, 0), trust.ThresholdRule("malign"))
    with pytest.raises(ConfigError, match="0 of 3 cases are 'ill'"):
        trust.choose_threshold(two([0.1, 0.2, 0.3], [0, 0, 0]), trust.ThresholdRule("ill"))


# -- prediction sets


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


# -- abstaining


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


# -- curves


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
