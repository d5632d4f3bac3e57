"""Maps of inputs that are no squares: their shape, and that the right place of a wide image stands out."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from shpeft.backbones import Backbone, create_backbone
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import METHODS, explain, explain_and_check, mass_in_mask, overlay, pointing_hit
from shpeft.explanation.saliency.measures import NEAREST, _moved_copy
from shpeft.images import InputTransform
from tests.helpers.readable_model import Crossed, Network

SHAPE = (32, 64)
SPOTS = ((4, 56), (20, 8), (24, 40))
"""Rows and columns of the middle of a spot, each in the middle of an area of 16 pixels."""

PIXEL_METHODS = [name for name in METHODS if name not in ("grad_cam", "legrad")]


def image_with(spot: tuple[int, int], shape: tuple[int, int] = SHAPE) -> Tensor:
    """Return inputs of the mean color with a bright spot of 8 pixels."""
    inputs = torch.zeros(1, 3, *shape)
    row, column = spot
    inputs[..., row - 4 : row + 4, column - 4 : column + 4] = 1
    return inputs


def peak(saliency_map: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.abs(saliency_map - np.median(saliency_map)).argmax(), saliency_map.shape)
    return int(row), int(column)


def near(position: tuple[int, int], spot: tuple[int, int], reach: int) -> bool:
    return max(abs(a - b) for a, b in zip(position, spot, strict=True)) <= reach


def random_model(name: str) -> Backbone:
    backbone = create_backbone(name, classes=("a", "b"), weights="random", image_size=SHAPE)
    nn.init.normal_(backbone.head.weight, generator=torch.Generator().manual_seed(0))
    return backbone


def linear(features: nn.Module) -> Backbone:
    torch.manual_seed(0)
    transform = InputTransform("32x64", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("linear", Network(features, 3 * 32 * 64, False), ("a", "b"), transform, "made here")


@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_methods_by_pixel_point_at_the_spot(method: str, spot: tuple[int, int]) -> None:
    result = explain(linear(nn.Tanh()), image_with(spot), 0, method).map
    assert result.shape == SHAPE
    if method in ("saliency", "smoothgrad", "gradient_shap"):  # they see the mean color, too
        return
    assert near(peak(result), spot, 8)
    outside = np.ones(SHAPE, bool)
    outside[max(0, spot[0] - 12) : spot[0] + 12, max(0, spot[1] - 12) : spot[1] + 12] = False
    assert result[outside].max() < 1e-6


@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("features", [nn.Identity(), Crossed()], ids=["channels first", "channels last"])
def test_grad_cam_of_a_feature_map_points_at_the_spot(features: nn.Module, spot: tuple[int, int]) -> None:
    backbone = linear(features)
    nn.init.ones_(backbone.head.weight)
    result = explain(backbone, image_with(spot), 0, "grad_cam").map
    assert result.shape == SHAPE
    assert near(peak(result), spot, 4)
    assert result.sum() == pytest.approx(3 * 64, rel=1e-4)


@pytest.mark.parametrize("size", ["32x64", "64x32", "48x80"])
@pytest.mark.parametrize("method", ["grad_cam", "legrad"])
def test_methods_by_token_point_at_the_patch(method: str, size: str) -> None:
    """Without position embeddings all patches but one have the same tokens, and so the same value."""
    backbone = create_backbone("test_vit", classes=("a", "b"), weights="random", image_size=size)
    module: Any = backbone.module
    rows, columns = module.patch_embed.grid_size
    nn.init.zeros_(module.pos_embed)
    nn.init.normal_(backbone.head.weight, generator=torch.Generator().manual_seed(1))
    for row in range(rows):
        for column in range(columns):
            spot = (16 * row + 8, 16 * column + 8)
            inputs = image_with(spot, backbone.transform.shape)
            maps = [explain(backbone, 3 * inputs, target, method).map for target in (0, 1)]
            result = next(each for each in maps if np.ptp(each) > 0)
            assert result.shape == backbone.transform.shape
            assert near(peak(result), spot, 8), (row, column)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_a_map_is_checked(name: str) -> None:
    backbone = random_model(name)
    inputs = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    checked = explain_and_check(backbone, inputs, 0)
    assert checked.saliency.map.shape == SHAPE
    assert checked.sanity is not None
    assert len(checked.sanity.controls) == 19


def test_a_moved_copy_has_the_shape_and_the_values_of_the_map() -> None:
    values = np.arange(32 * 64, dtype=np.float32).reshape(SHAPE)
    rng = np.random.default_rng(0)
    copies = [_moved_copy(values, rng) for _ in range(40)]
    for copy in copies:
        assert copy.shape == SHAPE
        assert np.array_equal(np.sort(copy.ravel()), values.ravel())
        assert not np.array_equal(copy, values)
    shifts = [np.argwhere(copy == values.max())[0] for copy in copies]
    assert len({tuple(shift) for shift in shifts}) > 30
    assert NEAREST * 32 == 8


def test_other_shapes_are_refused() -> None:
    backbone = random_model("test_vit")
    for shape in ((64, 32), (32, 32)):
        with pytest.raises(DiagnosisError, match=r"one image of shape \(1, 3, 32, 64\)"):
            explain(backbone, torch.zeros(1, 3, *shape), 0, "saliency")


@pytest.mark.parametrize("spot", SPOTS)
def test_the_map_lies_over_the_image_in_its_own_size(spot: tuple[int, int]) -> None:
    """A wide image of another size, and a mask of it."""
    saliency = explain(linear(nn.Identity()), image_with(spot), 0, "input_x_gradient").map
    image = Image.new("L", (640, 320), 90)
    shown = np.asarray(overlay(image, saliency), dtype=np.float32)
    assert shown.shape == (320, 640, 3)
    rows, columns = np.nonzero(np.abs(shown - 90).sum(2))
    assert near((round(rows.mean()), round(columns.mean())), (10 * spot[0], 10 * spot[1]), 20)
    mask = np.zeros((320, 640), bool)
    mask[10 * spot[0] - 40 : 10 * spot[0] + 40, 10 * spot[1] - 40 : 10 * spot[1] + 40] = True
    assert mass_in_mask(saliency, mask) == pytest.approx(1)
    assert pointing_hit(saliency, mask) == 1
