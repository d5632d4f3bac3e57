"""ε of one mechanism and of several together, against known values, a closed form, and another accountant."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from shpeft.training.privacy_accounting import ORDERS, Mechanism, composed_epsilon

DELTA = 1e-5

TRAINING = Mechanism(1.0, 0.01, 1_000)

KNOWN = [
    ([Mechanism(1.1, 256 / 60_000, 14_100)], 2.6003),
    ([Mechanism(1.0)], 4.7285),
    ([TRAINING], 2.1014),
    ([Mechanism(2.0, 0.1, 200)], 3.6797),
    ([Mechanism(4.0), TRAINING], 2.3423),
    ([Mechanism(1.0), Mechanism(2.0, 0.1, 200)], 6.2294),
]
"""Mechanisms, and their ε together by dp-accounting 0.6.0: by the same divergences, at orders in between as well."""

MORE = 1.011
"""How many times as large ε may be, since the best order need not be a whole number."""


@pytest.mark.parametrize(("mechanisms", "epsilon"), KNOWN)
def test_epsilon_is_that_of_another_accountant(mechanisms: list[Mechanism], epsilon: float) -> None:
    assert 0.9999 * epsilon <= composed_epsilon(mechanisms, DELTA) <= MORE * epsilon
    if find_spec("dp_accounting") is not None:
        assert accounted(mechanisms) == pytest.approx(epsilon, rel=1e-4)


def accounted(mechanisms: list[Mechanism]) -> float:
    """Return ε of the package dp-accounting, by the same kind of divergence."""
    import dp_accounting
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    for each in mechanisms:
        event = dp_accounting.GaussianDpEvent(each.noise)
        accountant.compose(
            event if each.rate == 1 else dp_accounting.PoissonSampledDpEvent(each.rate, event), each.steps
        )
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 4.0, 10.0])
def test_one_query_costs_no_less_than_the_exact_epsilon_and_little_more(noise: float) -> None:
    """δ(ε) of one Gaussian query in closed form: Balle and Wang (2018, arXiv 1805.06530, theorem 8)."""

    def excess(epsilon: float) -> float:
        half = 1 / (2 * noise)
        return float(norm.cdf(half - epsilon * noise) - math.exp(epsilon) * norm.cdf(-half - epsilon * noise) - DELTA)

    exact = brentq(excess, 1e-6, 50.0)
    own = composed_epsilon([Mechanism(noise)], DELTA)
    assert exact <= own <= 1.12 * exact


def test_without_subsampling_the_divergence_is_that_of_two_gaussians() -> None:
    for noise in (0.5, 2.0):
        np.testing.assert_allclose(Mechanism(noise, steps=3).divergences(), 3 * ORDERS / (2 * noise**2), rtol=1e-9)


def test_epsilon_grows_with_steps_and_falls_with_noise() -> None:
    assert composed_epsilon([], DELTA) == composed_epsilon([Mechanism(1.0, 0.1, 0)], DELTA) == 0
    steps = [composed_epsilon([Mechanism(1.0, 0.1, steps)], DELTA) for steps in (10, 100, 1_000)]
    noise = [composed_epsilon([Mechanism(noise, 0.1, 100)], DELTA) for noise in (4.0, 2.0, 1.0)]
    assert steps == sorted(set(steps))
    assert noise == sorted(set(noise))


def test_a_second_query_costs_more_than_nothing_and_less_than_by_itself() -> None:
    training = composed_epsilon([TRAINING], DELTA)
    together = [composed_epsilon([Mechanism(noise), TRAINING], DELTA) for noise in (8.0, 4.0, 2.0, 1.0)]
    assert together == sorted(set(together))
    assert together[0] > training
    for noise, epsilon in zip((8.0, 4.0, 2.0, 1.0), together, strict=True):
        assert epsilon < training + composed_epsilon([Mechanism(noise)], DELTA)
        assert composed_epsilon([TRAINING, Mechanism(noise)], DELTA) == pytest.approx(epsilon, rel=1e-12)


def test_a_query_of_nothing_but_noise_costs_nothing() -> None:
    """At z = 10⁴ the divergences are below 512 / (2 · 10⁸)."""
    assert composed_epsilon([Mechanism(1e4), TRAINING], DELTA) == pytest.approx(
        composed_epsilon([TRAINING], DELTA), abs=3e-6
    )


def test_steps_may_be_counted_apart() -> None:
    whole, parts = [Mechanism(1.0, 0.1, 30)], [Mechanism(1.0, 0.1, 10), Mechanism(1.0, 0.1, 20)]
    assert composed_epsilon(parts, DELTA) == pytest.approx(composed_epsilon(whole, DELTA), rel=1e-12)
