"""Attention heads against a dry run; sums by head and by cell against a loop over the weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from shpeft.backbones import Backbone, WeightInfo
from shpeft.importance.attention_heads import attention_heads, mean_by_head, summarize_heads
from shpeft.importance.attention_parts import attention_parts
from shpeft.importance.weight_grid import count_in_grid
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.attention_probe import heads_by_probing

FUSED = ("qkv", "proj")
SEPARATE = ("q_proj", "k_proj", "v_proj", "proj")
SMALL = {"embed_dim": 48, "num_heads": 4, "depth": 2, "img_size": 32}
WINDOWS = {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 4), "img_size": 32, "patch_size": 2, "window_size": 4}


def small(model: str, **sizes: Any) -> Backbone:
    """Make a small model of a family, with random weights."""
    if model == "test_vit":
        return tiny()
    torch.manual_seed(0)
    module = timm.create_model(model, num_classes=2, **sizes)
    transform = replace(tiny().transform, size=sizes.get("img_size", 64))
    return Backbone(model, module, ("a", "b"), transform, "random")


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("test_vit", FUSED),
        ("beit_base_patch16_224", FUSED),  # adds its own biases to the fused weight, without calling the layer
        ("beitv2_base_patch16_224", FUSED),
        ("eva02_tiny_patch14_224", FUSED),
        ("eva02_base_patch14_224", SEPARATE),
        ("eva02_base_patch16_clip_224", SEPARATE),  # with a norm over all heads
        ("eva_large_patch14_196", FUSED),
        ("vit_small_patch16_dinov3", FUSED),
    ],
)
def test_every_block_of_a_plain_transformer_has_heads(model: str, layers: tuple[str, ...]) -> None:
    backbone = small(model, **SMALL)
    module: Any = backbone.module
    before, blocks = state(backbone), module.blocks
    heads = attention_heads(backbone)
    expected = {f"blocks.{i}.attn.{layer}.weight" for i in range(len(blocks)) for layer in layers}
    assert heads == dict.fromkeys(expected, blocks[0].attn.num_heads)
    assert heads == heads_by_probing(backbone)
    assert {name for name in before if attention_parts(name, before)} == expected
    assert_unchanged(backbone, before)


@pytest.mark.parametrize(
    ("model", "sizes", "count"),
    [
        ("swin_tiny_patch4_window7_224", WINDOWS, 4),
        ("swinv2_tiny_window8_256", WINDOWS, 4),
        ("cait_xxs24_224", SMALL, 8),  # class attention; the talking heads of its other blocks are mixed
        ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, 3),  # its last stage; the others reduce the image
        ("twins_svt_small", {"img_size": 64, "depths": (1, 1, 2, 2)}, 11),
        ("xcit_nano_12_p16_224", SMALL, 12),
        ("vit_relpos_small_patch16_224", SMALL, 4),
        ("coat_lite_tiny", {"img_size": 64, "embed_dims": (16, 16, 32, 32), "serial_depths": (1, 1, 1, 1)}, 8),
        ("convit_tiny", {"img_size": 32, "embed_dim": 12, "depth": 2, "local_up_to_layer": 1}, 2),
        ("davit_tiny", {"depths": (1, 1), "embed_dims": (24, 48), "num_heads": (2, 4)}, 4),
        ("maxvit_rmlp_pico_rw_256", {"img_size": 64}, 8),
        ("mvitv2_tiny", {"img_size": 64}, 0),
        ("tiny_vit_5m_224", {"depths": (1, 1, 1, 1)}, 0),
        ("tnt_s_patch16_224", {"img_size": 32, "depth": 2, "embed_dim": 48, "inner_dim": 12}, 0),
        ("test_resnet", {}, 0),
    ],
)
def test_heads_of_each_family_match_a_dry_run(model: str, sizes: Any, count: int) -> None:
    backbone = small(model, **sizes)
    heads = attention_heads(backbone)
    assert heads == heads_by_probing(backbone)
    assert len(heads) == count


def test_convolutional_networks_have_no_attention_parts() -> None:
    names = state(tiny("test_resnet"))
    assert not any(attention_parts(name, names) for name in names)


class Interleaved(nn.Module):
    """Attention whose fused weight has the query, key and value of a head side by side."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads: int = attention.num_heads
        self.qkv: nn.Linear = attention.qkv
        self.proj: nn.Linear = attention.proj

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2).unbind(-2)
        output: Tensor = self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return output


