"""Families of timm's models from loading to explanation, or refused; with random weights, at small sizes."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets.base import Dataset
from shpeft.delta.file import load_delta, save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.diagnosis import diagnose
from shpeft.errors import BackboneError, WeightsUnavailable
from shpeft.explanation.attribution import STEPS, attribute_weights
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import fit_linear_probe
from shpeft.selection.top_k import select
from shpeft.training.loop import finetune
from tests.conftest import CLASSES, assert_unchanged, state, stripes

SIZES = {
    "test_byobnet": 32,
    "test_coatnet": 32,
    "test_convnext": 32,
    "test_convnext2": 32,
    "test_convnext3": 32,
    "test_efficientnet": 32,
    "test_efficientnet_evos": 32,
    "test_efficientnet_gn": 32,
    "test_efficientnet_ln": 32,
    "test_mambaout": 32,
    "test_maxvit": 64,
    "test_nfnet": 32,
    "test_resnet": 32,
    "test_vit": 32,
    "test_vit2": 32,
    "test_vit3": 32,
    "test_vit4": 32,
    "test_vit_relpos": 32,
    "swin_tiny_patch4_window7_224": 56,
    "eva02_tiny_patch14_224": 28,
    "vit_small_patch16_dinov3": 32,
    "vit_base_patch16_siglip_224": 32,
    "resnet50_clip": 32,
    "beit_base_patch16_224": 32,
    "densenet121": 32,
    "mobilenetv3_small_050": 32,
    "caformer_s18": 32,
    "xcit_nano_12_p16_224": 32,
}
"""Image sizes by architecture; the larger models have fewer blocks, see ``DEPTHS``."""

DEPTHS = {
    "eva02_tiny_patch14_224": {"depth": 2},
    "vit_small_patch16_dinov3": {"depth": 2},
    "vit_base_patch16_siglip_224": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "window_size": 7},
}


@pytest.fixture(scope="module")
def few() -> Dataset:
    """Nine training, six validation and six test images."""
    return Dataset("stripes", stripes(0, 9, "train"), stripes(1, 6, "val"), stripes(2, 6, "test"), CLASSES, {})


@pytest.mark.parametrize("name", SIZES)
def test_a_family_goes_through_every_stage(name: str, few: Dataset, tmp_path: Path) -> None:
    backbone = create_backbone(
        name, classes=CLASSES, weights="random", image_size=SIZES[name], model_args=DEPTHS.get(name, {})
    )
    before = state(backbone)
    assert_head_reads_features(backbone)
    probe = fit_linear_probe(backbone, few.train, few.val)
    scores = estimate_importance(backbone, few.train, "hybrid", head=probe)
    support = select(scores, 20)
    delta = SparseDelta.zeros(backbone, support, probe)
    reports = list(finetune(backbone, delta, few, epochs=1, batch_size=9, seed=0))
    assert reports[-1].epoch == 1
    loaded = load_delta(save_delta(delta, tmp_path / "delta.safetensors"), base=backbone)
    assert torch.equal(loaded.values, delta.values)
    inputs = backbone.transform(few.test.image(0))
    attribution = attribute_weights(backbone, loaded, inputs, 0, initial_head=probe, max_steps=STEPS[0])
    assert torch.isfinite(attribution.values).all()
    with loaded.applied(backbone):
        diagnosis = diagnose(backbone, few.test.image(0), method="saliency")
    assert diagnosis.saliency is not None
    assert diagnosis.saliency.map.shape == (SIZES[name], SIZES[name])
    assert_unchanged(backbone, before)


@torch.no_grad()
def assert_head_reads_features(backbone: Backbone) -> None:
    """Check that the logits are the head's output on the features, one row an image."""
    images = torch.randn(3, *backbone.input_shape)
    features = backbone.features(images)
    assert features.shape == (3, backbone.head.in_features)
    torch.testing.assert_close(backbone.head(features), backbone(images))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deit_tiny_distilled_patch16_224", "two heads.* deit_tiny_patch16_224"),
        ("crossvit_9_240", "two heads"),
        ("levit_128s", "two heads"),
    ],
)
def test_heads_that_are_not_one_linear_layer_are_refused(name: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        create_backbone(name, classes=CLASSES, weights="random")


class Bare(nn.Module):
    """A classifier that timm knows by name, without a pretrained configuration."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.stem(x).mean((2, 3)))
        return logits


@timm.models.register_model
def bare_classifier(pretrained: bool = False, num_classes: int = 10, **_: object) -> nn.Module:
    """Create a model as packages beside timm register theirs."""
    return Bare(num_classes)


def test_a_model_without_a_pretrained_configuration_works_with_random_weights() -> None:
    backbone = create_backbone("bare_classifier", classes=CLASSES, weights="random", image_size=48)
    assert backbone.image_size == 48
    assert_head_reads_features(backbone)
    with pytest.raises(WeightsUnavailable, match="publishes no pretrained weights"):
        create_backbone("bare_classifier", classes=CLASSES)
