"""Exact selection against a stable sort."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft import equations
from shpeft.errors import EmptySupport, SelectionError
from shpeft.importance.scores import Scores
from shpeft.selection import top_k
from shpeft.selection.top_k import Support, best_first, budget_to_count, select
from tests.helpers.scores import make_scores


def flat(support: Support, scores: Scores) -> list[int]:
    """Return the support as indices into the concatenation of all eligible weights."""
    result, offset = [], 0
    for info in scores.infos:
        result += (support.indices.get(info.name, torch.empty(0, dtype=torch.int64)) + offset).tolist()
        offset += info.numel
    return result


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=True)
FEW = st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 1e-38, 3e38])


@given(st.lists(st.lists(FLOATS | FEW, min_size=1, max_size=30), min_size=1, max_size=4), st.data())
def test_select_equals_a_stable_sort(layers: list[list[float]], data: st.DataObject) -> None:
    scores = make_scores([torch.tensor(values, dtype=torch.float32) for values in layers])
    k = data.draw(st.integers(1, scores.total))
    joined = torch.cat([v + 0.0 for v in scores.values.values()])
    assert flat(select(scores, k), scores) == equations.top_k(joined, k).tolist()


@pytest.mark.parametrize("k", [1, 7, 100, 399])
@pytest.mark.parametrize("order", ["ascending", "descending", "constant", "few high"])
def test_a_misleading_sample_changes_nothing(monkeypatch: pytest.MonkeyPatch, order: str, k: int) -> None:
    """Select exactly with a sample of 20 of 400 scores, and with bounds that are too high."""
    layers = {
        "ascending": torch.arange(400.0),
        "descending": torch.arange(400.0).flip(0),
        "constant": torch.ones(400),
        "few high": torch.cat([torch.full((30,), 9.0), torch.zeros(370)]),
    }[order]
    scores = make_scores([layers[:150].clone(), layers[150:].clone()])
    expected = equations.top_k(layers, k).tolist()
    monkeypatch.setattr(top_k, "SAMPLE", 20)
    monkeypatch.setattr(top_k, "CHUNK", 64)
    assert flat(select(scores, k), scores) == expected
    for bound in (float("-inf"), 0.0, 8.0, 399.0, float("inf")):
        monkeypatch.setattr(top_k, "_likely_below", lambda flats, k, bound=bound: bound)
        assert flat(select(scores, k), scores) == expected


@given(st.lists(FEW, min_size=60, max_size=200), st.data())
def test_candidates_are_pruned_repeatedly(values: list[float], data: st.DataObject) -> None:
    """Prune often, with ties across chunks of 4 and no bound from a sample."""
    scores = make_scores([torch.tensor(values[:41]), torch.tensor(values[41:])])
    k = data.draw(st.integers(1, scores.total))
    joined = torch.tensor(values) + 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "CHUNK", 4)
        patch.setattr(top_k, "SAMPLE", 1)
        assert flat(select(scores, k), scores) == equations.top_k(joined, k).tolist()


def test_ties_and_chunks_take_the_first_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k, "CHUNK", 7)
    scores = make_scores([torch.ones(4, 5), torch.full((10,), 2.0), torch.ones(30)])
    assert flat(select(scores, 33), scores) == [*range(30), 30, 31, 32]
    assert flat(select(scores, 12), scores) == [0, 1, *range(20, 30)]


SHAPES = ((3, 4), (5,), (2, 3, 2), (1, 6))


def reference_spread(layers: list[torch.Tensor], k: int) -> list[int]:
    """Apply ``equations.top_k_spread`` to whole tensors; a vector, and a single row, have no rows to spread over."""
    ranks = [
        equations.row_rank(v.reshape(v.shape[0] if v.ndim > 1 and v.shape[0] > 1 else v.numel(), -1)) for v in layers
    ]
    return equations.top_k_spread(
        torch.cat([v.reshape(-1) + 0.0 for v in layers]), torch.cat([r.reshape(-1) for r in ranks]), k
    ).tolist()


@given(st.data())
def test_spread_takes_the_best_of_each_row_before_any_second(data: st.DataObject) -> None:
    layers = [
        torch.tensor(data.draw(st.lists(FLOATS | FEW, min_size=n, max_size=n)), dtype=torch.float32).reshape(shape)
        for shape, n in zip(SHAPES, (12, 5, 12, 6), strict=True)
    ]
    scores = make_scores(layers)
    for k in data.draw(st.sets(st.integers(1, scores.total), min_size=1, max_size=5)):
        actual = flat(select(scores, k, "row"), scores)
        assert actual == reference_spread(layers, k), k
        positions, values = best_first(scores, k, "row")
        assert sorted(positions.tolist()) == actual
        assert torch.equal(values, torch.cat([v.reshape(-1) for v in layers])[positions])
        before, _ = best_first(scores, max(1, k - 1), "row")
        assert positions[: len(before)].tolist() == before.tolist()  # a growing budget only adds


def test_spread_selects_one_weight_per_row_while_rows_remain() -> None:
    scores = make_scores([torch.arange(12.0).reshape(3, 4), torch.arange(100.0, 112).reshape(4, 3)])
    assert flat(select(scores, 5, "row"), scores) == [11, 14, 17, 20, 23]
    assert flat(select(scores, 5), scores) == [19, 20, 21, 22, 23]
    assert flat(select(scores, 8, "row"), scores) == [3, 7, 11, 14, 17, 20, 22, 23]
    with pytest.raises(SelectionError, match=r"no spread 'rows'.*row"):
        select(scores, 5, "rows")  # type: ignore[arg-type]


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 1000))
def test_quota_over_parameters_equals_the_equation(k: int, lam: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    s = [torch.randint(0, 6, (n,), generator=generator).float() for n in (15, 25)]
    a = [torch.randint(0, 6, (n,), generator=generator).float() for n in (15, 25)]
    scores = make_scores(s)
    hybrid = Scores("quota", {}, scores.infos, scores.total, (make_scores(s), make_scores(a)), lam)
    expected = equations.hybrid_quota(torch.cat(s), torch.cat(a), k, lam).tolist()
    assert flat(select(hybrid, k), scores) == flat(select(hybrid, k, "row"), scores) == expected


@given(st.integers(1, 24), st.floats(0, 1), st.integers(0, 1000))
def test_quota_spreads_each_half(k: int, lam: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    s, a = ([torch.randint(0, 6, shape, generator=generator).float() for shape in ((3, 4), (4, 3))] for _ in range(2))
    scores = make_scores(s)
    hybrid = Scores("quota", {}, scores.infos, scores.total, (scores, make_scores(a)), lam)
    agnostic = equations.quota(k, lam)
    first = reference_spread(s, k - agnostic) if k > agnostic else []
    best = [reference_spread(a, n) for n in range(1, 25)]
    order = [next(at for at in after if at not in before) for before, after in zip([[], *best[:-1]], best, strict=True)]
    assert flat(select(hybrid, k, "row"), scores) == sorted(first + [at for at in order if at not in first][:agnostic])


def test_large_selection_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = make_scores([torch.rand(1 << 20, generator=generator), torch.rand(700_001, generator=generator)])
    joined = torch.cat(list(scores.values.values()))
    assert flat(select(scores, 0.013), scores) == equations.top_k(joined, round(0.013 * joined.numel())).tolist()


def test_budgets() -> None:
    assert budget_to_count(1e-4, 21_555_072) == 2156
    assert budget_to_count(5, 100) == 5
    assert budget_to_count(1, 100) == 1
    assert budget_to_count(1.0, 100) == 100
    with pytest.raises(SelectionError, match="a share of more than all weights"):
        budget_to_count(2.0, 100)
    with pytest.raises(EmptySupport, match="selects none"):
        budget_to_count(1e-9, 1000)
    with pytest.raises(SelectionError, match="more than the backbone's"):
        budget_to_count(101, 100)


def test_budget_beyond_the_scope_is_refused() -> None:
    scores = make_scores([torch.rand(10)], total=1000)
    with pytest.raises(SelectionError, match="10 eligible"):
        select(scores, 11)


def test_nan_scores_are_refused() -> None:
    with pytest.raises(SelectionError, match="NaN"):
        select(make_scores([torch.tensor([1.0, float("nan")])]), 1)


@pytest.mark.parametrize("indices", [[1, 1], [2, 1], [-1, 0], [3, 6], []])
def test_supports_refuse_duplicates_disorder_and_range(indices: list[int]) -> None:
    with pytest.raises(SelectionError, match="ascending"):
        Support({"w": torch.tensor(indices, dtype=torch.int64)}, {"w": (2, 3)}, 6)
