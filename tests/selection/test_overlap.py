"""Overlaps against Python sets and random draws."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from shpeft.backbones import WeightInfo
from shpeft.datasets import Dataset
from shpeft.errors import SelectionError
from shpeft.importance.scores import estimate_importance
from shpeft.selection.hypergeometric import Hypergeometric
from shpeft.selection.overlap import overlap, overlap_by_budget
from shpeft.selection.ranking import rank_weights
from shpeft.selection.set_overlap import overlaps
from shpeft.selection.top_k import Support, select
from tests.conftest import tiny
from tests.helpers.present import present
from tests.helpers.scores import make_scores


def test_overlap_counts_and_chance() -> None:
    infos = make_scores([torch.rand(50), torch.rand(50)]).infos
    first, second = (info.name for info in infos)
    shapes: dict[str, tuple[int, ...]] = {first: (50,), second: (50,)}
    a = Support({first: torch.arange(10), second: torch.arange(10)}, shapes, 100)
    b = Support({first: torch.arange(5, 15)}, {first: (50,)}, 100)
    result = overlap(a, b, infos)
    assert (result.intersection, result.a, result.b, result.eligible) == (5, 20, 10, 100)
    assert result.jaccard == 5 / 25
    assert result.containment == 0.5
    assert result.chance == 2.0
    rng = np.random.default_rng(0)
    drawn = np.array([np.isin(rng.choice(100, 10, replace=False), np.arange(20)).sum() for _ in range(20_000)])
    assert result.p_value == pytest.approx((drawn >= 5).mean(), abs=0.01)
    assert result.p_low == pytest.approx((drawn <= 5).mean(), abs=0.01)
    assert result.against_chance == ("more" if (drawn >= 5).mean() < 0.025 else "as much")
    assert overlap(a, a, infos).against_chance == "more"
    assert (result.chance_low, result.chance_high) == tuple(np.quantile(drawn, [0.025, 0.975]))
    assert [layer.intersection for layer in result.layers] == [5, 0]
    assert result.layers[0].chance == 2.0
    within = np.array([np.isin(rng.choice(50, 10, replace=False), np.arange(10)).sum() for _ in range(20_000)])
    low, high = np.quantile(within, [0.025, 0.975])
    assert (result.layers[0].chance_low, result.layers[0].chance_high) == (low, high)
    assert (result.layers[1].chance_low, result.layers[1].chance_high) == (0, 0)


def test_disjoint_supports_share_less_than_chance() -> None:
    infos = make_scores([torch.rand(100)]).infos
    name = infos[0].name
    a, b = (Support({name: torch.arange(offset, offset + 50)}, {name: (100,)}, 100) for offset in (0, 50))
    assert overlap(a, b, infos).against_chance == "less"
    a, b = (Support({name: torch.tensor([offset])}, {name: (100,)}, 100) for offset in (0, 50))
    assert overlap(a, b, infos).against_chance == "as much"


def test_overlap_of_other_models_is_refused() -> None:
    infos = make_scores([torch.rand(50)]).infos
    a = Support({"other": torch.arange(3)}, {"other": (50,)}, 50)
    with pytest.raises(SelectionError, match="same backbone and scope"):
        overlap(a, a, infos)


def test_supports_know_the_weights_they_were_selected_from() -> None:
    scores = make_scores([torch.rand(50), torch.rand(50)])
    a, b = select(scores, 10), select(make_scores([torch.rand(50), torch.rand(50)]), 20)
    assert a.infos == scores.infos
    assert overlap(a, b) == overlap(a, b, scores.infos)
    assert overlaps({"a": a, "b": b}) == overlaps({"a": a, "b": b}, scores.infos)
    unknown = replace(b, infos=None)
    assert overlap(a, unknown) == overlap(a, b)
    with pytest.raises(SelectionError, match=r"do not state .* infos=model\.weight_infos"):
        overlap(unknown, unknown)
    assert overlap(unknown, unknown, scores.infos).jaccard == 1
    with pytest.raises(SelectionError, match="selected from different weights"):
        overlap(a, select(make_scores([torch.rand(60)]), 20))


def drawn(infos: Sequence[WeightInfo], sizes: Sequence[int], rng: np.random.Generator) -> dict[str, Support]:
    """Draw random supports, named by letters."""
    actual = {}
    for letter, k in zip("abcdefgh", sizes, strict=False):
        flat, indices, offset = np.sort(rng.choice(sum(i.numel for i in infos), k, replace=False)), {}, 0
        for info in infos:
            index = flat[(flat >= offset) & (flat < offset + info.numel)] - offset
            if len(index):
                indices[info.name] = torch.from_numpy(index)
            offset += info.numel
        actual[letter] = Support(indices, {i.name: i.shape for i in infos if i.name in indices}, 1000)
    return actual


def members(support: Support) -> set[tuple[str, int]]:
    return {(name, index) for name, flat in support.indices.items() for index in flat.tolist()}


def test_several_supports_against_sets() -> None:
    infos = make_scores([torch.rand(6, 7), torch.rand(30), torch.rand(4, 3, 2, 2), torch.rand(5)]).infos
    supports = drawn(infos, (60, 50, 40, 30), np.random.default_rng(0))
    actual = overlaps(supports, infos)
    sets = {name: members(support) for name, support in supports.items()}
    expected = {}
    for size in range(1, 5):
        for inside in combinations(supports, size):
            outside = set().union(*(sets[name] for name in sets if name not in inside))
            if count := len(set.intersection(*(sets[name] for name in inside)) - outside):
                expected[inside] = count
    assert {i.members: i.size for i in actual.intersections} == expected
    assert sum(expected.values()) == len(set().union(*sets.values()))
    assert [i.size for i in actual.intersections] == sorted(expected.values(), reverse=True)
    common = set.intersection(*sets.values())
    shapes = {info.name: info.shape for info in infos}
    positions = {(w.name, w.row * int(np.prod(shapes[w.name][1:])) + w.column) for w in actual.common}
    assert positions == common
    assert len(actual.common) == len(common) > 0
    for layer in actual.layers:
        assert layer.common == sum(name == layer.name for name, _ in common)
        assert layer.sizes == tuple(sum(name == layer.name for name, _ in chosen) for chosen in sets.values())
    for (a, b), pair in actual.pairs.items():
        assert pair == overlap(supports[a], supports[b], infos)
        assert pair.intersection == len(sets[a] & sets[b])


def test_expected_intersections_match_random_supports() -> None:
    infos = make_scores([torch.rand(20), torch.rand(15)]).infos
    rng = np.random.default_rng(0)
    sums: dict[tuple[str, ...], int] = {}
    layer, times = 0, 200
    for _ in range(times):
        actual = overlaps(drawn(infos, (14, 20, 25), rng), infos)
        layer += actual.layers[0].common
        for i in actual.intersections:
            sums[i.members] = sums.get(i.members, 0) + i.size
    for i in actual.intersections:
        assert sums[i.members] / times == pytest.approx(i.chance, abs=0.45)
    assert sums["a", "b", "c"] / times == pytest.approx(actual.chance, abs=0.45)
    assert layer / times == pytest.approx(20 * 14 * 20 * 25 / 35**3, abs=0.45)


def test_the_rest_is_never_a_single_intersection() -> None:
    infos = make_scores([torch.rand(300)]).infos
    actual = overlaps(drawn(infos, (100, 100, 100), np.random.default_rng(0)), infos)
    assert len(actual.intersections) == 7
    for most, (shown, rest) in {7: (7, 0), 6: (7, 0), 5: (5, 2)}.items():
        assert tuple(map(len, actual.largest(most))) == (shown, rest)


def test_a_single_support_is_refused() -> None:
    infos = make_scores([torch.rand(30)]).infos
    with pytest.raises(SelectionError, match="from 2 to"):
        overlaps(drawn(infos, (3,), np.random.default_rng(0)), infos)


def test_overlap_by_budget_equals_the_overlap_of_selections(data: Dataset) -> None:
    scores = estimate_importance(tiny(), data.train, images=16)
    counts = [1, 50, 999, 5000]
    actual = overlap_by_budget(rank_weights(scores, 40, ranked_share=0.2), counts)
    for k, at in zip(counts, actual, strict=True):
        specific, agnostic = (select(half, k) for half in present(scores.halves))
        both = overlap(specific, agnostic, scores.infos)
        assert (at.k, at.shared, at.chance) == (k, both.intersection, both.chance)
        assert (at.chance_low, at.chance_high) == (both.chance_low, both.chance_high)


@pytest.mark.parametrize(
    ("n", "a", "b", "actual"),
    [(100, 20, 10, 5), (100, 90, 80, 75), (50, 50, 10, 10), (50, 1, 1, 0), (85_000_000, 8600, 8600, 2000),
     (21_000_000, 210_000, 150_000, 1600), (1000, 3, 999, 2), (10, 5, 5, 0)],
)  # fmt: skip
def test_chance_follows_the_hypergeometric_distribution(n: int, a: int, b: int, actual: int) -> None:
    law, other = Hypergeometric.of(n, a, b, actual), hypergeom(n, a, b)
    assert law.range == tuple(other.ppf([0.025, 0.975]))
    assert law.above[actual - law.first] == pytest.approx(other.sf(actual - 1), rel=1e-5, abs=1e-300)
    assert law.below[actual - law.first] == pytest.approx(other.cdf(actual), rel=1e-5, abs=1e-300)
