"""Secure random numbers have their distributions, and depend on no seed."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from shpeft.support import secure_random
from shpeft.support.secure_random import secure_normal, secure_uniform

UNLIKELY = 1e-9
"""The probability with which a test of a distribution fails by chance."""


def test_the_distributions_are_right() -> None:
    normal, uniform = secure_normal((300, 1_001)).double().reshape(-1).numpy(), secure_uniform(300_000).numpy()
    assert kstest(normal, "norm").pvalue > UNLIKELY
    assert kstest(uniform, "uniform").pvalue > UNLIKELY
    for lag in (1, 2, 150_150):  # both numbers of a pair among them
        assert abs(np.corrcoef(normal[:-lag], normal[lag:])[0, 1]) < 6 / len(normal[lag:]) ** 0.5


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9])
def test_chunks_leave_no_number_out(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure_random, "CHUNK", 2)
    numbers = secure_normal((count,))
    assert numbers.shape == (count,)
    assert numbers.isfinite().all()
    assert len(numbers.unique()) == count


def test_no_seed_decides_them() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    first = secure_normal((50,))
    torch.manual_seed(0)
    np.random.seed(0)
    assert not bool((first == secure_normal((50,))).any())


def test_the_extremes_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte in (b"\x00", b"\xff"):
        monkeypatch.setattr("secrets.token_bytes", lambda count, byte=byte: byte * count)
        assert secure_normal((3,)).isfinite().all()
        assert 0 <= float(secure_uniform(1)) < 1
