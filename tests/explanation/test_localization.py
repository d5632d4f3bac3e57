"""Localization with known answers, and on models that read known pixels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import Map, area_share, explain, localize, mass_in_mask, pointing_hit
from shpeft.explanation.saliency.localization import Mask
from tests.conftest import assert_unchanged, state
from tests.helpers.present import present
from tests.helpers.readable_model import looking

QUARTER = np.zeros((8, 8), dtype=bool)
QUARTER[:4, :4] = True


def spots(**values: float) -> np.ndarray:
    """A map of 4 x 4 with values at places: ``r0c1=2.0``."""
    result = np.zeros((4, 4), np.float32)
    for name, value in values.items():
        result[int(name[1]), int(name[3])] = value
    return result


@pytest.mark.parametrize(
    ("saliency_map", "mass", "hit"),
    [
        (spots(r0c0=1), 1.0, 1.0),
        (spots(r3c3=1), 0.0, 0.0),
        (spots(r0c0=1, r3c3=3), 0.25, 0.0),
        (spots(r1c1=3, r2c1=1), 0.75, 1.0),
        (spots(r0c0=2, r0c3=2), 0.5, 0.5),  # two maxima, one of them in the mask
        (np.ones((4, 4), np.float32), 0.25, 0.25),  # an even map reaches the area's share
        (np.zeros((4, 4), np.float32), 0.25, 0.25),  # and so does an empty one
    ],
)
def test_known_answers(saliency_map: Map, mass: float, hit: float) -> None:
    """The mask is the upper left quarter of an image twice the map's size."""
    assert area_share(QUARTER) == 0.25
    assert mass_in_mask(saliency_map, QUARTER) == mass
    assert pointing_hit(saliency_map, QUARTER) == hit


def test_a_mask_covers_a_value_in_part() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = True  # a quarter of the map's first value
    assert mass_in_mask(spots(r0c0=1), mask) == 0.25
    assert pointing_hit(spots(r0c0=1), mask) == 0.25


def test_any_size_of_mask_fits() -> None:
    mask = np.zeros((30, 50), dtype=bool)
    mask[:, :25] = True
    assert mass_in_mask(np.ones((7, 7), np.float32), mask) == pytest.approx(0.5, abs=1e-6)


def test_the_scale_of_a_map_does_not_matter() -> None:
    rough = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    assert mass_in_mask(rough, QUARTER) == pytest.approx(mass_in_mask(1000 * rough, QUARTER), abs=1e-6)
    assert pointing_hit(rough, QUARTER) == pointing_hit(1000 * rough, QUARTER)


@pytest.mark.parametrize("measure", [mass_in_mask, pointing_hit])
def test_invalid_maps_and_masks_are_refused(measure: Callable[[Map, Mask], float]) -> None:
    with pytest.raises(DiagnosisError, match="mask of this image is empty"):
        measure(np.ones((4, 4), np.float32), np.zeros((8, 8), dtype=bool))
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(DiagnosisError, match="finite values of at least 0"):
            measure(spots(r0c0=wrong), QUARTER)


def test_localization_separates_a_lesion_reader_from_its_complement(phantom: Dataset) -> None:
    """Two linear models: one reads the pixels of an image's lesion, the other all pixels but those."""
    row = next(row for row in range(len(phantom.test)) if present(phantom.test.mask(row)).any())
    lesion = torch.from_numpy(present(phantom.test.mask(row)))
    on, off = (
        localize(looking(where, phantom.classes, 64), phantom.test, "saliency", rows=[row])
        for where in (lesion, ~lesion)
    )
    assert (on.mass, on.pointing) == (1.0, 1.0)
    assert (off.mass, off.pointing) == (0.0, 0.0)
    assert on.chance == off.chance == pytest.approx(lesion.float().mean().item())


def test_localize_averages_over_the_images_with_a_lesion(phantom: Dataset, vit: Backbone) -> None:
    backbone = looking(torch.ones(64, 64, dtype=torch.bool), phantom.classes, 64)
    torch.manual_seed(0)
    torch.nn.init.normal_(backbone.head.weight)
    before = state(backbone)
    split = phantom.test
    result = localize(backbone, split, "input_x_gradient")
    assert_unchanged(backbone, before)
    rows = [row for row in range(len(split)) if present(split.mask(row)).any()]
    maps = [
        explain(backbone, backbone.transform(split.image(row)), split.labels[row], "input_x_gradient").map
        for row in rows
    ]
    masses = [mass_in_mask(each, present(split.mask(row))) for each, row in zip(maps, rows, strict=True)]
    hits = [pointing_hit(each, present(split.mask(row))) for each, row in zip(maps, rows, strict=True)]
    assert result.cases == len(rows) == sum(label > 0 for label in split.labels)
    assert (result.mass, result.pointing) == pytest.approx((np.mean(masses), np.mean(hits)))


def test_images_without_masks_are_refused(data: Dataset, vit: Backbone) -> None:
    with pytest.raises(DiagnosisError, match="none of these has one"):
        localize(vit, data.test, "saliency")
    with pytest.raises(DiagnosisError, match="Did you mean"):
        localize(vit, data.test, "salience")
