"""Summaries against the scores that they stand for."""

import pytest

from shpeft.importance import estimate_importance
from shpeft.selection import select
from shpeft.summaries import summarise

from .conftest import tiny


def test_summaries_count_every_weight(data):
    backbone = tiny()
    scores = estimate_importance(backbone, data.train, images=16)
    support = select(scores, 40)
    summaries = summarise(scores, support.counts())
    assert sum(s.selected for s in summaries) == 40
    for summary in summaries:
        values = scores.values[summary.name]
        assert sum(summary.counts) == summary.numel == values.numel()
        assert summary.mean == pytest.approx(float(values.mean()), rel=1e-5)
        assert summary.maximum == float(values.max())
        assert summary.quantiles[2] == pytest.approx(float(values.median()), rel=0.02)
        assert len(summary.edges) == len(summary.counts) + 1
