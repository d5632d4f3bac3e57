"""Backbones: names, weights from files, and the block and depth of each weight."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from shpeft.backbones import create_backbone, list_backbones, resolve_device
from shpeft.errors import BackboneError, ConfigError, UnknownBackbone, WeightsUnavailable
from tests.conftest import CLASSES, shared, tiny


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownBackbone, match="vit_small_patch14_dinov2"):
        create_backbone("vit_small_patch14_dino2", classes=CLASSES)
    with pytest.raises(UnknownBackbone, match=r"Known: .*test_vit\.r160_in1k|Did you mean test_vit\.r160_in1k"):
        create_backbone("test_vit.r160_in2k", classes=CLASSES)


def test_pretrained_weights_without_a_network_are_refused_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def hang(*_: object, **__: object) -> None:
        time.sleep(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr("shpeft.support.network.TIMEOUT", 0.5)
    started = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=r"cannot be reached .*--weights"):
        create_backbone("vit_small_patch14_dinov2", classes=CLASSES, image_size=112)
    assert time.monotonic() - started < 5


def test_models_without_published_weights_say_so() -> None:
    with pytest.raises(WeightsUnavailable, match="publishes no pretrained weights"):
        create_backbone("coatnet_0_224", classes=CLASSES)


def test_random_weights_do_not_depend_on_what_other_threads_draw() -> None:
    expected = tiny().fingerprint
    with ThreadPoolExecutor(4) as pool:
        fingerprints = set(pool.map(lambda _: tiny().fingerprint, range(24)))
    assert fingerprints == {expected}


def test_random_weights_are_seeded_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = tiny(), tiny()
    assert torch.rand(1) == expected
    assert first.fingerprint == second.fingerprint
    assert create_backbone("test_vit", classes=CLASSES, weights="random", image_size=32, seed=1).fingerprint != (
        first.fingerprint
    )


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Any, Path]:
    """A file of test_vit's weights at its own size, without a head."""
    module = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(module.state_dict(), path)
    return module, path


def test_local_weights_are_loaded_and_position_embeddings_resampled(weights: tuple[Any, Path]) -> None:
    module, path = weights
    backbone = create_backbone("test_vit", classes=CLASSES, weights=path, image_size=64)
    assert torch.equal(backbone.parameters["blocks.3.mlp.fc1.weight"], module.blocks[3].mlp.fc1.weight)
    assert backbone.parameters["pos_embed"].shape[1] == 16 + (module.pos_embed.shape[1] - 100)
    assert backbone.transform.size == backbone.image_size == 64
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_files_that_do_not_fit_are_refused(weights: tuple[Any, Path], tmp_path: Path) -> None:
    _, path = weights
    with pytest.raises(WeightsUnavailable, match="no file"):
        create_backbone("test_vit", classes=CLASSES, weights=tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsUnavailable, match=r"If random weights are intended|do not fit"):
        create_backbone("test_vit2", classes=CLASSES, weights=path)
    with pytest.raises(WeightsUnavailable):
        create_backbone("test_convnext", classes=CLASSES, weights=path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pth")
    with pytest.raises(WeightsUnavailable, match="Pickled checkpoints can run code"):
        create_backbone("test_vit", classes=CLASSES, weights=tmp_path / "pickle.pth")


def test_a_file_that_lacks_matrices_is_refused(weights: tuple[Any, Path]) -> None:
    module, path = weights
    some = {name: t for name, t in module.state_dict().items() if "blocks.2.mlp" not in name}
    safetensors.torch.save_file(some, path)
    with pytest.raises(WeightsUnavailable, match=r"blocks\.2\.mlp|do not fit"):
        create_backbone("test_vit", classes=CLASSES, weights=path)


def test_image_sizes_that_the_model_cannot_take_are_refused() -> None:
    with pytest.raises(BackboneError, match="multiple of"):
        create_backbone("test_vit", classes=CLASSES, weights="random", image_size=50)


def test_one_class_is_refused() -> None:
    with pytest.raises(BackboneError, match="two classes"):
        create_backbone("test_vit", classes=("only",), weights="random")


def test_scopes_of_a_vit() -> None:
    backbone = tiny()
    every = backbone.weight_infos("all")
    names = {info.name for info in every}
    assert "pos_embed" in names
    assert not any(name.startswith("head") for name in names)
    assert backbone.weight_count == sum(info.numel for info in every)
    assert backbone.weight_count + backbone.head_weight_count == sum(p.numel() for p in backbone.module.parameters())
    matrices = backbone.weight_infos("matrices")
    assert len(matrices) == 6 * 4
    info = next(i for i in matrices if i.name == "blocks.3.attn.qkv.weight")
    assert (info.depth, info.block, info.matrix) == (4, "blocks.3", "attn.qkv.weight")
    blocks = backbone.weight_infos("blocks")
    assert blocks == tuple(i for i in every if i.name.startswith("blocks."))
    assert {i.matrix for i in blocks} > {"norm1.weight", "norm2.bias", "attn.qkv.weight", "mlp.fc2.bias"}
    assert {i.block for i in backbone.weight_infos("last:2")} == {"blocks.4", "blocks.5"}
    assert {i.block for i in every if i.name.startswith("norm.")} == {"final"}
    assert {i.block for i in every if i.name in ("pos_embed", "patch_embed.proj.weight")} == {"stem"}
    assert backbone.weight_infos("last:25%") == backbone.weight_infos("last:2")  # of 6 blocks, rounded up
    assert backbone.weight_infos("last:99%") == matrices
    with pytest.raises(ConfigError, match="last:n"):
        backbone.weight_infos("last")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test_convnext", ("stages.2.blocks.1.mlp.fc1.weight", 5, "stages.2.blocks.1", "mlp.fc1.weight")),
        ("test_resnet", ("layer3.0.conv2.weight", 3, "layer3.0", "conv2.weight")),
    ],
)
def test_weight_infos_of_convolutional_models(name: str, expected: Any) -> None:
    infos = {info.name: info for info in tiny(name).weight_infos("matrices")}
    info = infos[expected[0]]
    assert (info.name, info.depth, info.block, info.matrix) == expected
    assert not any(key.startswith(("stem", "conv1.")) for key in infos)


