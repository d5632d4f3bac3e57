"""Splits of random cases in random groups: invariants, and what is refused."""

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError

cases = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=1, max_size=60)
fractions = st.floats(0.05, 0.6)
seeds = st.integers(0, 9)


def unpacked(drawn: list[tuple[int, int]]) -> tuple[list[int], list[str]]:
    return [label for label, _ in drawn], [f"g{group}" for _, group in drawn]


def attempt(labels: list[int], groups: list[str], fraction: float, seed: int) -> tuple[list[int], list[int]] | str:
    """Return the split, or the error message."""
    try:
        return split_off(labels, groups, fraction, seed, "abc")
    except DatasetError as error:
        return str(error)


def class_shares(labels: list[int], fraction: float) -> dict[int, int]:
    """Return how many cases of each class should be split off: its share, at least one, and not all."""
    return {label: min(max(1, round(fraction * n)), n - 1) for label, n in Counter(labels).items()}


def possible(labels: list[int], groups: list[str]) -> bool:
    """Return whether some choice of whole groups leaves every class on both sides, by trying all."""
    names, classes = sorted(set(groups)), set(labels)

    def held(chosen: set[str]) -> set[int]:
        return {label for label, group in zip(labels, groups, strict=True) if group in chosen}

    return any(
        held(set(chosen)) == held(set(names) - set(chosen)) == classes
        for size in range(1, len(names))
        for chosen in itertools.combinations(names, size)
    )


@given(cases, fractions, seeds)
def test_groups_stay_whole_and_every_class_is_on_both_sides(
    drawn: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    labels, groups = unpacked(drawn)
    split = attempt(labels, groups, fraction, seed)
    if isinstance(split, str):
        assert "both sides of a split" in split
        return
    stay, leave = split
    assert sorted(stay + leave) == list(range(len(drawn)))
    assert not {groups[row] for row in stay} & {groups[row] for row in leave}
    assert {labels[row] for row in stay} == {labels[row] for row in leave} == set(labels)
    largest = max(Counter(groups).values())
    assert abs(len(leave) - sum(class_shares(labels, fraction).values())) <= largest


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=2, max_size=24), seeds)
def test_only_impossible_splits_are_refused(drawn: list[tuple[int, int]], seed: int) -> None:
    labels, groups = unpacked(drawn)
    assert isinstance(attempt(labels, groups, 0.3, seed), str) != possible(labels, groups)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=1, max_size=60), fractions, seeds)
def test_pure_groups_give_each_class_its_share_within_half_a_group(
    drawn: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    labels, groups = unpacked(drawn)
    groups = [f"{label} {group}" for label, group in zip(labels, groups, strict=True)]
    split = attempt(labels, groups, fraction, seed)
    if isinstance(split, str):
        assert min(len({group for group in groups if group[0] == str(label)}) for label in set(labels)) == 1
        return
    _, leave = split
    need, taken = class_shares(labels, fraction), Counter(labels[row] for row in leave)
    for label in set(labels):
        sizes = Counter(group for group in groups if group[0] == str(label)).values()
        assert abs(taken[label] - need[label]) <= max(max(sizes) / 2, min(sizes) - need[label])


@given(cases, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter_and_the_seed_decides(
    drawn: list[tuple[int, int]], fraction: float, seed: int, chance: random.Random
) -> None:
    labels, groups = unpacked(drawn)
    order = list(range(len(drawn)))
    chance.shuffle(order)
    first = attempt(labels, groups, fraction, seed)
    assert attempt(labels, groups, fraction, seed) == first
    shuffled = attempt([labels[row] for row in order], [groups[row] for row in order], fraction, seed)
    if isinstance(first, str) or isinstance(shuffled, str):
        assert shuffled == first
    else:
        assert tuple(sorted(order[row] for row in side) for side in shuffled) == first


def test_without_groups_the_shares_are_exact_and_seeded() -> None:
    labels = [0] * 50 + [1] * 20
    names = [str(row) for row in range(70)]
    _, leave = split_off(labels, names, 0.2, 0, "ab")
    assert [sum(labels[row] == label for row in leave) for label in (0, 1)] == [10, 4]
    assert split_off(labels, names, 0.2, 0, "ab")[1] == leave != split_off(labels, names, 0.2, 1, "ab")[1]


def test_a_class_of_one_case_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match="'b' has 1 usable image in 1 group"):
        split_off([0, 0, 1], ["x", "y", "z"], 0.2, 0, "ab")


def test_entangled_groups_are_refused() -> None:
    labels, groups = [0, 0, 1, 1, 2, 2], ["x", "y", "y", "z", "z", "x"]  # a triangle: two of three share each class
    with pytest.raises(DatasetError, match=r"in 2 groups, which also contain other classes"):
        split_off(labels, groups, 0.3, 0, "abc")


def test_the_names_of_files_do_not_decide_the_split(tmp_path: Path) -> None:
    sides: list[list[list[str]]] = []
    for names in (range(20), range(20, 0, -1)):
        root = tmp_path / str(len(sides))
        for number, name in enumerate(names):
            path = root / "ab"[number % 2] / f"{name:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(number).integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(values).save(path)
        sides.append([sorted(split.ids) for split in load_dataset(root, seed=3).splits])
    assert sides[0] == sides[1]
