"""Splits of random cases in random groups: what must always hold, and what is refused."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError

cases = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=1, max_size=60)
fractions = st.floats(0.05, 0.6)
seeds = st.integers(0, 9)


def unpacked(found: list[tuple[int, int]]) -> tuple[list[int], list[str]]:
    return [label for label, _ in found], [f"g{group}" for _, group in found]


def attempt(labels, groups, fraction, seed) -> tuple[list[int], list[int]] | str:
    """The split, or why there is none."""
    try:
        return split_off(labels, groups, fraction, seed, "abc")
    except DatasetError as error:
        return str(error)


def wanted(labels: list[int], fraction: float) -> dict[int, int]:
    """How many cases of each class should leave: its share, at least one, and not all."""
    return {label: min(max(1, round(fraction * n)), n - 1) for label, n in Counter(labels).items()}


def possible(labels: list[int], groups: list[str]) -> bool:
    """Whether some choice of whole groups leaves every class on both sides, by trying all."""
    names, classes = sorted(set(groups)), set(labels)

    def held(chosen: set[str]) -> set[int]:
        return {label for label, group in zip(labels, groups, strict=True) if group in chosen}

    return any(
        held(set(chosen)) == held(set(names) - set(chosen)) == classes
        for size in range(1, len(names))
        for chosen in itertools.combinations(names, size)
    )


@settings(max_examples=150, deadline=None)
@given(cases, fractions, seeds)
def test_groups_stay_whole_and_every_class_is_on_both_sides(found, fraction, seed):
    labels, groups = unpacked(found)
    found_split = attempt(labels, groups, fraction, seed)
    if isinstance(found_split, str):
        assert "both sides of a split" in found_split
        return
    stay, leave = found_split
    assert sorted(stay + leave) == list(range(len(found)))
    assert not {groups[row] for row in stay} & {groups[row] for row in leave}
    assert {labels[row] for row in stay} == {labels[row] for row in leave} == set(labels)
    largest = max(Counter(groups).values())
    assert abs(len(leave) - sum(wanted(labels, fraction).values())) <= largest


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=2, max_size=24), seeds)
def test_what_is_refused_could_not_be_split(found, seed):
    labels, groups = unpacked(found)
    assert isinstance(attempt(labels, groups, 0.3, seed), str) != possible(labels, groups)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=1, max_size=60), fractions, seeds)
def test_of_a_class_in_groups_of_its_own_the_share_is_within_half_a_group(found, fraction, seed):
    labels, groups = unpacked(found)
    groups = [f"{label} {group}" for label, group in zip(labels, groups, strict=True)]
    split = attempt(labels, groups, fraction, seed)
    if isinstance(split, str):
        assert min(len({group for group in groups if group[0] == str(label)}) for label in set(labels)) == 1
        return
    _, leave = split
    need, taken = wanted(labels, fraction), Counter(labels[row] for row in leave)
    for label in set(labels):
        sizes = Counter(group for group in groups if group[0] == str(label)).values()
        assert abs(taken[label] - need[label]) <= max(max(sizes) / 2, min(sizes) - need[label])


@settings(max_examples=60, deadline=None)
@given(cases, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter_and_the_seed_decides(found, fraction, seed, chance: random.Random):
    labels, groups = unpacked(found)
    order = list(range(len(found)))
    chance.shuffle(order)
    first = attempt(labels, groups, fraction, seed)
    assert attempt(labels, groups, fraction, seed) == first
    shuffled = attempt([labels[row] for row in order], [groups[row] for row in order], fraction, seed)
    if isinstance(first, str):
        assert shuffled == first
    else:
        assert tuple(sorted(order[row] for row in side) for side in shuffled) == first


def test_without_groups_the_shares_are_exact_and_seeded():
    labels = [0] * 50 + [1] * 20
    names = [str(row) for row in range(70)]
    _, leave = split_off(labels, names, 0.2, 0, "ab")
    assert [sum(labels[row] == label for row in leave) for label in (0, 1)] == [10, 4]
    assert split_off(labels, names, 0.2, 0, "ab")[1] == leave != split_off(labels, names, 0.2, 1, "ab")[1]


def test_a_class_of_one_case_cannot_be_split():
    with pytest.raises(DatasetError, match="'b' has 1 usable image in 1 group"):
        split_off([0, 0, 1], ["x", "y", "z"], 0.2, 0, "ab")


def test_groups_that_are_entangled_are_refused_as_such():
    labels, groups = [0, 0, 1, 1, 2, 2], ["x", "y", "y", "z", "z", "x"]  # a triangle: two of three share each class
    with pytest.raises(DatasetError, match=r"in 2 groups, which hold other classes too"):
        split_off(labels, groups, 0.3, 0, "abc")


def test_the_names_of_files_do_not_decide_the_split(tmp_path):
    sides = []
    for names in (range(20), range(20, 0, -1)):
        root = tmp_path / str(len(sides))
        for number, name in enumerate(names):
            place = root / "ab"[number % 2] / f"{name:03d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(number).integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(values).save(place)
        sides.append([sorted(split.ids) for split in load_dataset(root, seed=3).splits])
    assert sides[0] == sides[1]
