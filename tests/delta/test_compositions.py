"""Taps combined with mixed precision, gradient checkpointing, compilation and memory formats."""

import shutil
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.errors import BackboneError
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward
from shpeft.training.loop import finetune
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS, assert_close, dense_gradient, random_delta, sparse_gradient
from tests.helpers.present import present

IMAGES, LABELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("k", [40, 3000])
def test_bfloat16_autocast(name: str, k: int) -> None:
    backbone = tiny(name)
    delta = random_delta(backbone, k, "all")
    forward_pass = ForwardPass(backbone, "bfloat16")
    with forward_pass.autocast():
        expected, _ = dense_gradient(backbone, delta, IMAGES, LABELS)
    with Trainable(backbone, delta) as trainable:
        loss = cross_entropy(forward_pass(IMAGES), LABELS)
        assert loss.dtype == torch.float32
        loss.backward()
        gradient = present(trainable.values.grad)
        assert gradient.dtype == torch.float32
        assert_close(gradient, expected, 2e-2)  # bfloat16 has 8 bits: products summed in another order


def test_both_attention_paths_agree_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention for few patches and PyTorch's own agree on the logits within the precision of bfloat16."""
    backbone = tiny("test_vit")
    quick = ForwardPass(backbone, "bfloat16")(IMAGES)
    monkeypatch.setattr("shpeft.forward.base.FEW_PATCHES", 0)
    fused = ForwardPass(backbone, "bfloat16")(IMAGES)
    assert not torch.equal(quick, ForwardPass(backbone)(IMAGES))
    torch.testing.assert_close(quick, fused, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("k", [40, 20_000])
def test_gradient_checkpointing_changes_no_bit(name: str, k: int) -> None:
    backbone = tiny(name)
    before = state(backbone)
    delta = random_delta(backbone, k, "all")
    expected, expected_head = sparse_gradient(backbone, delta, IMAGES, LABELS)
    with backbone.checkpointing():
        actual, actual_head = sparse_gradient(backbone, delta, IMAGES, LABELS)
    assert torch.equal(actual, expected)
    assert torch.equal(actual_head, expected_head)
    assert_unchanged(backbone, before)


def test_checkpointing_is_refused_where_unsupported() -> None:
    backbone = create_backbone("selecsls42", classes=CLASSES, weights="random", image_size=64)
    with pytest.raises(BackboneError, match="does not support gradient checkpointing"), backbone.checkpointing():
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("k", "scope", "seeds"), [(40, "matrices", 1), (20_000, "all", 2)])
def test_compiled_in_one_graph(k: int, scope: str, seeds: int) -> None:
    """Without the inductor, whose C++ takes most of a compilation; it fine-tunes below."""
    backbone = tiny()
    for seed in range(seeds):  # the second support must not meet the first one's code
        delta = random_delta(backbone, k, scope, seed)
        expected, _ = dense_gradient(backbone, delta, IMAGES, LABELS)
        with Trainable(backbone, delta) as trainable:
            torch.compiler.reset()
            compiled = torch.compile(backbone.module, fullgraph=True, backend="aot_eager")
            cross_entropy(compiled(IMAGES), LABELS).backward()
            assert_close(present(trainable.values.grad), expected, 1e-5)


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.parametrize(("cached", "backend", "batch_size"), [(False, "inductor", 30), (True, "aot_eager", 25)])
def test_compiled_finetuning_learns_the_same(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, cached: bool, backend: str, batch_size: int
) -> None:
    """The inductor writes C++ for each size of a batch, so there all batches have the same."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    actual = []
    for compiled in (False, True):
        backbone = tiny()
        forward_pass = CachedForward(BackboneSplit(backbone, "blocks.4")) if cached else ForwardPass(backbone)
        delta = random_delta(backbone, 300, "last:2")
        list(
            finetune(
                backbone, delta, data, epochs=1, batch_size=batch_size, compiled=compiled, forward_pass=forward_pass
            )
        )
        actual.append(delta.values)
    torch.testing.assert_close(*actual, rtol=1e-2, atol=1e-5)  # Adam's first steps magnify rounding


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_efficientnet"])
def test_channels_last(name: str) -> None:
    backbone = tiny(name, dtype=torch.float64)
    backbone.module.to(memory_format=torch.channels_last)
    assert any(not p.is_contiguous() for p in backbone.parameters.values())
    before = state(backbone)
    images = IMAGES.double().to(memory_format=torch.channels_last)
    delta = random_delta(backbone, 3000, "all")
    expected, _ = dense_gradient(backbone, delta, images, LABELS)
    actual, _ = sparse_gradient(backbone, delta, images, LABELS)
    assert_close(actual, expected, 1e-10)
    assert_unchanged(backbone, before)


def test_batch_normalization_stays_frozen() -> None:
    backbone = tiny("test_resnet")
    backbone.module.train()
    before = state(backbone)
    delta = random_delta(backbone, 100, "all")
    with Trainable(backbone, delta):
        cross_entropy(backbone(10 * IMAGES), LABELS).backward()
    assert_unchanged(backbone, before)
    assert backbone.module.training


def saved_bytes(backbone: Backbone, images: torch.Tensor) -> int:
    """Return the bytes that autograd saves in one forward pass, each storage counted once, without the model."""
    own = {t.untyped_storage().data_ptr() for t in [*backbone.module.parameters(), *backbone.module.buffers(), images]}
    saved: dict[int, torch.Tensor] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in own:
            saved[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        logits = backbone(images)
    del logits
    return sum(t.untyped_storage().nbytes() for t in saved.values())


@pytest.mark.parametrize("share", [1e-4, 1e-3, 1e-2, 0.2])
def test_saved_activations_match_the_frozen_model(share: float) -> None:
    backbone = create_backbone("vit_tiny_patch16_224", classes=CLASSES, weights="random", image_size=64)
    images = torch.randn(4, 3, 64, 64)
    delta: SparseDelta = random_delta(backbone, round(share * backbone.weight_count))
    with backbone.frozen():
        first = backbone.module.get_submodule("blocks.0.attn.qkv")
        handle = first.register_forward_hook(lambda _, __, y: y.requires_grad_())
        floor = saved_bytes(backbone, images)
        handle.remove()
    with Trainable(backbone, delta):
        assert saved_bytes(backbone, images) <= 1.05 * floor
