"""Inputs that are no squares: positions are those of the grid, and what cannot be done is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.layers import resample_abs_pos_embed

from shpeft.backbones import Backbone, create_backbone
from shpeft.backbones.feature_maps import channels_first
from shpeft.backbones.timm_format import save_timm
from shpeft.errors import BackboneError
from shpeft.images import InputTransform

CLASSES = ("healthy", "ill")


def wide(name: str, size: Any = "32x64", **settings: Any) -> Backbone:
    return create_backbone(name, classes=CLASSES, image_size=size, **{"weights": "random"} | settings)


def weights_of(folder: Path, name: str, **arguments: Any) -> Path:
    """Write the weights of a square model, with position embeddings that differ from each other."""
    torch.manual_seed(2)
    module: Any = timm.create_model(name, num_classes=0, **arguments)
    if getattr(module, "pos_embed", None) is not None:
        torch.nn.init.normal_(module.pos_embed)
    path = folder / f"{name}.safetensors"
    safetensors.torch.save_file(module.state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_model_takes_inputs_of_height_and_width(name: str) -> None:
    backbone = wide(name)
    assert (backbone.image_size, backbone.input_shape) == ("32x64", (3, 32, 64))
    assert "32x64 px" in repr(backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    inputs = backbone.transform(Image.fromarray(pixels))
    resized = np.array(Image.fromarray(pixels).resize((64, 32), Image.Resampling.BICUBIC))
    assert torch.equal(inputs[0], backbone.transform.normalize(torch.from_numpy(resized).permute(2, 0, 1)))
    assert backbone(inputs).shape == (1, 2)
    for same in ((32, 64), [32, 64], "32 x 64"):
        assert wide(name, same).fingerprint == backbone.fingerprint
    tall = wide(name, "64x32")
    assert tall(tall.transform(Image.fromarray(pixels))).shape == (1, 2)


def test_a_square_is_a_number_however_it_is_written() -> None:
    plain = wide("test_vit", 32)
    for same in ("32", "32x32", (32, 32)):
        other = wide("test_vit", same)
        assert (other.transform, other.fingerprint) == (plain.transform, plain.fingerprint)
    assert plain.transform.to_dict()["size"] == 32
    transform = InputTransform("32x64", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert InputTransform.from_dict(transform.to_dict()) == transform
    assert transform.to_dict()["size"] == "32x64"


@pytest.mark.parametrize("grid", [(5, 20), (20, 5), (4, 9)])
def test_position_embeddings_are_resampled_to_the_grid(grid: tuple[int, int], tmp_path: Path) -> None:
    """Also to a grid of as many patches, whose embedding has the same shape."""
    path = weights_of(tmp_path, "test_vit")
    state = safetensors.torch.load_file(path)
    backbone = wide("test_vit", (16 * grid[0], 16 * grid[1]), weights=path)
    expected = resample_abs_pos_embed(state["pos_embed"], list(grid), [10, 10], num_prefix_tokens=1)
    assert torch.equal(backbone.parameters["pos_embed"], expected)
    square = create_backbone("test_vit", classes=CLASSES, weights=path, image_size=160)
    assert torch.equal(square.parameters["pos_embed"], state["pos_embed"])


def test_weights_of_a_wide_model_are_those_of_their_own_grid(tmp_path: Path) -> None:
    backbone = wide("test_vit", "80x320", weights=weights_of(tmp_path, "test_vit"))
    folder = tmp_path / "wide"
    save_timm(backbone, folder)
    again = create_backbone(f"local-dir:{folder}", classes=CLASSES)
    assert again.image_size == "80x320"
    assert again.fingerprint == backbone.fingerprint
    back = create_backbone(f"local-dir:{folder}", classes=CLASSES, image_size=160)
    expected = resample_abs_pos_embed(backbone.parameters["pos_embed"], [10, 10], [5, 20], num_prefix_tokens=1)
    assert torch.equal(back.parameters["pos_embed"], expected)


def test_the_embedded_backbone_takes_as_many_patches_in_another_grid() -> None:
    square, long = create_backbone(classes=CLASSES), create_backbone(classes=CLASSES, image_size="56x224")
    own, other = square.parameters["pos_embed"], long.parameters["pos_embed"]
    assert own.shape == other.shape
    expected = resample_abs_pos_embed(own, [4, 16], [8, 8], num_prefix_tokens=own.shape[1] - 64)
    assert torch.allclose(other, expected, atol=1e-4)  # the file has 16 bits
    assert not torch.allclose(own, expected, atol=1e-2)


def test_weights_of_single_positions_are_refused_at_other_proportions(tmp_path: Path) -> None:
    path = weights_of(tmp_path, "gmlp_ti16_224")
    with pytest.raises(BackboneError, match=r"positions of an image of 224 × 224 px \(.+\).* Use --image-size 224"):
        wide("gmlp_ti16_224", "112x448", weights=path)
    assert wide("gmlp_ti16_224", 224, weights=path).image_size == 224


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BackboneError, match=r"patches of 16 px, which 40 px is not a multiple of.* such as 32 or 48"):
        wide("test_vit", "32x40")
    for wrong in ("32by64", "32x64x3", (32,) * 3, "0x64", -32, True, 32.5, "x"):
        with pytest.raises(
            BackboneError, match="neither the side of a square in pixels, such as 224, nor height x width"
        ):
            wide("test_vit", wrong)


def test_a_model_of_squares_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"only handles square inputs.* such as --image-size 224, or choose"):
        wide("nest_tiny", "224x448")


def test_a_model_that_cannot_run_on_its_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = timm.create_model("test_convnext")

    def only_squares(self: Any, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shape '[1, 4, 4]' is invalid")

    monkeypatch.setattr(type(module), "forward", only_squares)
    with pytest.raises(BackboneError, match=r"cannot run on inputs of 32 × 64 px \(height x width\).*--image-size 32"):
        wide("test_convnext")


@pytest.mark.parametrize("positions", [(4, 2), (7, 14), (1, 5)])
def test_the_positions_of_a_map_have_the_proportions_of_the_input(positions: tuple[int, int]) -> None:
    rows, columns = positions
    features = torch.randn(2, 24, rows, columns)
    shape = (32 * rows, 32 * columns)
    assert torch.equal(channels_first(features, shape), features)
    assert torch.equal(channels_first(features.permute(0, 2, 3, 1), shape), features)
