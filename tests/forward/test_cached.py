"""Cached prefixes: the two parts make the whole, each image passes once, and a change of anything is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shpeft import prefix
from shpeft.backbones import create_backbone
from shpeft.delta import SparseDelta
from shpeft.errors import CannotCut, SelectionError, TrainingError
from shpeft.evaluation import predict
from shpeft.feed import Feed
from shpeft.importance import estimate_importance
from shpeft.prefix import CachedFeed, Cut, cut_below
from shpeft.probe import extract_features
from shpeft.selection import select
from shpeft.training import finetune

from .conftest import CLASSES, assert_unchanged, state, tiny

PLACES = {
    "test_vit": "blocks.3",
    "test_convnext": "stages.2",
    "test_resnet": "layer3.0",
    "test_efficientnet": "blocks.3.0",
}


@pytest.mark.parametrize(("name", "block"), PLACES.items())
@pytest.mark.parametrize("batch", [1, 5])
def test_the_parts_make_the_whole_to_the_bit(name, block, batch):
    backbone = tiny(name)
    before = state(backbone)
    cut = Cut(backbone, block)
    images = torch.randn(batch, 3, 32, 32)
    with torch.no_grad():
        features = cut.encode(images)
        assert torch.equal(cut.resume(features), backbone(images))
        assert not torch.equal(cut.resume(features + 1), backbone(images))
    assert_unchanged(backbone, before)
    assert "forward" not in {key for child in backbone.module.modules() for key in child.__dict__}


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_other_families_can_be_cut(name):
    backbone = create_backbone(name, classes=CLASSES, weights="random")
    last = backbone.weight_infos("last:2")
    cut = cut_below(backbone, [info.name for info in last])
    assert cut is not None
    assert cut.block == last[0].block


def test_resuming_does_not_run_the_prefix():
    backbone = tiny()
    cut = Cut(backbone, "blocks.3")
    features = cut.encode(torch.randn(2, 3, 32, 32))
    ran = []
    for key, child in backbone.module.named_modules():
        child.register_forward_hook(lambda *_, key=key: ran.append(key))
    with torch.no_grad():
        cut.resume(features)
    assert "blocks.3.attn.qkv" in ran
    assert not [key for key in ran if key.startswith(("patch_embed.", "blocks.0.", "blocks.2."))]


def test_a_model_whose_data_take_another_way_is_refused():
    backbone = tiny()
    plain = backbone.module.forward_head
    bypass = []
    backbone.module.patch_embed.register_forward_hook(lambda *args: bypass.append(args[2].mean()))
    backbone.module.forward_head = lambda x, *args, **kwargs: plain(x, *args, **kwargs) + bypass[-1]
    with pytest.raises(CannotCut, match="other logits than the whole"):
        Cut(backbone, "blocks.3")


def test_nothing_to_cut_where_the_first_block_is_selected(vit):
    first, last = vit.weight_infos("matrices")[0], vit.weight_infos("matrices")[-1]
    assert cut_below(vit, [first.name, last.name]) is None
    found = cut_below(vit, [last.name])
    assert found is not None
    assert found.block == last.block
    assert cut_below(vit, ["patch_embed.proj.weight"]) is None


def counted(cut: Cut) -> list[int]:
    """How many images each call of ``encode`` gets."""
    sizes, encode = [], cut.encode
    cut.encode = lambda inputs: (sizes.append(len(inputs)), encode(inputs))[1]
    return sizes


@pytest.mark.parametrize("memory", [2**30, 0])
def test_each_image_and_view_is_encoded_once(vit, data, tmp_path, monkeypatch, memory):
    monkeypatch.setattr(prefix, "MEMORY", memory)
    feed = CachedFeed(Cut(vit, "blocks.3"), tmp_path / "prefix")
    sizes = counted(feed.cut)
    plain = Feed(vit)
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(len(data.train)).tolist()
        mirrored = (rng.random(len(order)) < 0.5).tolist()
        pairs = zip(
            feed.batches(data.train, 16, order=order, mirrored=mirrored),
            plain.batches(data.train, 16, order=order, mirrored=mirrored),
            strict=True,
        )
        for (features, target), (images, expected) in pairs:
            assert torch.equal(target, expected)
            with torch.no_grad():
                torch.testing.assert_close(feed(features), plain(images), rtol=1e-4, atol=1e-5)
    assert sum(sizes) <= 2 * len(data.train)
    for _ in range(2):
        x, y = extract_features(feed, data.val)
    expected_x, expected_y = extract_features(plain, data.val)
    np.testing.assert_allclose(x, expected_x, rtol=1e-4, atol=1e-5)
    assert (y == expected_y).all()
    assert sum(sizes) <= 2 * len(data.train) + len(data.val)
    files = list((tmp_path / "prefix").glob("*")) if memory == 0 else []
    assert len([file for file in files if file.suffix == ".complete"]) == (1 if memory == 0 else 0)
    feed.close()
    assert not (tmp_path / "prefix").exists()


def test_finished_files_are_taken_up_and_others_are_not(vit, data, tmp_path, monkeypatch):
    monkeypatch.setattr(prefix, "MEMORY", 0)
    cut = Cut(vit, "blocks.3")
    expected, _ = extract_features(CachedFeed(cut, tmp_path), data.val)
    sizes = counted(cut)
    again, _ = extract_features(CachedFeed(cut, tmp_path), data.val)
    assert sum(sizes) == 1  # the one that tells the features' shape
    assert (again == expected).all()
    extract_features(CachedFeed(cut, tmp_path), replace(data.val, labels=data.val.labels[::-1]))
    assert sum(sizes) == 2 + len(data.val)
    extract_features(CachedFeed(cut, tmp_path, "bfloat16"), data.val)
    assert sum(sizes) == 3 + 2 * len(data.val)
    next(iter(tmp_path.glob("*.complete"))).unlink()
    for split in (data.val, replace(data.val, labels=data.val.labels[::-1])):
        extract_features(CachedFeed(cut, tmp_path), split)
    assert sum(sizes) >= 5 + 2 * len(data.val)


def test_without_room_the_prefix_runs_each_time(vit, data, monkeypatch):
    monkeypatch.setattr(prefix, "MEMORY", 0)
    feed = CachedFeed(Cut(vit, "blocks.3"))
    sizes = counted(feed.cut)
    for _ in range(2):
        x, _ = extract_features(feed, data.val)
    assert sum(sizes) == 2 * len(data.val)
    np.testing.assert_allclose(x, extract_features(Feed(vit), data.val)[0], rtol=1e-4, atol=1e-5)


def test_finetuning_on_cached_features_equals_finetuning_on_images(data):
    results = []
    for cached in (False, True):
        backbone = tiny(dtype=torch.float64)
        feed = CachedFeed(Cut(backbone, "blocks.4")) if cached else Feed(backbone)
        scores = estimate_importance(backbone, data.train, "magnitude", scope="last:2")
        delta = SparseDelta.zeros(backbone, select(scores, 300))
        before = state(backbone)
        list(finetune(backbone, delta, data, epochs=2, lr=1e-2, augment="flip", seed=3, feed=feed))
        assert_unchanged(backbone, before)
        with delta.applied(backbone):
            results.append((delta.values, predict(backbone, data.test, feed=feed).probabilities))
    (values, probabilities), (cached_values, cached_probabilities) = results
    assert values.abs().max() > 1e-3
    torch.testing.assert_close(cached_values, values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cached_probabilities, probabilities, rtol=1e-9, atol=1e-12)


def test_weights_below_the_cut_are_refused(vit, data):
    feed = CachedFeed(Cut(vit, "blocks.3"))
    delta = SparseDelta.zeros(vit, select(estimate_importance(vit, data.train, "magnitude"), 500))
    with pytest.raises(SelectionError, match=r"lies below blocks\.3"):
        next(finetune(vit, delta, data, feed=feed))


def test_checkpointing_on_cached_features_is_refused(vit, data):
    delta = SparseDelta.zeros(vit, select(estimate_importance(vit, data.train, "magnitude", scope="last:2"), 30))
    with pytest.raises(TrainingError, match="Gradient checkpointing"):
        next(finetune(vit, delta, data, checkpointing=True, feed=CachedFeed(Cut(vit, "blocks.3"))))
