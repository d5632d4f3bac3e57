"""Calibration, thresholds, prediction sets and abstaining: by simulation where they promise, by hand elsewhere."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from shpeft import trust
from shpeft.errors import ClassMismatch, ConfigError
from shpeft.evaluation import Predictions, evaluate
from shpeft.temperature import calibrate, fit_temperature, refinement_loss
from shpeft.trust.calibration import reliability
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


# -- abstaining


# -- curves
