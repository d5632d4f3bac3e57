"""Random changes of training images that leave the diagnosis as it is, by modality and strength."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from shpeft.config.schema import Augmentation, Modality

STRENGTHS: dict[Augmentation, float] = {"light": 0.5, "medium": 1.0, "strong": 1.5}
"""Factor of every range in :data:`RANGES`."""

MARGIN = 0.25
"""Share of the longer side that is reflected around an image, so that a rotation shows no empty corners."""


@dataclass(frozen=True)
class Ranges:
    """What may change in an image of one modality, and how far at medium strength.

    Attributes:
        mirror: whether left and right may be exchanged.
        turn: whether the image has no upper side: it is also flipped upside down and, if it is square, turned by 90°.
        rotation: degrees.
        shift: share of each side.
        zoom: 0.1 is from 0.9 to 1.1.
        light: relative change of brightness and of contrast.
        saturation: relative change of the saturation.
        hue: share of the color circle.
    """

    mirror: bool = False
    turn: bool = False
    rotation: float = 10.0
    shift: float = 0.05
    zoom: float = 0.1
    light: float = 0.2
    saturation: float = 0.0
    hue: float = 0.0


RANGES: dict[str, Ranges] = {
    "general": Ranges(light=0.1),
    "chest-xray": Ranges(),
    "ct": Ranges(light=0.1),  # gray values are Hounsfield units
    "mri": Ranges(),
    "ultrasound": Ranges(mirror=True),
    "fundus": Ranges(mirror=True, rotation=20.0, saturation=0.1, hue=0.01),
    "oct": Ranges(mirror=True),
    "dermoscopy": Ranges(mirror=True, turn=True, rotation=20.0, saturation=0.1, hue=0.02),
    "histopathology": Ranges(mirror=True, turn=True, light=0.1),
    "microscopy": Ranges(mirror=True, turn=True, light=0.1),
}
"""By modality. Laterality is part of the diagnosis in X-rays, CT and MRI, and the stain in histopathology."""

OTHER_NAMES = {"chest x-ray": "chest-xray", "chest radiograph": "chest-xray"}
"""Modalities as datasets name them."""


def modality_of(setting: Modality, dataset: str | None) -> str:
    """Return the modality whose ranges apply: that of the setting, or with ``auto`` that of the dataset's card.

    Examples:
        >>> modality_of("auto", "chest x-ray"), modality_of("auto", None), modality_of("oct", "fundus")
        ('chest-xray', 'general', 'oct')
    """
    if setting != "auto":
        return setting
    name = (dataset or "").lower()
    name = OTHER_NAMES.get(name, name)
    return name if name in RANGES else "general"


def augmentation(strength: Augmentation, modality: str, shape: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Return the random changes of images, uint8 (3, H, W), by torch's global generator.

    Args:
        strength: light, medium or strong.
        modality: a key of :data:`RANGES`.
        shape: height H and width W in pixels.

    Examples:
        >>> import torch
        >>> image = torch.arange(3 * 32 * 32).reshape(3, 32, 32).to(torch.uint8)
        >>> changed = augmentation("light", "chest-xray", (32, 32))(image)
        >>> changed.shape, changed.dtype, bool((changed != image).any())
        (torch.Size([3, 32, 32]), torch.uint8, True)
    """
    ranges, factor = RANGES[modality], STRENGTHS[strength]
    light, zoom = ranges.light * factor, ranges.zoom * factor
    margins = [min(MARGIN * max(shape), side - 1) for side in shape]  # a reflection is shorter than its side
    down, along = (ranges.shift * factor / (1 + 2 * margin / side) for margin, side in zip(margins, shape, strict=True))
    steps: list[torch.nn.Module] = []
    if ranges.mirror:
        steps.append(v2.RandomHorizontalFlip())
    if ranges.turn:
        steps.append(v2.RandomVerticalFlip())
        if shape[0] == shape[1]:
            steps.append(v2.RandomChoice([v2.Identity(), v2.Lambda(_quarter_turn)]))
    steps += [
        v2.Pad([round(margins[1]), round(margins[0])], padding_mode="reflect"),
        v2.RandomAffine(
            ranges.rotation * factor, (along, down), (1 - zoom, 1 + zoom), interpolation=InterpolationMode.BILINEAR
        ),
        v2.CenterCrop(shape),
        v2.ColorJitter(light, light, ranges.saturation * factor, ranges.hue * factor),
    ]
    change: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return change


def _quarter_turn(pixels: Tensor) -> Tensor:
    return pixels.rot90(1, (-2, -1))
