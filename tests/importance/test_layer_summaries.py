"""Layer summaries against the scores that they summarize."""

import pytest

from shpeft.config.schema import Formula, Norm, Score, SelectionConfig
from shpeft.datasets import Dataset
from shpeft.importance.layer_summaries import half_of_selected, reselected, summarize
from shpeft.importance.score_units import score_unit
from shpeft.importance.scores import estimate_importance
from shpeft.selection.top_k import select
from tests.conftest import tiny


def test_summaries_count_every_weight(data: Dataset) -> None:
    backbone = tiny()
    scores = estimate_importance(backbone, data.train, images=16)
    support = select(scores, 40)
    summaries = summarize(scores, support.counts())
    assert sum(s.selected for s in summaries) == 40
    for summary in summaries:
        values = scores.values[summary.name]
        assert sum(summary.counts) == summary.numel == values.numel()
        assert summary.mean == pytest.approx(float(values.mean()), rel=1e-5)
        assert summary.maximum == float(values.max())
        assert summary.quantiles[2] == pytest.approx(float(values.median()), rel=0.02)
        assert len(summary.edges) == len(summary.counts) + 1
        assert sum(count for _, _, count in summary.bins()) == summary.numel
        assert all(low < high for low, high, _ in summary.bins())


def test_half_of_the_selection_is_in_the_fewest_matrices(data: Dataset) -> None:
    summaries = summarize(estimate_importance(tiny(), data.train, "magnitude"))
    assert half_of_selected(summaries) == []
    counts = dict(zip([s.name for s in summaries], (1, 10, 4, 5), strict=False))
    full = half_of_selected(reselected(summaries, counts))
    assert [s.selected for s in full] == [10]
    assert [s.selected for s in half_of_selected(reselected(summaries, counts | {summaries[4].name: 1}))] == [10, 5]


@pytest.mark.parametrize("score", ["hybrid", "gradient", "fisher", "magnitude", "wanda", "random"])
@pytest.mark.parametrize("formula", ["product", "sum", "quota"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_every_score_has_a_unit_and_a_description(score: Score, formula: Formula, norm: Norm) -> None:
    config = SelectionConfig(score=score, formula=formula, norm=norm, lam=0.25)
    for which in ("hybrid", "task-specific", "task-agnostic"):
        unit = score_unit(config, which)
        assert unit.unit
        assert unit.description.endswith(".")
    if score == "hybrid" and formula == "sum":
        assert "0.75 × the task-specific plus 0.25 ×" in score_unit(config).description


def test_units_follow_from_the_equations() -> None:
    assert score_unit(SelectionConfig(norm="l1")).unit == "nats"
    assert score_unit(SelectionConfig(norm="l2")).unit == "nats²"
    assert score_unit(SelectionConfig(score="gradient", norm="l2")).unit == "nats per unit of weight"
    assert score_unit(SelectionConfig(score="fisher", norm="l1")).unit == "(nats per unit of weight)²"
    assert score_unit(SelectionConfig(norm="l2"), "task-agnostic").unit == "weight²"
