"""Cached prefixes: both parts equal the whole, each image is encoded once, and stale files are not reused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import CannotSplit, SelectionError, TrainingError
from shpeft.evaluation.predict import predict
from shpeft.forward import cached as prefix
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward, split_below
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import extract_features
from shpeft.selection.top_k import select
from shpeft.training.loop import finetune
from tests.conftest import CLASSES, assert_unchanged, state, tiny

BLOCKS = {
    "test_vit": "blocks.3",
    "test_convnext": "stages.2",
    "test_resnet": "layer3.0",
    "test_efficientnet": "blocks.3.0",
}


@pytest.mark.parametrize(("name", "block"), BLOCKS.items())
@pytest.mark.parametrize("batch", [1, 5])
def test_prefix_and_suffix_equal_the_whole_model_bit_for_bit(name: str, block: str, batch: int) -> None:
    backbone = tiny(name)
    before = state(backbone)
    backbone_split = BackboneSplit(backbone, block)
    images = torch.randn(batch, 3, 32, 32)
    with torch.no_grad():
        features = backbone_split.encode(images)
        assert torch.equal(backbone_split.resume(features), backbone(images))
        assert not torch.equal(backbone_split.resume(features + 1), backbone(images))
    assert_unchanged(backbone, before)
    assert "forward" not in {key for child in backbone.module.modules() for key in child.__dict__}


@pytest.mark.parametrize(
    ("name", "size", "model_args"),
    [
        ("swin_tiny_patch4_window7_224", 224, {}),
        ("eva02_tiny_patch14_224", 28, {"depth": 4}),
        ("beit_base_patch16_224", 32, {"depth": 4}),
    ],
)
def test_other_families_can_be_split(name: str, size: int, model_args: dict[str, int]) -> None:
    backbone = create_backbone(name, classes=CLASSES, weights="random", image_size=size, model_args=model_args)
    last = backbone.weight_infos("last:2")
    backbone_split = split_below(backbone, [info.name for info in last])
    assert backbone_split is not None
    assert backbone_split.block == last[0].block


def test_resuming_does_not_run_the_prefix() -> None:
    backbone = tiny()
    backbone_split = BackboneSplit(backbone, "blocks.3")
    features = backbone_split.encode(torch.randn(2, 3, 32, 32))
    ran: list[str] = []
    for key, child in backbone.module.named_modules():
        child.register_forward_hook(lambda *_, key=key: ran.append(key))
    with torch.no_grad():
        backbone_split.resume(features)
    assert "blocks.3.attn.qkv" in ran
    assert not [key for key in ran if key.startswith(("patch_embed.", "blocks.0.", "blocks.2."))]


def test_a_model_with_a_path_around_the_split_is_refused() -> None:
    backbone = tiny()
    module: Any = backbone.module
    plain = module.forward_head
    bypass: list[torch.Tensor] = []
    module.patch_embed.register_forward_hook(lambda *args: bypass.append(args[2].mean()))
    module.forward_head = lambda x, *args, **kwargs: plain(x, *args, **kwargs) + bypass[-1]
    with pytest.raises(CannotSplit, match="other logits than the whole"):
        BackboneSplit(backbone, "blocks.3")


def test_there_is_no_split_below_the_first_block(vit: Backbone) -> None:
    first, last = vit.weight_infos("matrices")[0], vit.weight_infos("matrices")[-1]
    assert split_below(vit, [first.name, last.name]) is None
    actual = split_below(vit, [last.name])
    assert actual is not None
    assert actual.block == last.block
    assert split_below(vit, ["patch_embed.proj.weight"]) is None


def counted(backbone_split: BackboneSplit) -> list[int]:
    """Record how many images each call of ``encode`` receives."""
    sizes: list[int] = []
    encode = backbone_split.encode

    def counting(inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(len(inputs))
        return encode(inputs)

    backbone_split.encode = counting  # type: ignore[method-assign]
    return sizes


@pytest.mark.parametrize("memory", [2**30, 0])
def test_each_image_and_view_is_encoded_once(
    vit: Backbone, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(prefix, "MEMORY", memory)
    forward_pass = CachedForward(BackboneSplit(vit, "blocks.3"), tmp_path / "prefix")
    sizes = counted(forward_pass.backbone_split)
    plain = ForwardPass(vit)
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(len(data.train)).tolist()
        mirrored = (rng.random(len(order)) < 0.5).tolist()
        pairs = zip(
            forward_pass.batches(data.train, 16, order=order, mirrored=mirrored),
            plain.batches(data.train, 16, order=order, mirrored=mirrored),
            strict=True,
        )
        for (features, target), (images, expected) in pairs:
            assert torch.equal(target, expected)
            with torch.no_grad():
                torch.testing.assert_close(forward_pass(features), plain(images), rtol=1e-4, atol=1e-5)
    assert sum(sizes) <= 2 * len(data.train)
    for _ in range(2):
        x, y = extract_features(forward_pass, data.val)
    expected_x, expected_y = extract_features(plain, data.val)
    np.testing.assert_allclose(x, expected_x, rtol=1e-4, atol=1e-5)
    assert (y == expected_y).all()
    assert sum(sizes) <= 2 * len(data.train) + len(data.val)
    files = list((tmp_path / "prefix").glob("*")) if memory == 0 else []
    assert len([file for file in files if file.suffix == ".complete"]) == (1 if memory == 0 else 0)
    forward_pass.close()
    assert not (tmp_path / "prefix").exists()


def test_only_complete_files_of_the_same_inputs_are_reused(
    vit: Backbone, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "MEMORY", 0)
    backbone_split = BackboneSplit(vit, "blocks.3")
    expected, _ = extract_features(CachedForward(backbone_split, tmp_path), data.val)
    sizes = counted(backbone_split)
    again, _ = extract_features(CachedForward(backbone_split, tmp_path), data.val)
    assert sum(sizes) == 1  # one image, for the shape of the features
    assert (again == expected).all()
    extract_features(CachedForward(backbone_split, tmp_path), replace(data.val, labels=data.val.labels[::-1]))
    assert sum(sizes) == 2 + len(data.val)
    extract_features(CachedForward(backbone_split, tmp_path, "bfloat16"), data.val)
    assert sum(sizes) == 3 + 2 * len(data.val)
    next(iter(tmp_path.glob("*.complete"))).unlink()
    for split in (data.val, replace(data.val, labels=data.val.labels[::-1])):
        extract_features(CachedForward(backbone_split, tmp_path), split)
    assert sum(sizes) >= 5 + 2 * len(data.val)


def test_without_memory_or_a_folder_the_prefix_runs_each_time(
    vit: Backbone, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "MEMORY", 0)
    forward_pass = CachedForward(BackboneSplit(vit, "blocks.3"))
    sizes = counted(forward_pass.backbone_split)
    for _ in range(2):
        x, _ = extract_features(forward_pass, data.val)
    assert sum(sizes) == 2 * len(data.val)
    np.testing.assert_allclose(x, extract_features(ForwardPass(vit), data.val)[0], rtol=1e-4, atol=1e-5)


def test_finetuning_on_cached_features_equals_finetuning_on_images(data: Dataset) -> None:
    results = []
    for cached in (False, True):
        backbone = tiny(dtype=torch.float64)
        forward_pass = CachedForward(BackboneSplit(backbone, "blocks.4")) if cached else ForwardPass(backbone)
        scores = estimate_importance(backbone, data.train, "magnitude", scope="last:2")
        delta = SparseDelta.zeros(backbone, select(scores, 300))
        before = state(backbone)
        list(finetune(backbone, delta, data, epochs=2, lr=1e-2, augment="flip", seed=3, forward_pass=forward_pass))
        assert_unchanged(backbone, before)
        with delta.applied(backbone):
            results.append((delta.values, predict(backbone, data.test, forward_pass=forward_pass).probabilities))
    (values, probabilities), (cached_values, cached_probabilities) = results
    assert values.abs().max() > 1e-3
    torch.testing.assert_close(cached_values, values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cached_probabilities, probabilities, rtol=1e-9, atol=1e-12)


def test_weights_below_the_split_are_refused(vit: Backbone, data: Dataset) -> None:
    forward_pass = CachedForward(BackboneSplit(vit, "blocks.3"))
    delta = SparseDelta.zeros(vit, select(estimate_importance(vit, data.train, "magnitude", scope="matrices"), 500))
    with pytest.raises(SelectionError, match=r"lies below blocks\.3"):
        next(finetune(vit, delta, data, forward_pass=forward_pass))


def test_checkpointing_on_cached_features_is_refused(vit: Backbone, data: Dataset) -> None:
    delta = SparseDelta.zeros(vit, select(estimate_importance(vit, data.train, "magnitude", scope="last:2"), 30))
    with pytest.raises(TrainingError, match="Gradient checkpointing"):
        next(finetune(vit, delta, data, checkpointing=True, forward_pass=CachedForward(BackboneSplit(vit, "blocks.3"))))
