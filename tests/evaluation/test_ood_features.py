"""The detector's features: means of block outputs, from the pass that gives the logits."""

import numpy as np
import pytest
import torch
from PIL import Image

from shpeft.backbones import Backbone, create_backbone
from shpeft.evaluation.ood_features import detector_blocks, features_and_logits, image_features


def test_features_are_the_means_of_three_blocks(vit: Backbone) -> None:
    blocks = detector_blocks(vit)
    assert len(set(blocks)) == len(blocks) >= 2
    inputs = torch.randn(3, 3, 32, 32)
    outputs = {}
    for name in blocks:
        vit.module.get_submodule(name).register_forward_hook(lambda *a, name=name: outputs.update({name: a[2]}))
    with torch.no_grad():
        expected = vit(inputs)
    for name in blocks:
        vit.module.get_submodule(name)._forward_hooks.clear()
    features, logits = features_and_logits(vit, inputs, blocks)
    assert torch.equal(logits, expected)
    means = [outputs[name].mean(1) for name in blocks]
    assert np.array_equal(features, torch.cat([m / m.norm(dim=1, keepdim=True) for m in means], 1).numpy())
    assert not any(module._forward_hooks for module in vit.module.modules())


def test_without_blocks_the_features_are_the_input_of_the_head(vit: Backbone) -> None:
    inputs = torch.randn(2, 3, 32, 32)
    features, logits = features_and_logits(vit, inputs, ())
    with torch.no_grad():
        head = vit.features(inputs)
        assert torch.equal(logits, vit(inputs))
    assert features == pytest.approx((head / head.norm(dim=1, keepdim=True)).numpy())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_maps_are_averaged_over_positions(name: str) -> None:
    backbone = create_backbone(name, classes=("a", "b"), weights="random", image_size=64)
    images = [Image.new("RGB", (64, 64), color) for color in ("white", "black", "red")]
    features = image_features(backbone, images, detector_blocks(backbone))
    assert features.shape[0] == 3
    assert np.isfinite(features).all()
    assert not np.array_equal(features[0], features[1])
