"""Overlaps against sets of Python and against draws."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from shpeft.chance import Chance
from shpeft.errors import SelectionError
from shpeft.importance import estimate_importance
from shpeft.overlaps import overlap, overlap_by_budget, overlaps
from shpeft.ranking import rank_weights
from shpeft.selection import Support, select

from .conftest import tiny
from .test_selection import make_scores


def test_overlap_counts_and_chance():
    infos = make_scores([torch.rand(50), torch.rand(50)]).infos
    first, second = (info.name for info in infos)
    shapes = {first: (50,), second: (50,)}
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


def test_supports_that_avoid_each_other_share_less_than_chance_gives():
    infos = make_scores([torch.rand(100)]).infos
    name = infos[0].name
    halves = [Support({name: torch.arange(start, start + 50)}, {name: (100,)}, 100) for start in (0, 50)]
    assert overlap(*halves, infos).against_chance == "less"
    few = [Support({name: torch.tensor([start])}, {name: (100,)}, 100) for start in (0, 50)]
    assert overlap(*few, infos).against_chance == "as much"


def test_overlap_of_other_models_is_refused():
    infos = make_scores([torch.rand(50)]).infos
    a = Support({"other": torch.arange(3)}, {"other": (50,)}, 50)
    with pytest.raises(SelectionError, match="same backbone and scope"):
        overlap(a, a, infos)


def drawn(infos, sizes, rng) -> dict[str, Support]:
    """Random supports, by letters."""
    found = {}
    for letter, k in zip("abcdefgh", sizes, strict=False):
        flat, indices, start = np.sort(rng.choice(sum(i.numel for i in infos), k, replace=False)), {}, 0
        for info in infos:
            index = flat[(flat >= start) & (flat < start + info.numel)] - start
            if len(index):
                indices[info.name] = torch.from_numpy(index)
            start += info.numel
        found[letter] = Support(indices, {i.name: i.shape for i in infos if i.name in indices}, 1000)
    return found


def members(support: Support) -> set[tuple[str, int]]:
    return {(name, place) for name, index in support.indices.items() for place in index.tolist()}


def test_several_supports_against_sets():
    infos = make_scores([torch.rand(6, 7), torch.rand(30), torch.rand(4, 3, 2, 2), torch.rand(5)]).infos
    supports = drawn(infos, (60, 50, 40, 30), np.random.default_rng(0))
    found = overlaps(supports, infos)
    sets = {name: members(support) for name, support in supports.items()}
    expected = {}
    for size in range(1, 5):
        for inside in combinations(supports, size):
            outside = set().union(*(sets[name] for name in sets if name not in inside))
            if count := len(set.intersection(*(sets[name] for name in inside)) - outside):
                expected[inside] = count
    assert {i.members: i.size for i in found.intersections} == expected
    assert sum(expected.values()) == len(set().union(*sets.values()))
    assert [i.size for i in found.intersections] == sorted(expected.values(), reverse=True)
    common = set.intersection(*sets.values())
    shapes = {info.name: info.shape for info in infos}
    places = {(w.name, w.row * int(np.prod(shapes[w.name][1:])) + w.column) for w in found.common}
    assert places == common
    assert len(found.common) == len(common) > 0
    for layer in found.layers:
        assert layer.common == sum(name == layer.name for name, _ in common)
        assert layer.sizes == tuple(sum(name == layer.name for name, _ in chosen) for chosen in sets.values())
    for (a, b), pair in found.pairs.items():
        assert pair == overlap(supports[a], supports[b], infos)
        assert pair.intersection == len(sets[a] & sets[b])


def test_the_expected_intersections_are_those_of_random_supports():
    infos = make_scores([torch.rand(20), torch.rand(15)]).infos
    rng = np.random.default_rng(0)
    sums, layer, times = {}, 0, 200
    for _ in range(times):
        found = overlaps(drawn(infos, (14, 20, 25), rng), infos)
        layer += found.layers[0].common
        for i in found.intersections:
            sums[i.members] = sums.get(i.members, 0) + i.size
    for i in found.intersections:
        assert sums[i.members] / times == pytest.approx(i.chance, abs=0.45)
    assert sums["a", "b", "c"] / times == pytest.approx(found.chance, abs=0.45)
    assert layer / times == pytest.approx(20 * 14 * 20 * 25 / 35**3, abs=0.45)


def test_the_rest_is_never_a_single_intersection():
    infos = make_scores([torch.rand(300)]).infos
    found = overlaps(drawn(infos, (100, 100, 100), np.random.default_rng(0)), infos)
    assert len(found.intersections) == 7
    for most, (shown, rest) in {7: (7, 0), 6: (7, 0), 5: (5, 2)}.items():
        assert tuple(map(len, found.largest(most))) == (shown, rest)


def test_one_support_alone_is_a_sentence():
    infos = make_scores([torch.rand(30)]).infos
    with pytest.raises(SelectionError, match="from 2 to"):
        overlaps(drawn(infos, (3,), np.random.default_rng(0)), infos)


def test_the_overlap_of_halves_at_any_budget_is_that_of_their_selections(data):
    scores = estimate_importance(tiny(), data.train, images=16)
    counts = [1, 50, 999, 5000]
    found = overlap_by_budget(rank_weights(scores, 40, largest=0.2), counts)
    for k, at in zip(counts, found, strict=True):
        both = overlap(*(select(half, k) for half in scores.halves), scores.infos)
        assert (at.k, at.shared, at.chance) == (k, both.intersection, both.chance)
        assert (at.chance_low, at.chance_high) == (both.chance_low, both.chance_high)


@pytest.mark.parametrize(
    ("n", "a", "b", "found"),
    [(100, 20, 10, 5), (100, 90, 80, 75), (50, 50, 10, 10), (50, 1, 1, 0), (85_000_000, 8600, 8600, 2000),
     (21_000_000, 210_000, 150_000, 1600), (1000, 3, 999, 2), (10, 5, 5, 0)],
)  # fmt: skip
def test_chance_is_the_hypergeometric_law(n, a, b, found):
    law, other = Chance.of(n, a, b, found), hypergeom(n, a, b)
    assert law.range == tuple(other.ppf([0.025, 0.975]))
    assert law.above[found - law.first] == pytest.approx(other.sf(found - 1), rel=1e-5, abs=1e-300)
    assert law.below[found - law.first] == pytest.approx(other.cdf(found), rel=1e-5, abs=1e-300)
