"""Heads, rows and columns against a loop over the weights."""

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from shpeft.backbones import Backbone, WeightInfo
from shpeft.matrices import attention_heads, attention_parts, grid, mean_by_head, split_by_head

from .conftest import assert_unchanged, state, tiny

FUSED = ("qkv", "proj")
SEPARATE = ("q_proj", "k_proj", "v_proj", "proj")
SMALL = {"embed_dim": 48, "num_heads": 4, "depth": 2, "img_size": 32, "num_classes": 2}


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("test_vit", FUSED),
        ("beit_base_patch16_224", FUSED),  # which adds biases of its own to the joint weight, past its layer
        ("beitv2_base_patch16_224", FUSED),
        ("eva02_tiny_patch14_224", FUSED),
        ("eva02_base_patch14_224", SEPARATE),
        ("eva02_base_patch16_clip_224", SEPARATE),  # with a norm over all heads
        ("eva_large_patch14_196", FUSED),
        ("vit_small_patch16_dinov3", FUSED),
    ],
)
def test_heads_of_attention_are_found_and_the_model_left_alone(model, layers):
    if model == "test_vit":
        backbone = tiny()
    else:
        module = timm.create_model(model, **SMALL)
        backbone = Backbone(model, module, ("a", "b"), tiny().transform, "random")
    before, attention = state(backbone), backbone.module.blocks[0].attn
    found = attention_heads(backbone)
    expected = {f"blocks.{i}.attn.{layer}.weight" for i in range(len(backbone.module.blocks)) for layer in layers}
    assert found == dict.fromkeys(expected, attention.num_heads)
    assert {name for name in state(backbone) if attention_parts(name, state(backbone))} == expected
    assert_unchanged(backbone, before)


def test_what_has_no_heads_is_not_split():
    backbone = tiny("test_resnet")
    assert attention_heads(backbone) == {}
    assert not any(attention_parts(name, state(backbone)) for name in state(backbone))


class Interleaved(nn.Module):
    """Attention whose joint weight has query, key and value of a head side by side."""

    def __init__(self, attention):
        super().__init__()
        self.num_heads, self.qkv, self.proj = attention.num_heads, attention.qkv, attention.proj

    def forward(self, x, **_):
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2).unbind(-2)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Past(Interleaved):
    """Attention that computes its output past the layer, so that nothing can be seen there."""

    def forward(self, x, **_):
        return linear(self.qkv(x)[..., -self.proj.in_features :], self.proj.weight)


@pytest.mark.parametrize("another", [Interleaved, Past])
def test_attention_of_another_layout_is_not_guessed(another):
    backbone = tiny()
    backbone.module.blocks[0].attn = another(backbone.module.blocks[0].attn)
    found = attention_heads(backbone)
    assert "blocks.0.attn.qkv.weight" not in found
    assert "blocks.1.attn.qkv.weight" in found


@pytest.mark.parametrize(("layer", "parts"), [("qkv", 3), ("kv", 2), ("q_proj", 1), ("proj", 1)])
def test_scores_and_choices_by_head_equal_a_loop(layer, parts):
    heads, width, other = 4, 5, 6
    shape = (other, heads * width) if layer == "proj" else (parts * heads * width, other)
    name = f"blocks.0.attn.{layer}.weight"
    scores = torch.rand(shape)
    chosen = torch.randperm(scores.numel())[:50].sort().values
    info = WeightInfo(name, shape, scores.numel(), 1, "blocks.0", name)
    split = split_by_head(name, mean_by_head(scores, name, heads), grid(chosen, info, heads))
    means, counts = np.zeros((parts, heads)), np.zeros((parts, heads), int)
    for flat, value in enumerate(scores.reshape(-1).tolist()):
        line = flat % shape[1] if layer == "proj" else flat // shape[1]
        place = divmod(line // width, heads)
        means[place] += value / split.size
        counts[place] += flat in set(chosen.tolist())
    assert split.size == width * other
    assert len(split.parts) == parts
    assert np.array_equal(split.chosen, counts)
    assert split.means == pytest.approx(means)
    assert split_by_head(name, split.means, grid(None, info, heads)).chosen.sum() == 0


@pytest.mark.parametrize(
    ("shape", "heads", "fields"),
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
def test_a_grid_counts_every_chosen_weight_in_its_field(shape, heads, fields):
    numel = int(np.prod(shape))
    info = WeightInfo("a.qkv.weight", shape, numel, 1, "b", "w")
    chosen = torch.randperm(numel)[: numel // 3].sort().values
    found = grid(chosen, info, heads)
    rows, columns = np.unravel_index(chosen.numpy(), (shape[0], numel // shape[0]))
    expected = np.zeros_like(found.counts)
    for row, column in zip(rows, columns, strict=True):
        expected[
            np.searchsorted(found.rows, row, "right") - 1, np.searchsorted(found.columns, column, "right") - 1
        ] += 1
    assert np.array_equal(found.counts, expected)
    assert found.counts.shape == fields
    assert grid(None, info).counts.sum() == 0
