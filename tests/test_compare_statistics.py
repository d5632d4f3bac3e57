"""Statistics of comparisons against known answers."""

import numpy as np
import pytest
from scipy import stats

from shpeft.compare.statistics import (
    Difference,
    calibration_by_chance,
    critical_difference,
    discordant,
    draw,
    false_claim,
    holm,
    mean_difference,
    mean_sd,
    over_seeds,
    paired,
    ranks,
    recentred,
    tost,
    wilcoxon,
)
from shpeft.errors import ClassMismatch
from shpeft.evaluation import calibration_error, weighted_metrics

from .comparisons import predicted


def difference_of(a, b, metric="accuracy", *, resamples=2000, **more) -> Difference:
    """The paired difference of predictions, one for each seed."""
    weights = draw([x.groups for x in a], resamples, 0)
    values = [np.array([weighted_metrics(x, w)[metric] for x, w in zip(of, weights, strict=True)]) for of in (a, b)]
    return paired(*values, 0, **more)


def test_mean_and_sample_deviation():
    assert mean_sd([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(1.5275252))
    assert np.isnan(mean_sd([1.0])[1])


def test_the_difference_is_the_mean_over_seeds():
    rights, base = [np.arange(100) < k for k in (90, 70)], [np.arange(100) < 60] * 2
    found = difference_of([predicted(r) for r in rights], [predicted(r) for r in base])
    assert found.value == pytest.approx(0.20)
    assert found.verdict == "better"
    assert difference_of([predicted(r) for r in base], [predicted(r) for r in rights]).verdict == "worse"


def test_the_same_predictions_are_no_tie_and_never_equivalent():
    a = [predicted(np.arange(50) % 3 > 0)] * 2
    found = difference_of(a, a, "balanced_accuracy", resamples=200)
    assert found.same
    assert found.verdict == "same"
    assert found.smallest is None
    assert found.p == 1
    assert tost(found, 0.01) is None
    surer = [predicted(np.arange(50) % 3 > 0, 0.7)] * 2  # the same decisions, other probabilities
    assert difference_of(a, surer, "accuracy", resamples=200).same
    assert not difference_of(a, surer, "ece", resamples=200).same


def test_one_flat_dataset_forbids_equivalence_of_the_mean():
    calm = Difference(0.0, np.linspace(-0.001, 0.001, 100))
    assert tost(mean_difference([calm, calm]), 0.01).equivalent
    mixed = mean_difference([calm, Difference(0.0, np.zeros(100), flat=1)])
    assert (mixed.parts, mixed.flat) == (2, 1)
    assert mixed.verdict == "tie"
    assert tost(mixed, 0.01) is None


def test_less_is_better_where_it_is_an_error():
    right = np.arange(200) < 180
    good, bad = [predicted(right, 0.9)], [predicted(right, 0.6)]
    found = difference_of(good, bad, "ece", larger_is_better=False)
    assert found.value == pytest.approx(-0.3)
    assert found.verdict == "better"
    assert tost(found, 0.01).not_worse
    assert not tost(difference_of(bad, good, "ece", larger_is_better=False), 0.01).not_worse


def test_its_interval_is_the_normal_one_for_independent_cases():
    rng = np.random.default_rng(0)
    x, y = rng.random(400) < 0.8, rng.random(400) < 0.7
    found = difference_of([predicted(x)], [predicted(y)], resamples=4000)
    error = (x.astype(float) - y).std() / np.sqrt(400)
    low, high = found.interval()
    assert low == pytest.approx(found.value - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(found.value + 1.96 * error, abs=0.1 * error)
    assert found.smallest == pytest.approx(2.80 * error, rel=0.05)
    assert found.p == pytest.approx(2 * stats.norm.sf(found.value / error), abs=0.02)


def test_groups_of_m_copies_widen_it_by_the_root_of_m():
    rng = np.random.default_rng(1)
    x, y = rng.random(100) < 0.8, rng.random(100) < 0.7
    one = difference_of([predicted(x)], [predicted(y)])
    x4, y4 = np.tile(x, 4), np.tile(y, 4)
    groups = tuple(str(i % 100) for i in range(400))
    clustered = difference_of([predicted(x4, groups=groups)], [predicted(y4, groups=groups)])
    assert clustered.replicates.std() == pytest.approx(one.replicates.std(), rel=0.06)
    assert difference_of([predicted(x4)], [predicted(y4)]).replicates.std() == pytest.approx(
        one.replicates.std() / 2, rel=0.1
    )


def test_seeds_share_their_test_cases():
    """Three seeds that say the same are one: not three times the cases."""
    rng = np.random.default_rng(2)
    x, y = predicted(rng.random(100) < 0.8), predicted(rng.random(100) < 0.7)
    one, three = difference_of([x], [y]), difference_of([x] * 3, [y] * 3)
    assert three.replicates.std() == pytest.approx(one.replicates.std(), rel=1e-9)
    first, second = draw([("p", "q", "r"), ("q", "r", "s")], 50, 0)
    assert np.array_equal(first[:, 1:], second[:, :2])
    assert first.shape == (51, 3)


def test_seeds_that_disagree_widen_it_as_a_mean_of_them_varies():
    by_seed = np.repeat([[0.1], [0.3], [0.5]], 20_001, axis=1)  # no variation over cases
    found = over_seeds(by_seed, 0)
    assert found[0] == pytest.approx(0.3)
    assert found[1:].std() == pytest.approx(np.std([0.1, 0.3, 0.5], ddof=1) / np.sqrt(3), rel=0.02)
    assert not np.ptp(over_seeds(by_seed[:1], 0))


def test_intervals_cover_what_another_training_on_other_cases_would_give():
    """Seeds that differ, and cases that they share: about 95 of 100 intervals hold the truth."""
    rng, held = np.random.default_rng(3), 0
    for experiment in range(300):
        ability = rng.normal(size=(1, 150)) + 0.15 * rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(3, 150))
        truth = stats.norm.cdf(0.5 / np.sqrt(1 + 0.15**2 + 0.3**2))
        weights = draw([tuple(map(str, range(150)))] * 3, 400, experiment)[0]
        found = over_seeds((ability + 0.5 > 0) @ weights.T / 150, experiment)
        low, high = np.quantile(found[1:], [0.025, 0.975])
        held += low <= truth <= high
    assert 0.90 <= held / 300 <= 0.99


def test_other_seeds_are_refused():
    with pytest.raises(ClassMismatch, match="same seeds"):
        paired(np.ones((1, 5)), np.ones((2, 5)), 0)


def test_datasets_are_averaged():
    a, b = Difference(0.02, np.array([0.0, 0.04])), Difference(0.04, np.array([0.02, 0.06]))
    both = mean_difference([a, b])
    assert both.value == pytest.approx(0.03)
    assert both.replicates.tolist() == pytest.approx([0.01, 0.05])


def test_intervals_of_calibration_errors_allow_for_their_bias():
    """One model is right as often as it says, one is too sure: samples and resamples shrink the difference."""
    rng, truth, covered = np.random.default_rng(0), 0.1, np.zeros(2)
    sure = np.tile(np.linspace(0.5, 0.85, 125), 2)

    def errors(excess, weights):
        return calibration_error(sure, rng.random(250) < sure - excess, weights)

    for _ in range(60):
        weights = np.vstack([np.ones(250), rng.multinomial(250, np.full(250, 1 / 250), 200)])
        found = paired(errors(truth, weights)[None], errors(0, weights)[None], 0)
        for at, difference in enumerate((found, recentred(found))):
            low, high = difference.interval()
            covered[at] += low <= truth <= high
    assert covered[1] >= covered[0] + 5


def test_calibration_by_chance_is_that_of_drawn_outcomes():
    sure = np.tile(np.linspace(0.5, 0.99, 100), 3)
    rng = np.random.default_rng(1)
    drawn = [calibration_error(sure, rng.random(300) < sure, np.ones((1, 300)))[0] for _ in range(400)]
    assert calibration_by_chance(sure) == pytest.approx(np.mean(drawn), abs=0.003)


def test_wilcoxon_of_five_wins_is_two_in_thirty_two():
    assert wilcoxon([0.01, 0.02, 0.03, 0.04, 0.05]) == 2 / 32
    assert wilcoxon([0.0, 0.0, 0.0]) == 1.0


def test_holm_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_mean_ranks_share_ties_and_friedman_is_scipy_s():
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.8, 0.8, 0.6], [0.9, 0.5, 0.4]])
    found = ranks(scores)
    assert found.mean == (1.125, 2.125, 2.75)
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert ranks(scores[:, :2]).p is None
    assert ranks(np.ones((4, 3))).p == 1.0


