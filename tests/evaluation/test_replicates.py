"""Numbers of several runs against SciPy, and folds against one set of predictions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.replicates import pool_folds, summarize_replicates


def test_the_interval_is_that_of_the_t_test() -> None:
    values = [0.71, 0.78, 0.69, 0.75, 0.74]
    result = summarize_replicates(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert (result.mean, result.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    alone = summarize_replicates([0.7])
    assert (alone.mean, alone.runs) == (0.7, 1)
    assert np.isnan([alone.sd, alone.low, alone.high]).all()


def test_pooled_folds_are_the_predictions_of_all_their_cases() -> None:
    p = np.random.default_rng(0).dirichlet((1, 1), 20)
    whole = Predictions(
        tuple(map(str, range(20))), (0, 1) * 10, tuple(f"{n // 5}:{n % 5 // 2}" for n in range(20)), ("a", "b"), p
    )

    def part(rows: slice) -> Predictions:
        groups = tuple(group.split(":")[1] for group in whole.groups[rows])  # each run numbers its own groups
        return replace(whole, ids=whole.ids[rows], labels=whole.labels[rows], groups=groups, probabilities=p[rows])

    pooled = pool_folds([part(slice(at, at + 5)) for at in range(0, 20, 5)])
    assert pooled.ids == whole.ids
    assert evaluate(pooled).to_dict() == evaluate(whole).to_dict()
    with pytest.raises(ValueError, match="different cases"):
        pool_folds([part(slice(0, 5)), part(slice(4, 9))])
