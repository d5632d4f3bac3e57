"""Rankings against selection itself: whatever the budget, the counts are the same, with zero tolerance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shpeft import matrices, selection
from shpeft.errors import SelectionError
from shpeft.importance import Scores, estimate_importance
from shpeft.matrices import attention_heads, grid
from shpeft.ranking import budgets, rank_inside, rank_weights, score_parts
from shpeft.runs import detailed
from shpeft.selection import Spread, select

from .conftest import tiny
from .test_selection import make_scores


def kept(rankings):
    """The rankings after a way through the file."""
    return detailed.parse_rankings(detailed.details_bytes(rankings, {}, {}))


def in_full(scores: Scores, k: int, spread: Spread = "none") -> dict[str, int]:
    """What ``select`` chooses, with a count for each parameter."""
    return {info.name: 0 for info in scores.infos} | select(scores, k, spread).counts()


@pytest.mark.parametrize("spread", ["row", "none"])
@pytest.mark.parametrize("formula", ["product", "sum", "quota"])
def test_counts_at_any_budget_are_those_of_selection(data, formula, spread):
    scores = estimate_importance(tiny(), data.train, formula=formula, lam=0.3, images=16)
    rankings = kept(rank_weights(scores, 40, largest=0.05, spread=spread))
    assert rankings.reach == round(0.05 * scores.total) > 1000
    for k in (1, 2, 3, 7, 40, 333, 1000, rankings.reach - 1, rankings.reach):
        assert rankings.counts("hybrid", k) == in_full(scores, k, spread), k
        for which, half in zip(("task-specific", "task-agnostic"), scores.halves, strict=True):
            assert rankings.counts(which, k) == in_full(half, k, spread), (which, k)


@pytest.mark.parametrize(
    ("formula", "spread"), [("product", "row"), ("sum", "none"), ("quota", "none"), ("quota", "row")]
)
def test_grids_at_every_step_are_those_of_selection(data, formula, spread):
    backbone = tiny()
    heads = attention_heads(backbone)
    scores = estimate_importance(backbone, data.train, formula=formula, lam=0.3, images=16)
    rankings, fields = rank_inside(scores, 41, heads, largest=0.05, spread=spread)
    file, infos = detailed.details_bytes(rankings, {}, fields), scores.infos
    for which, part in score_parts(scores).items():
        found = detailed.parse_fields(file, which)
        assert 41 in found.steps
        assert rankings.reach == found.steps[-1] > 1000
        for k in [*found.steps[-1::-7].tolist(), 1, 41]:
            chosen = select(part, k, spread).indices
            for info in infos:
                shown, expected = (
                    found.grid(infos, info.name, k),
                    grid(chosen.get(info.name), info, heads.get(info.name, 0)),
                )
                assert np.array_equal(shown.counts, expected.counts), (which, k, info.name)
                assert np.array_equal(shown.rows, expected.rows)
                assert np.array_equal(shown.columns, expected.columns)


def test_grids_of_other_parameters_and_of_older_files_are_told():
    scores = make_scores([torch.rand(200), torch.rand(100)], total=1000)
    rankings, fields = rank_inside(scores, 5, {})
    assert detailed.parse_fields(detailed.details_bytes(rankings, {}, {}), "hybrid") is None
    wrong = replace(fields["hybrid"], steps=fields["hybrid"].steps + 1)
    with pytest.raises(ValueError, match="do not belong"):
        detailed.parse_fields(detailed.details_bytes(rankings, {}, {"hybrid": wrong}), "hybrid")


def test_fields_with_many_new_weights_are_counted(monkeypatch):
    """More than a byte counts are added in one field by one step."""
    monkeypatch.setattr(matrices, "BINS", 1)
    scores = make_scores([torch.rand(9000)])
    rankings, fields = rank_inside(scores, 5, {}, largest=1.0)
    found = detailed.parse_fields(detailed.details_bytes(rankings, {}, fields), "hybrid")
    assert found.added.max() > 255
    assert [found.grid(scores.infos, scores.infos[0].name, k).counts.sum() for k in found.steps] == list(found.steps)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["plain", "quota"]), st.floats(0, 1))
def test_ties_are_broken_as_selection_breaks_them(draw, kind, lam):
    few = st.sampled_from([0.0, 1.0, 1.5, 2.0])
    layers = [draw.draw(st.lists(few, min_size=8, max_size=20)) for _ in range(6)]
    halves = tuple(make_scores([torch.tensor(v[:8]) for v in part]) for part in (layers[:3], layers[3:]))
    scores = halves[0]
    if kind == "quota":
        scores = Scores("quota", {}, halves[0].infos, halves[0].total, halves, lam)
    rankings = rank_weights(scores, 1, largest=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SAMPLE", 20)
        for k in range(1, scores.eligible + 1):
            assert rankings.counts("hybrid", k) == in_full(scores, k)


def test_shared_counts_are_those_of_two_selections(data):
    scores = estimate_importance(tiny(), data.train, images=16)
    rankings = kept(rank_weights(scores, 40, largest=0.2))
    for k in (1, 40, 500, rankings.reach):
        a, b = (select(half, k).indices for half in scores.halves)
        both = {n: len(set(a[n].tolist()) & set(b[n].tolist())) if n in a and n in b else 0 for n in rankings.names}
        assert rankings.shared_counts(k) == both
    assert sum(both.values()) > 10


@pytest.mark.parametrize("spread", ["row", "none"])
def test_thresholds_are_exact_at_the_budget_in_use_and_bounded_elsewhere(data, spread):
    scores = estimate_importance(tiny(), data.train, images=16)
    rankings = kept(rank_weights(scores, 1234, largest=0.2, spread=spread))

    def lowest(k: int) -> float:
        chosen = select(scores, k, spread).indices.items()
        return min(float(scores.values[name].reshape(-1)[index].min()) for name, index in chosen)

    for k in (1, 5, 1234, 3333, rankings.reach):
        low, high = rankings.threshold("hybrid", k)
        assert low <= lowest(k) <= high
        assert high <= 1.01 * low or k == 5
    assert rankings.threshold("hybrid", 1234) == (lowest(1234),) * 2


def test_more_than_is_ranked_is_a_sentence():
    rankings = rank_weights(make_scores([torch.rand(200), torch.rand(100)], total=1000), 5)
    assert rankings.reach == 10
    assert rank_weights(make_scores([torch.rand(300)], total=1000), 30).reach == 30  # the budget in use is answered
    with pytest.raises(SelectionError, match=r"ranks its 10 best weights, 1 % .* nothing of a budget of 11"):
        rankings.counts("hybrid", 11)


def test_a_quota_without_a_specific_half_has_no_threshold():
    half = make_scores([torch.rand(20)])
    scores = Scores("quota", {}, half.infos, half.total, (half, half), 1.0)
    assert rank_weights(scores, 3).threshold("hybrid", 3) is None


def test_the_steps_of_a_slider_hold_the_ends_and_the_budget_in_use():
    steps = budgets(215_551, also=(2156, 300_000))
    assert steps[0] == 1
    assert steps[-1] == 215_551
    assert 2156 in steps
    assert 300_000 not in steps
    assert steps == sorted(set(steps))
