"""Estimates of the remaining time."""

import pytest

from shpeft.support.progress import Eta


def test_eta_needs_evidence_and_follows_the_speed() -> None:
    now = [0.0]
    eta = Eta(clock=lambda: now[0])
    assert eta.update(0, 100) is None
    now[0] = 1.0
    assert eta.update(10, 100) is None  # one second is too short for an estimate
    now[0] = 4.0
    assert eta.update(40, 100) == pytest.approx(6.0)
    now[0] = 6.0
    assert eta.update(40, 100) == pytest.approx(4.0)  # time passes between observations
    for second in range(7, 80):
        now[0] = second
        left = eta.update(min(99, 40 + (second - 6) // 2), 100)
    assert left == pytest.approx(2 * (100 - 76), rel=0.15)
    assert eta.update(0, 50) is None
