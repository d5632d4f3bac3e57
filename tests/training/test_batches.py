"""The batches of an epoch: order, augmentation, mixtures and balance follow from the seed, and nothing else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward
from shpeft.training.batches import TrainingBatches
from tests.conftest import stripes

VARIED: list[dict[str, Any]] = [
    {"augment": "medium"},
    {"mixup": 0.4},
    {"augment": "strong", "modality": "dermoscopy", "mixup": 0.4},
    {"augment": "flip", "mixup": 0.4},
]


def drawn(data: Dataset, forward_pass: ForwardPass, epochs: int = 2, **options: Any) -> list[list[tuple[Tensor, ...]]]:
    batches = TrainingBatches(data, batch_size=8, seed=3, **options)
    return [[batch[:2] for batch in batches.epoch(number, forward_pass)] for number in range(1, epochs + 1)]


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("options", VARIED)
def test_epochs_differ_and_repeat_with_the_seed(vit: Backbone, data: Dataset, options: dict[str, Any]) -> None:
    first = drawn(data, ForwardPass(vit), **options)
    torch.rand(5)  # other draws do not matter
    again = drawn(data, ForwardPass(vit), **options)
    assert all(same(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    assert not torch.equal(first[0][0][0], first[1][0][0])


def test_a_later_epoch_needs_no_pixel_of_earlier_ones(vit: Backbone, data: Dataset) -> None:
    forward_pass, options = ForwardPass(vit), VARIED[2]
    whole = drawn(data, forward_pass, **options)
    batches = TrainingBatches(data, batch_size=8, seed=3, **options)
    batches.epoch(1, forward_pass)  # its order is drawn, none of its images
    assert all(same(a[:2], b) for a, b in zip(batches.epoch(2, forward_pass), whole[1], strict=True))


@pytest.mark.parametrize("options", VARIED)
def test_varied_images_pass_the_prefix_anew(vit: Backbone, data: Dataset, options: dict[str, Any]) -> None:
    cached, plain = CachedForward(BackboneSplit(vit, "blocks.3")), ForwardPass(vit)
    with torch.no_grad():
        for epochs in zip(drawn(data, cached, **options), drawn(data, plain, **options), strict=True):
            for (features, target), (images, expected) in zip(*epochs, strict=True):
                assert torch.equal(cached(features), plain(images))
                assert torch.equal(target, expected)
    assert "0 views of splits cached" in repr(cached)


def test_mixtures_are_of_an_image_and_its_neighbor(vit: Backbone, data: Dataset) -> None:
    (plain, labels), *_ = drawn(data, ForwardPass(vit), 1)[0]
    (mixed, shares), *_ = drawn(data, ForwardPass(vit), 1, mixup=0.4)[0]
    assert shares.shape == (8, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(8))
    differing = labels != labels.roll(1)
    share = shares.gather(1, labels[:, None])[:, 0][differing][0]
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * plain + (1 - share) * plain.roll(1, 0), rtol=1e-4, atol=1e-4)


def test_balanced_sampling_draws_every_class_alike(vit: Backbone, data: Dataset) -> None:
    rare = [row for row, label in enumerate(data.train.labels) if label != 2 or row < 6]
    uneven = replace(data, train=data.train.subset(rare))
    assert uneven.train.counts()["both"] == 2
    labels = [int(y) for epoch in drawn(uneven, ForwardPass(vit), 20, balance="sampling") for _, t in epoch for y in t]
    counts = Counter(labels)
    assert len(labels) == 20 * len(rare)
    assert all(abs(count / len(labels) - 1 / 3) < 0.05 for count in counts.values())


def test_without_options_the_order_is_that_of_one_generator(vit: Backbone, data: Dataset) -> None:
    generator = torch.Generator().manual_seed(3)
    for epoch in drawn(data, ForwardPass(vit), augment="flip"):
        order = torch.randperm(60, generator=generator)
        flips = torch.rand(60, generator=generator) < 0.5
        images = torch.cat([images for images, _ in epoch])
        expected = torch.cat([x for x, _ in ForwardPass(vit).batches(data.train, 8, order=order.tolist())])
        assert torch.equal(images, torch.where(flips.view(-1, 1, 1, 1), expected.flip(-1), expected))


def test_the_modality_of_the_card_counts(vit: Backbone, data: Dataset) -> None:
    xray = replace(data, train=stripes(0, 8, "train"), card={"modality": "chest x-ray"})
    as_said = drawn(xray, ForwardPass(vit), 1, augment="light")
    named = drawn(replace(xray, card={}), ForwardPass(vit), 1, augment="light", modality="chest-xray")
    assert same(as_said[0][0], named[0][0])
