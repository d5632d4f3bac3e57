"""Inputs of one channel and of three are those of plain timm."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import nn

import shpeft
from shpeft.backbones import create_backbone
from shpeft.images import InputTransform
from shpeft.images.transform import luminance
from tests.pipeline.conftest import carry_out, tiny

CLASSES = ("healthy", "ill")


def image(seed: int = 0, gray: bool = True) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (48, 40) if gray else (48, 40, 3), dtype=np.uint8)
    return Image.fromarray(values)


def weights_of_three_channels(folder: Path) -> Path:
    torch.manual_seed(3)
    path = folder / "three.safetensors"
    safetensors.torch.save_file(timm.create_model("test_vit", num_classes=5).state_dict(), path)
    return path


def test_gray_inputs_have_the_logits_of_plain_timm(tmp_path: Path) -> None:
    """The recipe of plain timm: create with in_chans=1, load the adapted file, resize, mode L, normalize."""
    path = weights_of_three_channels(tmp_path)
    backbone = create_backbone(
        "test_vit",
        classes=CLASSES,
        weights=path,
        image_size=32,
        model_args={"in_chans": 1},
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    plain: Any = timm.create_model("test_vit", num_classes=2, in_chans=1, img_size=32).eval()
    state = safetensors.torch.load_file(path)
    state["patch_embed.proj.weight"] = timm.models.adapt_input_conv(1, state["patch_embed.proj.weight"])
    state = timm.models.vision_transformer.checkpoint_filter_fn(state, plain)
    plain.load_state_dict({name: t for name, t in state.items() if not name.startswith("head.")}, strict=False)
    plain.head.load_state_dict(backbone.head.state_dict())
    for gray in (True, False):
        resized = image(gray=gray).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC).convert("L")
        inputs = (torch.from_numpy(np.array(resized)).float() / 255 - 0.5) / 0.25
        inputs = inputs[None, None]
        assert torch.equal(backbone.transform(image(gray=gray)), inputs)
        assert torch.equal(backbone(backbone.transform(image(gray=gray))), plain(inputs))
    assert "first layer summed over the colors" in backbone.weights


def test_rgb_inputs_have_the_logits_of_plain_timm(tmp_path: Path) -> None:
    path = weights_of_three_channels(tmp_path)
    backbone = create_backbone("test_vit", classes=CLASSES, weights=path, image_size=32)
    plain: Any = timm.create_model("test_vit", num_classes=2, img_size=32).eval()
    state = timm.models.vision_transformer.checkpoint_filter_fn(safetensors.torch.load_file(path), plain)
    plain.load_state_dict({name: t for name, t in state.items() if not name.startswith("head.")}, strict=False)
    plain.head.load_state_dict(backbone.head.state_dict())
    config = timm.data.resolve_data_config({}, model=plain)
    resized = image(gray=False).resize((32, 32), Image.Resampling.BICUBIC)
    inputs = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert torch.equal(backbone(backbone.transform(image(gray=False))), plain(((inputs - mean) / std)[None]))


def test_luminance_is_that_of_pillow() -> None:
    colors = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = np.array(Image.fromarray(colors).convert("L"))
    pixels = torch.from_numpy(colors).permute(2, 0, 1)
    assert torch.equal(luminance(pixels)[0], torch.from_numpy(expected).float())
    assert (luminance(pixels.float()) - luminance(pixels)).abs().max() <= 0.51


def test_a_transform_of_three_channels_is_written_as_before() -> None:
    plain = InputTransform(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert plain.to_dict().keys() == {"size", "mean", "std", "interpolation"}
    for channels in (1, 3):
        transform = InputTransform(32, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25), channels=channels)
        assert InputTransform.from_dict(transform.to_dict()) == transform


def test_a_run_on_gray_inputs_goes_from_training_to_explanation(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "gray", tiny(backbone={"model_args": ["in_chans=1"]}, training={"epochs": 1}))
    with shpeft.load_run(folder, "cpu") as loaded:
        assert loaded.backbone.transform.channels == 1
        assert isinstance(first := loaded.backbone.module.get_submodule("patch_embed.proj"), nn.Conv2d)
        assert first.in_channels == 1
        data = shpeft.load_dataset(**folder.config.dataset.model_dump())
        diagnosis = shpeft.diagnose(
            loaded.backbone, data.test.image(0), reliability=loaded.reliability, ood_detector=loaded.ood_detector
        )
        assert diagnosis.probabilities == pytest.approx(folder.predictions.test().probabilities[0].tolist(), abs=1e-6)
        inputs = loaded.backbone.transform(data.test.image(0))
        assert inputs.shape == (1, 1, 32, 32)
        for method in ("integrated_gradients", "occlusion", "gradient_shap", "legrad"):
            saliency = shpeft.explain(loaded.backbone, inputs, 0, method)
            assert saliency.map.shape == (32, 32)
        with pytest.raises(shpeft.ShpeftError, match=r"shape \(1, 1, S, S\)"):
            shpeft.explain(loaded.backbone, inputs.expand(1, 3, 32, 32), 0, "saliency")
        with loaded.pretrained() as base:
            attribution = shpeft.attribute_weights(base, loaded.delta, inputs, 0)
        assert attribution.converged
