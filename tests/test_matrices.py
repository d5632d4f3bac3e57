"""Heads, rows and columns against a loop over the weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from shpeft.backbones import WeightInfo
from shpeft.matrices import attention_heads, grid, mean_by_head, split_by_head

from .conftest import assert_unchanged, state, tiny


def test_heads_of_attention_are_found_and_the_model_left_alone():
    backbone = tiny()
    before = state(backbone)
    layouts = attention_heads(backbone)
    heads = backbone.module.blocks[0].attn.num_heads
    assert layouts["blocks.0.attn.qkv.weight"] == (3, heads)
    assert layouts["blocks.0.attn.proj.weight"] == (1, heads)
    assert len(layouts) == 2 * len(backbone.module.blocks)
    assert_unchanged(backbone, before)
    assert attention_heads(tiny("test_resnet")) == {}


class Interleaved(nn.Module):
    """Attention whose joint weight has query, key and value of a head side by side."""

    def __init__(self, attention):
        super().__init__()
        self.num_heads, self.qkv, self.proj = attention.num_heads, attention.qkv, attention.proj

    def forward(self, x, **_):
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2).unbind(-2)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_attention_of_another_layout_is_not_guessed():
    backbone = tiny()
    backbone.module.blocks[0].attn = Interleaved(backbone.module.blocks[0].attn)
    found = attention_heads(backbone)
    assert "blocks.0.attn.qkv.weight" not in found
    assert "blocks.1.attn.qkv.weight" in found


@pytest.mark.parametrize("parts", [3, 1])
def test_scores_and_choices_by_head_equal_a_loop(parts):
    heads, width, other = 4, 5, 6
    shape = (3 * heads * width, other) if parts == 3 else (other, heads * width)
    scores = torch.rand(shape)
    chosen = torch.randperm(scores.numel())[:50].sort().values
    split = split_by_head(mean_by_head(scores, (parts, heads)), chosen, shape)
    means, counts = np.zeros((parts, heads)), np.zeros((parts, heads), int)
    for flat, value in enumerate(scores.reshape(-1).tolist()):
        line = flat // shape[1] if parts == 3 else flat % shape[1]
        place = divmod(line // width, heads)
        means[place] += value / split.size
        counts[place] += flat in set(chosen.tolist())
    assert split.size == width * other
    assert np.array_equal(split.chosen, counts)
    assert split.means == pytest.approx(means)
    assert split_by_head(split.means, None, shape).chosen.sum() == 0


@pytest.mark.parametrize("shape", [(100, 70), (20, 3, 3, 3), (50,), (33, 1)])
def test_a_grid_counts_every_chosen_weight_in_its_field(shape):
    numel = int(np.prod(shape))
    info = WeightInfo("w", shape, numel, 1, "b", "w")
    chosen = torch.randperm(numel)[: numel // 3].sort().values
    found = grid(chosen, info, bins=32)
    rows, columns = np.unravel_index(chosen.numpy(), (shape[0], numel // shape[0]))
    expected = np.zeros_like(found.counts)
    for row, column in zip(rows, columns, strict=True):
        expected[
            np.searchsorted(found.rows, row, "right") - 1, np.searchsorted(found.columns, column, "right") - 1
        ] += 1
    assert np.array_equal(found.counts, expected)
    assert found.counts.shape == (min(32, shape[0]), min(32, numel // shape[0]))
    assert grid(None, info).counts.sum() == 0