class Bypassing(Interleaved):
    """Attention that computes its output without calling the layer ``proj``."""

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        return linear(self.qkv(x)[..., -self.proj.in_features :], self.proj.weight)


@pytest.mark.parametrize("another", [Interleaved, Bypassing])
def test_the_layout_of_unknown_attention_is_not_guessed(another: type[Interleaved]) -> None:
    backbone = tiny()
    module: Any = backbone.module
    module.blocks[0].attn = another(module.blocks[0].attn)
    heads = attention_heads(backbone)
    assert "blocks.0.attn.qkv.weight" not in heads
    assert "blocks.1.attn.qkv.weight" in heads
    assert heads == heads_by_probing(backbone)


@pytest.mark.parametrize(("layer", "parts"), [("qkv", 3), ("kv", 2), ("q_proj", 1), ("proj", 1)])
def test_scores_and_selections_by_head_equal_a_loop(layer: str, parts: int) -> None:
    heads, width, other = 4, 5, 6
    shape = (other, heads * width) if layer == "proj" else (parts * heads * width, other)
    name = f"blocks.0.attn.{layer}.weight"
    scores = torch.rand(shape)
    selected = torch.randperm(scores.numel())[:50].sort().values
    info = WeightInfo(name, shape, scores.numel(), 1, "blocks.0", name)
    summary = summarize_heads(name, mean_by_head(scores, name, heads), count_in_grid(selected, info, heads))
    means, counts = np.zeros((parts, heads)), np.zeros((parts, heads), int)
    for flat, value in enumerate(scores.reshape(-1).tolist()):
        line = flat % shape[1] if layer == "proj" else flat // shape[1]
        cell = divmod(line // width, heads)
        means[cell] += value / summary.size
        counts[cell] += flat in set(selected.tolist())
    assert summary.size == width * other
    assert len(summary.parts) == parts
    assert np.array_equal(summary.selected, counts)
    assert summary.means == pytest.approx(means)
    assert summarize_heads(name, summary.means, count_in_grid(None, info, heads)).selected.sum() == 0


@pytest.mark.parametrize(
    ("shape", "heads", "size"),
    [
        ((100, 70), 0, (32, 32)),
        ((20, 3, 3, 3), 0, (20, 27)),
        ((50,), 0, (32, 1)),
        ((33, 1), 0, (32, 1)),
        ((3 * 5 * 8, 40), 5, (30, 32)),
        ((3 * 12 * 4, 48), 12, (36, 32)),  # more heads than a grid has rows elsewhere
        ((3 * 2 * 3, 6), 2, (18, 6)),
    ],
)
def test_a_grid_counts_every_selected_weight_in_its_cell(
    shape: tuple[int, ...], heads: int, size: tuple[int, int]
) -> None:
    numel = int(np.prod(shape))
    info = WeightInfo("a.qkv.weight", shape, numel, 1, "b", "w")
    selected = torch.randperm(numel)[: numel // 3].sort().values
    laid = count_in_grid(selected, info, heads)
    rows, columns = np.unravel_index(selected.numpy(), (shape[0], numel // shape[0]))
    expected = np.zeros_like(laid.counts)
    for row, column in zip(rows, columns, strict=True):
        expected[np.searchsorted(laid.rows, row, "right") - 1, np.searchsorted(laid.columns, column, "right") - 1] += 1
    assert np.array_equal(laid.counts, expected)
    assert laid.counts.shape == size
    assert count_in_grid(None, info).counts.sum() == 0
