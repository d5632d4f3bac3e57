"""Taps together with what else a training step may use: mixed precision, checkpointing, compilation, memory formats."""

import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.backbones import Backbone, create_backbone
from shpeft.delta import SparseDelta
from shpeft.errors import BackboneError
from shpeft.feed import Feed
from shpeft.prefix import CachedFeed, Cut
from shpeft.trainable import Trainable
from shpeft.training import finetune

from .conftest import CLASSES, assert_unchanged, state, tiny
from .test_gradients import MODELS, assert_close, dense_gradient, random_delta, sparse_gradient

IMAGES, LABELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("k", [40, 3000])
def test_bfloat16_autocast(name, k):
    backbone = tiny(name)
    delta = random_delta(backbone, k, "all")
    feed = Feed(backbone, "bfloat16")
    with feed.autocast():
        expected, _ = dense_gradient(backbone, delta, IMAGES, LABELS)
    with Trainable(backbone, delta) as trainable:
        loss = cross_entropy(feed(IMAGES), LABELS)
        assert loss.dtype == torch.float32
        loss.backward()
        assert trainable.values.grad.dtype == torch.float32
        assert_close(trainable.values.grad, expected, 2e-2)  # bfloat16 has 8 bits: products summed in another order


def test_attention_in_bfloat16_is_the_same_either_way(monkeypatch):
    """The quicker way for few patches against PyTorch's own choice: logits of the two agree as bfloat16 does."""
    backbone = tiny("test_vit")
    quick = Feed(backbone, "bfloat16")(IMAGES)
    monkeypatch.setattr("shpeft.feed.FEW_PATCHES", 0)
    fused = Feed(backbone, "bfloat16")(IMAGES)
    assert not torch.equal(quick, Feed(backbone)(IMAGES))
    torch.testing.assert_close(quick, fused, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("k", [40, 20_000])
def test_gradient_checkpointing_changes_no_bit(name, k):
    backbone = tiny(name)
    before = state(backbone)
    delta = random_delta(backbone, k, "all")
    expected, expected_head = sparse_gradient(backbone, delta, IMAGES, LABELS)
    with backbone.checkpointing():
        found, found_head = sparse_gradient(backbone, delta, IMAGES, LABELS)
    assert torch.equal(found, expected)
    assert torch.equal(found_head, expected_head)
    assert_unchanged(backbone, before)


def test_checkpointing_where_there_is_none():
    backbone = create_backbone("selecsls42", classes=CLASSES, weights="random", image_size=64)
    with pytest.raises(BackboneError, match="no gradient checkpointing"), backbone.checkpointing():
        pass


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("k", "scope"), [(40, "matrices"), (20_000, "all")])
def test_compiled_in_one_graph(k, scope):
    backbone = tiny()
    for seed in (0, 1):  # the second support must not meet the first one's code
        delta = random_delta(backbone, k, scope, seed)
        expected, _ = dense_gradient(backbone, delta, IMAGES, LABELS)
        with Trainable(backbone, delta) as trainable:
            torch.compiler.reset()
            compiled = torch.compile(backbone.module, fullgraph=True)
            cross_entropy(compiled(IMAGES), LABELS).backward()
            assert_close(trainable.values.grad, expected, 1e-5)


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("cached", [False, True])
def test_compiled_finetuning_learns_the_same(data, cached):
    found = []
    for compiled in (False, True):
        backbone = tiny()
        feed = CachedFeed(Cut(backbone, "blocks.4")) if cached else Feed(backbone)
        delta = random_delta(backbone, 300, "last:2")
        list(finetune(backbone, delta, data, epochs=1, batch_size=25, compiled=compiled, feed=feed))
        found.append(delta.values)
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-5)  # Adam's first steps magnify rounding


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_efficientnet"])
def test_channels_last(name):
    backbone = tiny(name, dtype=torch.float64)
    backbone.module.to(memory_format=torch.channels_last)
    assert any(not p.is_contiguous() for p in backbone.parameters.values())
    before = state(backbone)
    images = IMAGES.double().to(memory_format=torch.channels_last)
    delta = random_delta(backbone, 3000, "all")
    expected, _ = dense_gradient(backbone, delta, images, LABELS)
    found, _ = sparse_gradient(backbone, delta, images, LABELS)
    assert_close(found, expected, 1e-10)
    assert_unchanged(backbone, before)


def test_batch_normalisation_stays_frozen():
    backbone = tiny("test_resnet")
    backbone.module.train()
    before = state(backbone)
    delta = random_delta(backbone, 100, "all")
    with Trainable(backbone, delta):
        cross_entropy(backbone(10 * IMAGES), LABELS).backward()
    assert_unchanged(backbone, before)
    assert backbone.module.training


def saved_bytes(backbone: Backbone, images: torch.Tensor) -> int:
    """What autograd keeps of one forward pass, each storage once, the model itself excluded."""
    own = {t.untyped_storage().data_ptr() for t in [*backbone.module.parameters(), *backbone.module.buffers(), images]}
    kept: dict[int, torch.Tensor] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        logits = backbone(images)
    del logits
    return sum(t.untyped_storage().nbytes() for t in kept.values())


@pytest.mark.parametrize("share", [1e-4, 1e-3, 1e-2, 0.2])
def test_saved_activations_are_those_of_the_frozen_model(share):
    backbone = create_backbone("vit_tiny_patch16_224", classes=CLASSES, weights="random", image_size=64)
    images = torch.randn(4, 3, 64, 64)
    delta: SparseDelta = random_delta(backbone, round(share * backbone.count))
    with backbone.frozen():
        first = backbone.module.blocks[0].attn.qkv
        handle = first.register_forward_hook(lambda _, __, y: y.requires_grad_())
        floor = saved_bytes(backbone, images)
        handle.remove()
    with Trainable(backbone, delta):
        assert saved_bytes(backbone, images) <= 1.05 * floor