def test_nemenyi_of_the_table_of_demsar():
    """Demšar 2006: 4 classifiers on 14 datasets at 5 %: q = 2.569, a critical difference of 1.25."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert critical_difference(10, 5) == pytest.approx(3.164 * np.sqrt(10 * 11 / 30), abs=2e-3)


def test_false_claims_as_published():
    """156 cases, 10 % discordance, one point ahead: 0.35."""
    assert false_claim(156 * 0.055, 156 * 0.045) == pytest.approx(0.35, abs=0.005)
    assert false_claim(0, 0) == 0.5
    assert false_claim(1, 0) == pytest.approx(1 / 4)  # Beta(2, 1) has the distribution function x²


def test_false_claim_is_the_dirichlet_integral():
    draws = np.random.default_rng(0).dirichlet([7 + 1, 4 + 1, 60 - 11 + 2], size=200_000)
    assert false_claim(7, 4) == pytest.approx((draws[:, 0] <= draws[:, 1]).mean(), abs=0.005)


def test_discordant_cases_are_counted_over_seeds_and_masks():
    x, y = predicted(np.array([1, 1, 0, 0], bool)), predicted(np.array([1, 0, 1, 0], bool))
    perfect = predicted(np.ones(4, bool))
    assert discordant([[x]], [[y]]) == (1.0, 1.0)
    assert discordant([[perfect]], [[x, y]]) == (2.0, 0.0)


def test_tost_is_the_normal_answer():
    replicates = stats.norm(0.002, 0.004).ppf((np.arange(4000) + 0.5) / 4000)
    found = tost(Difference(0.002, replicates), 0.01)
    assert found.p_better == pytest.approx(stats.norm.sf(2.0), abs=1e-3)
    assert found.p_worse == pytest.approx(stats.norm.cdf(-3.0), abs=1e-3)
    assert found.equivalent
    assert found.not_worse
    wide = tost(Difference(0.008, replicates + 0.006), 0.01)
    assert wide.not_worse
    assert not wide.equivalent
