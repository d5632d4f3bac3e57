"""The statistics of comparisons give known answers."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from shpeft.compare.analysis.bootstrap import (
    Array,
    Difference,
    calibration_by_chance,
    draw,
    mean_difference,
    mean_sd,
    over_seeds,
    paired,
    recentered,
)
from shpeft.compare.analysis.cross_fitting import cross_fitted
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results
from shpeft.compare.analysis.significance import (
    Equivalence,
    critical_difference,
    discordant,
    false_claim,
    holm,
    ranks,
    tost,
    wilcoxon,
)
from shpeft.errors import ClassMismatch
from shpeft.evaluation.by_task import at_temperature
from shpeft.evaluation.metrics import calibration_error, weighted_metrics
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import fit_temperature
from tests.helpers.comparison_tables import made_up, planned, predicted


def difference_of(
    a: list[Predictions],
    b: list[Predictions],
    metric: str = "accuracy",
    *,
    resamples: int = 2000,
    larger_is_better: bool = True,
) -> Difference:
    """The paired difference of predictions, with one element for each seed."""
    weights = draw([x.groups for x in a], resamples, 0)
    x, y = (
        np.array([weighted_metrics(p, w)[metric] for p, w in zip(of_seeds, weights, strict=True)])
        for of_seeds in (a, b)
    )
    return paired(x, y, 0, larger_is_better=larger_is_better)


def equivalence(difference: Difference, margin: float) -> Equivalence:
    """The equivalence tests of a difference that has a spread."""
    tested = tost(difference, margin)
    assert tested is not None
    return tested


def test_mean_and_sample_deviation() -> None:
    mean, sd = mean_sd([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert sd == pytest.approx(1.5275252)
    assert np.isnan(mean_sd([1.0])[1])


def test_the_difference_is_the_mean_over_seeds() -> None:
    rights, base = [np.arange(100) < k for k in (90, 70)], [np.arange(100) < 60] * 2
    result = difference_of([predicted(r) for r in rights], [predicted(r) for r in base])
    assert result.value == pytest.approx(0.20)
    assert result.verdict == "better"
    assert difference_of([predicted(r) for r in base], [predicted(r) for r in rights]).verdict == "worse"


def test_identical_predictions_are_not_a_tie_and_never_equivalent() -> None:
    a = [predicted(np.arange(50) % 3 > 0)] * 2
    result = difference_of(a, a, "balanced_accuracy", resamples=200)
    assert result.same
    assert result.verdict == "same"
    assert result.smallest is None
    assert result.p == 1
    assert tost(result, 0.01) is None
    surer = [predicted(np.arange(50) % 3 > 0, 0.7)] * 2  # the same decisions with other probabilities
    assert difference_of(a, surer, "accuracy", resamples=200).same
    assert not difference_of(a, surer, "ece", resamples=200).same


def test_one_flat_dataset_forbids_equivalence_of_the_mean() -> None:
    calm = Difference(0.0, np.linspace(-0.001, 0.001, 100))
    assert equivalence(mean_difference([calm, calm]), 0.01).equivalent
    mixed = mean_difference([calm, Difference(0.0, np.zeros(100), flat=1)])
    assert (mixed.parts, mixed.flat) == (2, 1)
    assert mixed.verdict == "tie"
    assert tost(mixed, 0.01) is None


def test_less_is_better_where_it_is_an_error() -> None:
    right = np.arange(200) < 180
    good, bad = [predicted(right, 0.9)], [predicted(right, 0.6)]
    result = difference_of(good, bad, "ece", larger_is_better=False)
    assert result.value == pytest.approx(-0.3)
    assert result.verdict == "better"
    assert equivalence(result, 0.01).not_worse
    assert not equivalence(difference_of(bad, good, "ece", larger_is_better=False), 0.01).not_worse


def test_the_interval_is_the_normal_one_for_independent_cases() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(400) < 0.8, rng.random(400) < 0.7
    result = difference_of([predicted(x)], [predicted(y)], resamples=4000)
    error = (x.astype(float) - y).std() / np.sqrt(400)
    low, high = result.interval()
    assert low == pytest.approx(result.value - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(result.value + 1.96 * error, abs=0.1 * error)
    assert result.smallest == pytest.approx(2.80 * error, rel=0.05)
    assert result.p == pytest.approx(2 * stats.norm.sf(result.value / error), abs=0.02)


def test_groups_of_m_copies_widen_the_interval_by_the_root_of_m() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random(100) < 0.8, rng.random(100) < 0.7
    single = difference_of([predicted(x)], [predicted(y)])
    x4, y4 = np.tile(x, 4), np.tile(y, 4)
    groups = tuple(str(i % 100) for i in range(400))
    clustered = difference_of([predicted(x4, groups=groups)], [predicted(y4, groups=groups)])
    assert clustered.replicates.std() == pytest.approx(single.replicates.std(), rel=0.06)
    assert difference_of([predicted(x4)], [predicted(y4)]).replicates.std() == pytest.approx(
        single.replicates.std() / 2, rel=0.1
    )


def test_seeds_share_their_test_cases() -> None:
    """Three identical seeds count as one, not as three times the cases."""
    rng = np.random.default_rng(2)
    x, y = predicted(rng.random(100) < 0.8), predicted(rng.random(100) < 0.7)
    single, three = difference_of([x], [y]), difference_of([x] * 3, [y] * 3)
    assert three.replicates.std() == pytest.approx(single.replicates.std(), rel=1e-9)
    first, second = draw([("p", "q", "r"), ("q", "r", "s")], 50, 0)
    assert np.array_equal(first[:, 1:], second[:, :2])
    assert first.shape == (51, 3)


def test_differing_seeds_widen_the_interval_like_the_error_of_their_mean() -> None:
    by_seed = np.repeat([[0.1], [0.3], [0.5]], 20_001, axis=1)  # no variation over cases
    result = over_seeds(by_seed, 0)
    assert result[0] == pytest.approx(0.3)
    assert result[1:].std() == pytest.approx(np.std([0.1, 0.3, 0.5], ddof=1) / np.sqrt(3), rel=0.02)
    assert not np.ptp(over_seeds(by_seed[:1], 0))


def test_intervals_cover_the_result_of_another_training_on_other_cases() -> None:
    """With differing seeds that share cases, about 95 of 100 intervals contain the truth."""
    rng, held = np.random.default_rng(3), 0
    for experiment in range(300):
        ability = rng.normal(size=(1, 150)) + 0.15 * rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(3, 150))
        truth = stats.norm.cdf(0.5 / np.sqrt(1 + 0.15**2 + 0.3**2))
        weights = draw([tuple(map(str, range(150)))] * 3, 400, experiment)[0]
        result = over_seeds((ability + 0.5 > 0) @ weights.T / 150, experiment)
        low, high = np.quantile(result[1:], [0.025, 0.975])
        held += low <= truth <= high
    assert 0.90 <= held / 300 <= 0.99


def test_different_seeds_are_refused() -> None:
    with pytest.raises(ClassMismatch, match="same seeds"):
        paired(np.ones((1, 5)), np.ones((2, 5)), 0)


def test_datasets_are_averaged() -> None:
    a, b = Difference(0.02, np.array([0.0, 0.04])), Difference(0.04, np.array([0.02, 0.06]))
    both = mean_difference([a, b])
    assert both.value == pytest.approx(0.03)
    assert both.replicates.tolist() == pytest.approx([0.01, 0.05])


def test_intervals_of_calibration_errors_allow_for_their_bias() -> None:
    """One model is calibrated, one overconfident: samples and resamples shrink the difference."""
    rng, truth, covered = np.random.default_rng(0), 0.1, np.zeros(2)
    sure = np.tile(np.linspace(0.5, 0.85, 125), 2)

    def errors(excess: float, weights: Array) -> Array:
        return calibration_error(sure, rng.random(250) < sure - excess, weights)

    for _ in range(60):
        weights = np.vstack([np.ones(250), rng.multinomial(250, np.full(250, 1 / 250), 200)])
        result = paired(errors(truth, weights)[None], errors(0, weights)[None], 0)
        for at, difference in enumerate((result, recentered(result))):
            low, high = difference.interval()
            covered[at] += low <= truth <= high
    assert covered[1] >= covered[0] + 5


def test_calibration_by_chance_is_that_of_drawn_outcomes() -> None:
    sure = np.tile(np.linspace(0.5, 0.99, 100), 3)
    rng = np.random.default_rng(1)
    drawn = [calibration_error(sure, rng.random(300) < sure, np.ones((1, 300)))[0] for _ in range(400)]
    assert calibration_by_chance(sure) == pytest.approx(np.mean(drawn), abs=0.003)


def test_wilcoxon_of_five_wins_is_two_in_thirty_two() -> None:
    assert wilcoxon([0.01, 0.02, 0.03, 0.04, 0.05]) == 2 / 32
    assert wilcoxon([0.0, 0.0, 0.0]) == 1.0


def test_holm_agrees_with_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_mean_ranks_share_ties_and_friedman_agrees_with_scipy() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.8, 0.8, 0.6], [0.9, 0.5, 0.4]])
    result = ranks(scores)
    assert result.mean == (1.125, 2.125, 2.75)
    assert result.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert ranks(scores[:, :2]).p is None
    assert ranks(np.ones((4, 3))).p == 1.0


def test_nemenyi_agrees_with_demsar_s_table() -> None:
    """Demšar 2006: 4 classifiers on 14 datasets at 5 %: q = 2.569, a critical difference of 1.25."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert critical_difference(10, 5) == pytest.approx(3.164 * np.sqrt(10 * 11 / 30), abs=2e-3)


