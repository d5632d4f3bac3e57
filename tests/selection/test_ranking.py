"""Rankings against selection: equal counts at every budget, with zero tolerance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft.config.schema import Formula, Spread
from shpeft.datasets import Dataset
from shpeft.errors import SelectionError
from shpeft.importance import weight_grid
from shpeft.importance.attention_heads import attention_heads
from shpeft.importance.scores import Scores, estimate_importance
from shpeft.importance.weight_grid import count_in_grid
from shpeft.runs import score_details
from shpeft.selection import top_k
from shpeft.selection.ranking import Rankings, budgets, rank_weights, rank_with_grids, score_parts
from shpeft.selection.top_k import select
from tests.conftest import tiny
from tests.helpers.present import present
from tests.helpers.scores import make_scores


def reloaded(rankings: Rankings) -> Rankings:
    """Return the rankings after a round trip through the file."""
    return score_details.parse_rankings(score_details.details_bytes(rankings, {}, {}))


def in_full(scores: Scores, k: int, spread: Spread = "none") -> dict[str, int]:
    """Return the count of each parameter in a selection, zeros included."""
    return {info.name: 0 for info in scores.infos} | select(scores, k, spread).counts()


@pytest.mark.parametrize("spread", ["row", "none"])
@pytest.mark.parametrize("formula", ["product", "sum", "quota"])
def test_counts_at_any_budget_equal_selection(data: Dataset, formula: Formula, spread: Spread) -> None:
    scores = estimate_importance(tiny(), data.train, formula=formula, lam=0.3, images=16)
    rankings = reloaded(rank_weights(scores, 40, ranked_share=0.05, spread=spread))
    assert rankings.reach == round(0.05 * scores.total) > 1000
    for k in (1, 2, 3, 7, 40, 333, 1000, rankings.reach - 1, rankings.reach):
        assert rankings.counts("hybrid", k) == in_full(scores, k, spread), k
        for which, half in zip(("task-specific", "task-agnostic"), present(scores.halves), strict=True):
            assert rankings.counts(which, k) == in_full(half, k, spread), (which, k)


@pytest.mark.parametrize(
    ("formula", "spread"), [("product", "row"), ("sum", "none"), ("quota", "none"), ("quota", "row")]
)
def test_grids_at_every_step_equal_selection(data: Dataset, formula: Formula, spread: Spread) -> None:
    backbone = tiny()
    heads = attention_heads(backbone)
    scores = estimate_importance(backbone, data.train, formula=formula, lam=0.3, images=16)
    rankings, fields = rank_with_grids(scores, 41, heads, ranked_share=0.05, spread=spread)
    file, infos = score_details.details_bytes(rankings, {}, fields), scores.infos
    for which, part in score_parts(scores).items():
        actual = present(score_details.parse_grids(file, which))
        assert 41 in actual.steps
        assert rankings.reach == actual.steps[-1] > 1000
        for k in [*actual.steps[-1::-7].tolist(), 1, 41]:
            chosen = select(part, k, spread).indices
            for info in infos:
                shown, expected = (
                    actual.grid(infos, info.name, k),
                    count_in_grid(chosen.get(info.name), info, heads.get(info.name, 0)),
                )
                assert np.array_equal(shown.counts, expected.counts), (which, k, info.name)
                assert np.array_equal(shown.rows, expected.rows)
                assert np.array_equal(shown.columns, expected.columns)


def test_foreign_grids_are_refused_and_older_files_have_none() -> None:
    scores = make_scores([torch.rand(200), torch.rand(100)], total=1000)
    rankings, fields = rank_with_grids(scores, 5, {})
    assert score_details.parse_grids(score_details.details_bytes(rankings, {}, {}), "hybrid") is None
    wrong = replace(fields["hybrid"], steps=fields["hybrid"].steps + 1)
    with pytest.raises(ValueError, match="do not belong"):
        score_details.parse_grids(score_details.details_bytes(rankings, {}, {"hybrid": wrong}), "hybrid")


def test_fields_with_many_new_weights_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add more weights to one field in one step than a byte can count."""
    monkeypatch.setattr(weight_grid, "BINS", 1)
    scores = make_scores([torch.rand(9000)])
    rankings, fields = rank_with_grids(scores, 5, {}, ranked_share=1.0)
    actual = present(score_details.parse_grids(score_details.details_bytes(rankings, {}, fields), "hybrid"))
    assert actual.added.max() > 255
    assert [actual.grid(scores.infos, scores.infos[0].name, k).counts.sum() for k in actual.steps] == list(actual.steps)


