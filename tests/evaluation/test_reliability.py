"""Calibration and thresholds, by simulation and against scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from shpeft import evaluation
from shpeft.errors import ClassMismatch, ConfigError
from shpeft.evaluation.calibration import calibration_bins
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.temperature import calibrate, fit_temperature, refinement_loss
from shpeft.evaluation.thresholds import expected_cost
from tests.helpers.predictions import CLASSES, binary_predictions, sample_predictions
from tests.helpers.present import present

# -- proportions


def test_proportion_interval_is_wilsons() -> None:
    k, n, z = 7, 20, 1.959963984540054
    middle, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    assert evaluation.Proportion(k, n).interval == pytest.approx((middle - half, middle + half))
    assert evaluation.Proportion(20, 20).interval[1] == 1
    assert evaluation.Proportion(20, 20).interval[0] == pytest.approx(0.8389, abs=1e-4)
    assert np.isnan(evaluation.Proportion(0, 0).value)
    assert str(evaluation.Proportion(0, 0)) == "no cases"


# -- calibration


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_fit_recovers_the_temperature(overconfidence: float) -> None:
    validation = sample_predictions(20_000, 1, overconfidence=overconfidence)
    result, (low, high) = fit_temperature(validation.probabilities, validation.labels)
    assert low < result < high
    assert result == pytest.approx(overconfidence, rel=0.04)  # 20 000 labels know it that well


def test_temperature_minimizes_the_loss_on_a_grid() -> None:
    validation = sample_predictions(80, 2, overconfidence=2.0)
    p, y = validation.probabilities, np.asarray(validation.labels)

    def loss(t: float) -> float:
        q = calibrate(p, t)
        return float(-np.log(q[range(80), y]).sum() - np.log(q).mean())

    grid = np.exp(np.linspace(np.log(0.3), np.log(8), 4000))
    assert fit_temperature(p, validation.labels)[0] == pytest.approx(grid[np.argmin([loss(t) for t in grid])], rel=2e-3)


def test_temperature_interval_has_nominal_coverage() -> None:
    held = []
    for seed in range(200):
        validation = sample_predictions(60, seed, overconfidence=2.0)
        _, (low, high) = fit_temperature(validation.probabilities, validation.labels)
        held.append(low <= 2.0 <= high)
    assert 0.9 < np.mean(held) <= 1


def test_calibration_lowers_the_held_out_error_and_keeps_the_order() -> None:
    validation, test = (sample_predictions(3000, seed, overconfidence=3.0) for seed in (3, 4))
    result = evaluation.fit_reliability(validation, test=test)
    tested = present(result.test).calibration
    assert tested.ece_before.value > 0.1
    assert tested.ece_after.value < 0.03
    assert tested.ece_change.high < 0
    after = evaluation.calibrate_predictions(test, result.calibration.temperature)
    for own, errors in ((test, "before"), (after, "after")):
        metrics = evaluate(own, resamples=0)
        assert getattr(tested, f"ece_{errors}").value == pytest.approx(metrics.ece.value)
        assert getattr(tested, f"brier_{errors}").value == pytest.approx(metrics.brier.value)
    assert np.array_equal(np.argsort(after.probabilities, 1), np.argsort(test.probabilities, 1))
    assert after.probabilities.sum(1) == pytest.approx(np.ones(3000))


def test_temperature_stays_positive_for_a_perfect_model() -> None:
    p = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1))
    t, _ = fit_temperature(p, [0, 1] * 20)
    assert 0.2 < t < 1
    assert calibrate(p, t).max() == pytest.approx(1 - 0.5 / 41, abs=1e-3)  # as of 40 right cases and half a wrong one


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    assert np.isfinite(calibrate(np.array([1.0, 0.0, 0.0]), 3.0)).all()
    assert np.isfinite(fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), [0, 1, 1])[0])


def test_refinement_loss_ignores_confidence() -> None:
    """The lowest loss on a grid of temperatures; scaling the logits changes nothing, mixing up the order does."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 500)
    z = 2 * np.eye(3)[labels] + rng.normal(size=(500, 3))
    result = refinement_loss(softmax(z, 1), labels.tolist())
    grid = [-np.log(softmax(z / t, 1)[range(500), labels]).mean() for t in np.geomspace(0.1, 10, 2000)]
    assert result == pytest.approx(min(grid), rel=1e-3)  # the extra uniform case of the fit
    assert refinement_loss(softmax(5 * z, 1), labels.tolist()) == pytest.approx(result, rel=1e-4)
    assert refinement_loss(softmax(z + rng.normal(size=(500, 3)), 1), labels.tolist()) > result + 0.1


def test_bins_have_equal_mass_and_cover_0_to_1() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(200)
    bins = calibration_bins(p, rng.random(200) < p)
    assert [result.observed.cases for result in bins] == [20] * 10
    assert bins[0].low == 0
    assert bins[-1].high == 1
    assert all(a.high == b.low for a, b in pairwise(bins))
    for result in bins:
        inside = (p >= result.low) & (p < result.high)
        assert result.mean == pytest.approx(p[inside].mean())
    assert len(calibration_bins(p[:35], p[:35] > 2)) == 3  # at least ten cases in each
    assert len(calibration_bins(np.full(100, 0.5), np.arange(100) < 40)) == 1