def test_false_claims_agree_with_the_publication() -> None:
    """156 cases, 10 % discordance, one point ahead: 0.35."""
    assert false_claim(156 * 0.055, 156 * 0.045) == pytest.approx(0.35, abs=0.005)
    assert false_claim(0, 0) == 0.5
    assert false_claim(1, 0) == pytest.approx(1 / 4)  # Beta(2, 1) has the distribution function x²


def test_false_claim_is_the_dirichlet_integral() -> None:
    draws = np.random.default_rng(0).dirichlet([7 + 1, 4 + 1, 60 - 11 + 2], size=200_000)
    assert false_claim(7, 4) == pytest.approx((draws[:, 0] <= draws[:, 1]).mean(), abs=0.005)


def test_discordant_cases_are_counted_over_seeds_and_masks() -> None:
    x, y = predicted(np.array([1, 1, 0, 0], bool)), predicted(np.array([1, 0, 1, 0], bool))
    perfect = predicted(np.ones(4, bool))
    assert discordant([[x]], [[y]]) == (1.0, 1.0)
    assert discordant([[perfect]], [[x, y]]) == (2.0, 0.0)


def test_tost_agrees_with_the_normal_distribution() -> None:
    replicates = stats.norm(0.002, 0.004).ppf((np.arange(4000) + 0.5) / 4000)
    result = equivalence(Difference(0.002, replicates), 0.01)
    assert result.p_better == pytest.approx(stats.norm.sf(2.0), abs=1e-3)
    assert result.p_worse == pytest.approx(stats.norm.cdf(-3.0), abs=1e-3)
    assert result.equivalent
    assert result.not_worse
    wide = equivalence(Difference(0.008, replicates + 0.006), 0.01)
    assert wide.not_worse
    assert not wide.equivalent


