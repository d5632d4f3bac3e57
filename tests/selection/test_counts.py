"""Counts of each parameter, exactly in proportion, and the best weights within them."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft import equations
from shpeft.errors import SelectionError
from shpeft.selection.counts import apportion, counts_by_importance, select_by_counts
from tests.helpers.scores import make_scores

SHARES = st.floats(0, 1e9) | st.sampled_from([0.0, 1.0, 2.0, 1e-300])
PARAMETERS = st.lists(st.tuples(SHARES, st.integers(1, 30)), min_size=1, max_size=8)


def exact_parts(shares: list[float], sizes: list[int], k: int) -> list[Fraction]:
    """Return min(size, λ·share) with the sum k, by the λ at which each parameter is full."""
    positive = [at for at, share in enumerate(shares) if share > 0]
    room = sum(sizes[at] for at in positive)
    if k > room or not positive:  # those without a share divide what is left as if their shares were equal
        others = [at for at, share in enumerate(shares) if share == 0]
        rest = exact_parts([1.0] * len(others), [sizes[at] for at in others], k - room)
        parts = [Fraction(size) for size in sizes]
        for at, part in zip(others, rest, strict=True):
            parts[at] = part
        return parts

    def at_level(level: Fraction) -> list[Fraction]:
        return [min(Fraction(size), level * Fraction(share)) for share, size in zip(shares, sizes, strict=True)]

    low = Fraction(0)
    for level in sorted(Fraction(sizes[at]) / Fraction(shares[at]) for at in positive):
        if sum(at_level(level)) >= k:
            below, above = sum(at_level(low)), sum(at_level(level))  # the sum is linear in between
            return at_level(low + (level - low) * Fraction(k - below) / Fraction(above - below))
        low = level
    return at_level(low)


def slow_apportion(shares: list[float], sizes: list[int], k: int) -> list[int]:
    """Give out what rounding down has left one by one."""
    parts = exact_parts(shares, sizes, k)
    counts = [int(part) for part in parts]
    for _ in range(k - sum(counts)):
        remainders = [part - count for part, count in zip(parts, counts, strict=True)]
        counts[remainders.index(max(remainders))] += 1
    return counts


@given(PARAMETERS, st.data())
def test_counts_are_in_proportion_up_to_the_sizes(parameters: list[tuple[float, int]], data: st.DataObject) -> None:
    shares, sizes = [share for share, _ in parameters], [size for _, size in parameters]
    k = data.draw(st.integers(0, sum(sizes)))
    counts = apportion(shares, sizes, k)
    assert counts == slow_apportion(shares, sizes, k)
    assert sum(counts) == k
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    rows = list(zip(shares, sizes, counts, strict=True))
    for share, size, count in rows:
        assert all(count >= n for x, s, n in rows if share > x and size >= s)


def test_equal_remainders_go_to_the_earlier_and_a_larger_k_may_take_away() -> None:
    assert apportion([1, 1, 1], [9, 9, 9], 4) == [2, 1, 1]
    assert apportion([6, 6, 2], [99, 99, 99], 10) == [4, 4, 2]
    assert apportion([6, 6, 2], [99, 99, 99], 11) == [5, 5, 1]
    assert apportion([0, 0, 5], [9, 9, 2], 6) == [2, 2, 2]
    assert apportion([], [], 0) == []
    for k in (-1, 28):
        with pytest.raises(ValueError, match=f"{k} weights cannot be divided among parameters with 27"):
            apportion([1, 1, 1], [9, 9, 9], k)


VALUES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=12)


@given(st.lists(VALUES, min_size=1, max_size=5), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.data())
def test_each_parameter_gets_its_share_of_the_largest(layers: list[list[float]], b: float, data: st.DataObject) -> None:
    scores = make_scores([torch.tensor(values) for values in layers])
    k = data.draw(st.integers(1, scores.total))
    counts = counts_by_importance(scores, k, b)
    sums = torch.tensor([sum(values) for values in layers], dtype=torch.float64)
    shares = equations.count_shares(sums, b).tolist()
    assert list(counts.values()) == slow_apportion(shares, [len(values) for values in layers], k)
    support = select_by_counts(scores, counts)
    assert support.k == k
    for name, values in scores.values.items():
        selected = support.indices.get(name, torch.empty(0, dtype=torch.int64)).tolist()
        assert selected == equations.top_k(values, counts[name]).tolist()


def test_equal_counts_and_counts_in_proportion() -> None:
    scores = make_scores([torch.ones(2, 50), torch.full((10, 10), 3.0)])
    assert list(counts_by_importance(scores, 40, 0).values()) == [20, 20]
    assert list(counts_by_importance(scores, 40, 1).values()) == [10, 30]
    assert list(counts_by_importance(scores, 0.2, 2).values()) == [4, 36]
    assert select_by_counts(scores, {"blocks.1.w": 2}).indices["blocks.1.w"].tolist() == [0, 1]


@pytest.mark.parametrize(("values", "number"), [([1.0, -1.0], "-1"), ([1.0, torch.nan], "nan"), ([torch.inf], "inf")])
def test_sums_of_other_scores_are_refused(values: list[float], number: str) -> None:
    scores = make_scores([torch.ones(3), torch.tensor(values)])
    with pytest.raises(SelectionError, match=rf"blocks\.1\.w .*{number}.* finite and not negative"):
        counts_by_importance(scores, 1, 1.0)