def test_bin_intervals_cover_a_calibrated_model() -> None:
    held = []
    for seed in range(40):
        result = evaluation.calibration_curve(sample_predictions(400, seed), "malignant")
        held += [low <= b.mean <= high for b in result for low, high in [b.observed.interval]]
    assert 0.9 < np.mean(held) < 0.99  # 400 intervals of 95 %


def test_evidence_counts_similar_validation_cases() -> None:
    validation = sample_predictions(300, 6)
    result = evaluation.fit_reliability(validation)
    judged = evaluation.assess_case(result, [0.2, 0.7, 0.1])
    p = evaluation.calibrate_predictions(validation, result.calibration.temperature).probabilities
    for c, (behind, own) in enumerate(zip(judged.evidence, judged.probabilities, strict=True)):
        assert behind.low <= own < behind.high
        inside = (p[:, c] >= behind.low) & (p[:, c] < behind.high)
        truth = np.asarray(validation.labels) == c
        assert (behind.observed.cases, behind.observed.count) == (inside.sum(), (inside & truth).sum())


# -- thresholds


def test_threshold_follows_its_rule() -> None:
    validation = binary_predictions([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], [0, 0, 1, 0, 0, 1, 1, 1])
    youden = evaluation.choose_threshold(validation, evaluation.ThresholdRule("ill"))
    assert youden.threshold == pytest.approx(0.65)
    assert (youden.validation.sensitivity.count, youden.validation.specificity.count) == (3, 4)
    sensitive = evaluation.choose_threshold(validation, evaluation.ThresholdRule("ill", "sensitivity", 0.95))
    assert sensitive.threshold == pytest.approx(0.25)
    specific = evaluation.choose_threshold(validation, evaluation.ThresholdRule("ill", "specificity", 0.75))
    assert specific.threshold == pytest.approx(0.5)
    assert specific.validation.specificity.value == 0.75
    other = evaluation.choose_threshold(validation, evaluation.ThresholdRule("healthy", "sensitivity", 1.0))
    assert other.threshold == pytest.approx(0.35)  # of being healthy


@pytest.mark.parametrize("positive", CLASSES)
def test_rates_equal_scikit_learn(positive: str) -> None:
    validation, c = sample_predictions(200, 7), CLASSES.index(positive)
    curve = evaluation.threshold_curve(validation, positive)
    truth = np.asarray(validation.labels) == c
    for at in range(0, len(curve.thresholds), 17):
        called = validation.probabilities[:, c] >= curve.thresholds[at]
        result = evaluation.rates(validation, positive, float(curve.thresholds[at]))
        assert result.sensitivity.value == curve.sensitivity[at] == pytest.approx(sk.recall_score(truth, called))
        assert result.specificity.value == curve.specificity[at]
        assert result.specificity.value == pytest.approx(sk.recall_score(~truth, ~called))
    assert (curve.sensitivity[0], curve.specificity[0]) == (1, 0)
    assert (curve.sensitivity[-1], curve.specificity[-1]) == (0, 1)


def test_cost_threshold_follows_prevalence_and_cost_ratio() -> None:
    validation = sample_predictions(4000, 8)
    curve = evaluation.threshold_curve(validation, "malignant")
    chosen = [
        evaluation.choose_threshold(
            validation, evaluation.ThresholdRule("malignant", "cost", prevalence=p, cost_ratio=r)
        )
        for p, r in ((0.02, 1.0), (0.02, 10.0), (0.4, 10.0))
    ]
    assert chosen[0].threshold > chosen[1].threshold > chosen[2].threshold
    cost = expected_cost(curve, 0.4, 10.0)
    at = np.flatnonzero(curve.thresholds == chosen[2].threshold)[0]
    assert cost[at] == pytest.approx(cost.min())
    # at the validation cases' own prevalence a calibrated model's best threshold is 1 / (1 + ratio)
    own = evaluation.choose_threshold(validation, evaluation.ThresholdRule("malignant", "cost", cost_ratio=4.0))
    assert own.threshold == pytest.approx(0.2, abs=0.06)


def test_invalid_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="out of range"):
        evaluation.ThresholdRule("ill", "sensitivity", 95)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluation.ThresholdRule("ill", "cost", prevalence=5)
    with pytest.raises(ConfigError, match="above 0"):
        evaluation.ThresholdRule("ill", "cost", cost_ratio=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluation.SetRule(coverage=90)
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        evaluation.AbstentionRule("risk", 5)
    with pytest.raises(ClassMismatch, match="malignant"):
        evaluation.choose_threshold(sample_predictions(20, 0), evaluation.ThresholdRule("malign"))
    with pytest.raises(ConfigError, match="0 of 3 cases are 'ill'"):
        evaluation.choose_threshold(binary_predictions([0.1, 0.2, 0.3], [0, 0, 0]), evaluation.ThresholdRule("ill"))
