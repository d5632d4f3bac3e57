"""Statistics of comparisons against known answers."""

import numpy as np
import pytest
from scipy import stats

from shpeft.compare.statistics import (
    Difference,
    bootstrap_difference,
    discordant,
    false_claim,
    holm,
    mean_difference,
    mean_sd,
    ranks,
    tost,
    wilcoxon,
)
from shpeft.errors import ClassMismatch
from shpeft.evaluation import Predictions


def predicted(right: np.ndarray, groups: list[str] | None = None, labels: np.ndarray | None = None) -> Predictions:
    """Two-class predictions that are right where ``right`` says so."""
    n = len(right)
    labels = np.arange(n) % 2 if labels is None else labels
    p = np.where(right, 0.9, 0.1)
    probabilities = np.where(np.eye(2)[labels] > 0, p[:, None], 1 - p[:, None])
    ids = tuple(map(str, range(n)))
    return Predictions(ids, tuple(map(int, labels)), tuple(groups or ids), ("no", "yes"), probabilities)


def test_mean_and_sample_deviation():
    assert mean_sd([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(1.5275252))
    assert np.isnan(mean_sd([1.0])[1])


def test_the_difference_is_the_mean_over_seeds():
    rights = [np.arange(100) < k for k in (90, 70)]
    base = [np.arange(100) < 60] * 2
    found = bootstrap_difference([[predicted(r)] for r in rights], [[predicted(r)] for r in base], "accuracy")
    assert found.value == pytest.approx(0.20)
    assert found.verdict == "better"


def test_an_arm_does_not_differ_from_itself():
    a = [[predicted(np.arange(50) % 3 > 0)]]
    found = bootstrap_difference(a, a, "balanced_accuracy", resamples=200)
    assert found.value == 0
    assert not found.replicates.any()
    assert found.verdict == "tie"


def test_its_interval_is_the_normal_one_for_independent_cases():
    rng = np.random.default_rng(0)
    x, y = rng.random(400) < 0.8, rng.random(400) < 0.7
    found = bootstrap_difference([[predicted(x)]], [[predicted(y)]], "accuracy", resamples=4000)
    error = (x.astype(float) - y).std() / np.sqrt(400)
    low, high = found.interval()
    assert low == pytest.approx(found.value - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(found.value + 1.96 * error, abs=0.1 * error)


def test_groups_of_m_copies_widen_it_by_the_root_of_m():
    rng = np.random.default_rng(1)
    x, y = rng.random(100) < 0.8, rng.random(100) < 0.7
    labels = np.arange(100) % 2
    one = bootstrap_difference([[predicted(x, labels=labels)]], [[predicted(y, labels=labels)]], "accuracy")
    x4, y4, labels4 = (np.repeat(v, 4) for v in (x, y, labels))
    groups = [str(i // 4) for i in range(400)]
    clustered = [[[predicted(v, groups, labels4)]] for v in (x4, y4)]
    free = [[[predicted(v, None, labels4)]] for v in (x4, y4)]
    width = [np.std(d.replicates) for d in (one, bootstrap_difference(*clustered, "accuracy"))]
    assert width[1] == pytest.approx(width[0])
    assert np.std(bootstrap_difference(*free, "accuracy").replicates) == pytest.approx(width[0] / 2, rel=0.1)


def test_seeds_that_disagree_widen_it():
    same = [[predicted(np.arange(100) < 70)], [predicted(np.arange(100) < 70)]]
    apart = [[predicted(np.arange(100) < 50)], [predicted(np.arange(100) < 90)]]
    base = [[predicted(np.arange(100) < 60)]] * 2
    calm, wild = (bootstrap_difference(a, base, "accuracy") for a in (same, apart))
    assert calm.value == pytest.approx(wild.value)
    assert wild.replicates.std() > 2 * calm.replicates.std()


def test_other_cases_or_seeds_are_refused():
    a, b = [[predicted(np.ones(10, bool))]], [[predicted(np.ones(12, bool))]]
    with pytest.raises(ClassMismatch, match="same cases"):
        bootstrap_difference(a, b, "accuracy")
    with pytest.raises(ClassMismatch, match="same seeds"):
        bootstrap_difference(a, a * 2, "accuracy")


def test_datasets_are_averaged():
    a, b = Difference(0.02, np.array([0.0, 0.04])), Difference(0.04, np.array([0.02, 0.06]))
    both = mean_difference([a, b])
    assert both.value == pytest.approx(0.03)
    assert both.replicates.tolist() == pytest.approx([0.01, 0.05])


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