@given(st.data(), st.sampled_from(["plain", "quota"]), st.floats(0, 1))
def test_ties_are_broken_as_in_selection(draw: st.DataObject, kind: str, lam: float) -> None:
    few = st.sampled_from([0.0, 1.0, 1.5, 2.0])
    layers = [draw.draw(st.lists(few, min_size=8, max_size=20)) for _ in range(6)]
    specific, agnostic = (make_scores([torch.tensor(v[:8]) for v in part]) for part in (layers[:3], layers[3:]))
    scores = specific
    if kind == "quota":
        scores = Scores("quota", {}, specific.infos, specific.total, (specific, agnostic), lam)
    rankings = rank_weights(scores, 1, ranked_share=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "SAMPLE", 20)
        for k in range(1, scores.eligible + 1):
            assert rankings.counts("hybrid", k) == in_full(scores, k)


def test_shared_counts_equal_two_selections(data: Dataset) -> None:
    scores = estimate_importance(tiny(), data.train, images=16)
    rankings = reloaded(rank_weights(scores, 40, ranked_share=0.2))
    for k in (1, 40, 500, rankings.reach):
        a, b = (select(half, k).indices for half in present(scores.halves))
        both = {n: len(set(a[n].tolist()) & set(b[n].tolist())) if n in a and n in b else 0 for n in rankings.names}
        assert rankings.shared_counts(k) == both
    assert sum(both.values()) > 10


@pytest.mark.parametrize("spread", ["row", "none"])
def test_thresholds_are_exact_at_the_budget_in_use_and_bounded_elsewhere(data: Dataset, spread: Spread) -> None:
    scores = estimate_importance(tiny(), data.train, images=16)
    rankings = reloaded(rank_weights(scores, 1234, ranked_share=0.2, spread=spread))

    def lowest(k: int) -> float:
        chosen = select(scores, k, spread).indices.items()
        return min(float(scores.values[name].reshape(-1)[index].min()) for name, index in chosen)

    for k in (1, 5, 1234, 3333, rankings.reach):
        low, high = present(rankings.threshold("hybrid", k))
        assert low <= lowest(k) <= high
        assert high <= 1.01 * low or k == 5
    assert rankings.threshold("hybrid", 1234) == (lowest(1234),) * 2


def test_a_budget_beyond_the_ranking_is_refused() -> None:
    rankings = rank_weights(make_scores([torch.rand(200), torch.rand(100)], total=1000), 5)
    assert rankings.reach == 10
    assert rank_weights(make_scores([torch.rand(300)], total=1000), 30).reach == 30  # the budget in use
    with pytest.raises(SelectionError, match=r"ranks its 10 best weights, 1 % .* a budget of 11 is not among them"):
        rankings.counts("hybrid", 11)


def test_a_quota_without_a_specific_half_has_no_threshold() -> None:
    half = make_scores([torch.rand(20)])
    scores = Scores("quota", {}, half.infos, half.total, (half, half), 1.0)
    assert rank_weights(scores, 3).threshold("hybrid", 3) is None


def test_slider_steps_include_the_ends_and_the_budget_in_use() -> None:
    steps = budgets(215_551, also=(2156, 300_000))
    assert steps[0] == 1
    assert steps[-1] == 215_551
    assert 2156 in steps
    assert 300_000 not in steps
    assert steps == sorted(set(steps))
