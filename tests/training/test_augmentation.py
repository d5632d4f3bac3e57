"""Augmentation changes what the modality allows, keeps what it does not, and follows from the seed."""

import pytest
import torch

from shpeft.config.schema import Modality
from shpeft.support.seeding import seeded
from shpeft.training.augmentation import RANGES, STRENGTHS, augmentation, modality_of

SIZE = 32


def halves() -> torch.Tensor:
    """Return an image whose left half is bright, and whose top is brighter than its bottom."""
    image = torch.full((3, SIZE, SIZE), 40, dtype=torch.uint8)
    image[:, :, : SIZE // 2] = 160
    image[:, : SIZE // 2] += 60
    return image


def views(modality: str, image: torch.Tensor, strength: str = "strong") -> list[torch.Tensor]:
    change = augmentation(strength, modality, (SIZE, SIZE))  # type: ignore[arg-type]
    changed = []
    for seed in range(24):
        with seeded(seed):
            changed.append(change(image))
    return changed


@pytest.mark.parametrize("modality", RANGES)
def test_sides_are_exchanged_only_where_they_do_not_matter(modality: str) -> None:
    changed = [view.float().mean(0) for view in views(modality, halves())]
    left_brighter = {bool(v[:, : SIZE // 2].mean() > v[:, SIZE // 2 :].mean()) for v in changed}
    top_brighter = {bool(v[: SIZE // 2].mean() > v[SIZE // 2 :].mean()) for v in changed}
    ranges = RANGES[modality]
    assert left_brighter == ({True, False} if ranges.mirror else {True})
    assert top_brighter == ({True, False} if ranges.turn else {True})


@pytest.mark.parametrize("modality", RANGES)
def test_colors_are_those_of_the_stain_where_color_counts(modality: str) -> None:
    image = torch.tensor([180, 90, 150], dtype=torch.uint8).view(3, 1, 1).expand(3, SIZE, SIZE).contiguous()
    ratios = [
        v.float().mean((1, 2))[0].item() / v.float().mean((1, 2))[1].item() for v in views(modality, image, "light")
    ]
    changes = max(abs(ratio - 2) for ratio in ratios)
    ranges = RANGES[modality]
    assert changes > 0.03 if ranges.saturation else changes < 0.25  # contrast alone moves the channels together


def test_laterality_and_stain_stay_in_the_modalities_that_need_them() -> None:
    assert not any(RANGES[name].mirror for name in ("general", "chest-xray", "ct", "mri"))
    assert not any(RANGES[name].turn for name in ("ultrasound", "oct", "fundus"))
    assert not any(
        RANGES[name].hue or RANGES[name].saturation for name in ("general", "histopathology", "microscopy", "ct")
    )


def test_stronger_is_further_from_the_image() -> None:
    image = (torch.arange(SIZE * SIZE).reshape(1, SIZE, SIZE).expand(3, -1, -1) % 251).to(torch.uint8).contiguous()
    distances = [
        sum((v.float() - image.float()).abs().mean().item() for v in views("mri", image, strength))
        for strength in STRENGTHS
    ]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_the_same_seed_gives_the_same_view() -> None:
    first, second = views("dermoscopy", halves()), views("dermoscopy", halves())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("setting", "dataset", "expected"),
    [("auto", "Chest X-ray", "chest-xray"), ("auto", "endoscopy", "general"), ("fundus", "ct", "fundus")],
)
def test_the_modality_is_the_setting_or_that_of_the_dataset(setting: Modality, dataset: str, expected: str) -> None:
    assert modality_of(setting, dataset) == expected
