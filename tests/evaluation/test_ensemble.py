"""Means of predictions, and the disagreement of those who made them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shpeft.evaluation.ensemble import disagreement, mean_of
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task


def predictions(p: object, task: Task = SINGLE_LABEL) -> Predictions:
    probabilities = np.asarray(p, dtype=np.float64)
    ids = tuple(map(str, range(len(probabilities))))
    return Predictions(ids, (0,) * len(ids), ids, tuple("abc"[: probabilities.shape[1]]), probabilities, task=task)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_disagreement_is_mutual_information(seed: int, members: int) -> None:
    """As the literal double sum of p(m) p(y|m) log(p(y|m) / p(y)) over members and classes, averaged over cases."""
    p = np.random.default_rng(seed).dirichlet(np.ones(3), size=(members, 4))
    literal = 0.0
    for case in range(4):
        for m in range(members):
            for y in range(3):
                mean = sum(p[other, case, y] for other in range(members)) / members
                literal += p[m, case, y] / members * math.log(p[m, case, y] / mean) / 4
    each = [predictions(of_member) for of_member in p]
    assert disagreement(each) == pytest.approx(literal, abs=1e-12)
    np.testing.assert_allclose(mean_of(each).probabilities, p.mean(0), atol=1e-15)
    assert 0 <= literal <= math.log(members)


def test_findings_disagree_one_by_one() -> None:
    a, b = (predictions([[p, 0.3]], MULTI_LABEL) for p in (0.0, 1.0))
    assert disagreement([a, b]) == pytest.approx(math.log(2) / 2)  # one of two findings, wholly


def test_numbers_have_no_such_disagreement() -> None:
    a, b = (predictions([[x]], REGRESSION) for x in (1.0, 4.0))
    assert disagreement([a, b]) is None
    assert mean_of([a, b]).probabilities.tolist() == [[2.5]]
