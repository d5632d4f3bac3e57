"""The processes of a team share every batch: all of its images, equally many each, mostly the ones they had before."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft.datasets import Dataset
from shpeft.forward.base import ForwardPass
from shpeft.forward.shares import share_batch, share_sizes
from shpeft.support.team import Team
from tests.conftest import tiny


@given(st.lists(st.lists(st.integers(0, 50), max_size=40, unique=True), max_size=4), st.integers(1, 9))
def test_every_image_is_taken_once_and_equally_many_each(batches: list[list[int]], processes: int) -> None:
    owners: dict[int, int] = {}
    for rows in batches:
        counts, sizes = Counter(share_batch(rows, processes, owners)), share_sizes(len(rows), processes)
        assert [counts[rank] for rank in range(processes)] == sizes
        assert sum(sizes) == len(rows)
        assert max(sizes) - min(sizes) <= 1


def test_most_images_come_to_the_same_process_in_every_epoch() -> None:
    generator, processes, owners = torch.Generator().manual_seed(0), 8, dict[int, int]()
    seen: dict[int, set[int]] = {row: set() for row in range(4096)}
    moved = [0, 0, 0]
    for epoch in range(3):
        for chunk in torch.randperm(4096, generator=generator).split(32):
            rows = chunk.tolist()
            for row, taker in zip(rows, share_batch(rows, processes, owners), strict=True):
                moved[epoch] += taker not in seen[row]
                seen[row].add(taker)
    assert moved[0] == 4096
    assert moved[1] / 4096 < 0.2  # taking every eighth image of the shuffled batch moves 7/8 of them
    assert moved[2] < moved[1]


@pytest.mark.parametrize(("batch_size", "size"), [(8, 3), (2, 3), (7, 2), (60, 2)])
def test_parts_of_a_batch_make_the_batch(data: Dataset, batch_size: int, size: int) -> None:
    backbone, order = tiny(), torch.randperm(59, generator=torch.Generator().manual_seed(1)).tolist()
    mirrored = [row % 3 == 0 for row in range(59)]
    whole = list(ForwardPass(backbone).batches(data.train, batch_size, order=order, mirrored=mirrored))
    parts = [
        list(
            ForwardPass(backbone, team=Team(rank, size)).shares(data.train, batch_size, order=order, mirrored=mirrored)
        )
        for rank in range(size)
    ]
    for position, (inputs, target) in enumerate(whole):
        pieces = [part[position] for part in parts]
        assert [piece[2] for piece in pieces] == [len(target)] * size
        images = torch.cat([piece[0] for piece in pieces if len(piece[1])])
        assert sorted(images.sum((1, 2, 3)).tolist()) == sorted(inputs.sum((1, 2, 3)).tolist())
        assert sorted(torch.cat([piece[1] for piece in pieces]).tolist()) == sorted(target.tolist())


def test_a_process_alone_takes_the_same_bits(data: Dataset) -> None:
    forward_pass = ForwardPass(tiny())
    for (inputs, target), (part, labels, size) in zip(
        forward_pass.batches(data.train, 7), forward_pass.shares(data.train, 7), strict=True
    ):
        assert torch.equal(inputs, part)
        assert torch.equal(target, labels)
        assert size == len(target)