def test_features_are_the_input_of_the_head() -> None:
    for name in ("test_vit", "test_convnext", "test_resnet"):
        backbone = tiny(name)
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(backbone.head(backbone.features(images)), backbone(images))


def test_fingerprints_ignore_the_head_and_see_one_bit() -> None:
    first, second = tiny(), tiny()
    with torch.no_grad():
        first.head.weight.add_(1)
        second.parameters["blocks.0.mlp.fc1.weight"].view(-1)[7] += 1e-7
    assert first.fingerprint == tiny().fingerprint
    assert second.fingerprint != first.fingerprint


def test_copies_share_nothing() -> None:
    backbone = tiny()
    twin = backbone.copy()
    with torch.no_grad():
        twin.head.weight.add_(1)
    assert not torch.equal(twin.head.weight, backbone.head.weight)
    assert twin.classes == backbone.classes


def test_the_embedded_backbone_comes_first_and_works() -> None:
    assert list_backbones()[0] == list_backbones("*")[0] == "embedded"
    assert "vit_small_patch14_dinov2.lvd142m" not in list_backbones("embed")
    backbone = create_backbone(classes=CLASSES)
    image = Image.fromarray(np.zeros((90, 120, 3), dtype=np.uint8))
    assert backbone(backbone.transform(image)).shape == (1, 3)
    assert backbone.weights == "embedded in shpeft"
    random = create_backbone(classes=CLASSES, weights="random")
    assert random.transform == backbone.transform
    assert random(random.transform(image)).shape == (1, 3)
    assert random.fingerprint != backbone.fingerprint
    larger = create_backbone(classes=CLASSES, image_size=2 * backbone.transform.shape[0])
    assert larger.transform.shape == tuple(2 * side for side in backbone.transform.shape)
    assert torch.equal(larger.parameters["blocks.1.attn.qkv.weight"], backbone.parameters["blocks.1.attn.qkv.weight"])


def test_devices() -> None:
    assert resolve_device("auto").type in ("cpu", "cuda", "mps", "xpu")
    with pytest.raises(BackboneError, match="cannot be used"):
        resolve_device("cuda:99")


def test_real_weights_load_without_a_network() -> None:
    path = shared("backbones", "dinov2_vits14_224_fp16.safetensors")
    backbone = create_backbone("vit_small_patch14_dinov2", classes=CLASSES, weights=path, image_size=112)
    assert backbone.weight_count == 21_555_072
    stored = safetensors.torch.load_file(path)["blocks.7.mlp.fc2.weight"].float()
    assert torch.equal(backbone.parameters["blocks.7.mlp.fc2.weight"], stored)
    with pytest.raises(WeightsUnavailable):
        create_backbone("vit_base_patch14_dinov2", classes=CLASSES, weights=path, image_size=112)