def test_cross_fitting_uses_other_groups_alone() -> None:
    """Probabilities that are too sure are corrected as by hand: each fold at the temperature of the others."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 90)
    logits = np.eye(3)[labels] * 1.5 + rng.normal(size=(90, 3))
    p = np.exp(4 * logits) / np.exp(4 * logits).sum(1, keepdims=True)
    groups = tuple(f"patient {i // 2}" for i in range(90))
    predictions = Predictions(groups, tuple(labels.tolist()), groups, ("a", "b", "c"), p)
    fitted = cross_fitted(predictions)
    temperatures = np.log(p[:, 0] / p[:, 1]) / np.log(fitted.probabilities[:, 0] / fitted.probabilities[:, 1])
    assert len({round(float(t), 6) for t in temperatures}) == 5
    for t in np.unique(temperatures.round(6)):
        inside = np.isclose(temperatures, t, atol=1e-5)
        assert not {groups[i] for i in np.flatnonzero(inside)} & {groups[i] for i in np.flatnonzero(~inside)}
        assert t == pytest.approx(fit_temperature(p[~inside], labels[~inside].tolist())[0], rel=1e-4)
    assert 2 < temperatures.mean() < 8


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_log_loss_is_that_of_the_calibrated_probabilities(tmp_path: Path, temperature: float | None) -> None:
    """At each cell's temperature, or at cross-fitted ones where a cell has none."""
    plan = planned()
    results = Results(plan, made_up(tmp_path, plan))
    if temperature is not None:
        for record in results.records:
            record["temperature"] = temperature
    entry = results.method
    for record in results.rows(entry):
        predictions = results.predictions(record["key"])
        predictions = cross_fitted(predictions) if temperature is None else at_temperature(predictions, temperature)
        p = predictions.probabilities[np.arange(len(predictions.labels)), list(predictions.labels)]
        assert results.value(record, "log_loss") == pytest.approx(-np.log(p).mean())
    replicates = Bootstrap(results, 10).by_seed(entry, "a", "log_loss")
    assert {seed: values[0] for seed, values in replicates.items()} == pytest.approx(
        results.by_seed(entry, "a", "log_loss")
    )
