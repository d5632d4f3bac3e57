"""Find the attention heads that share a weight matrix, and summarize scores and selected weights by head."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.importance.attention_parts import KEY, OUTPUT, PARTS, QUERY, VALUE, parts_of
from shpeft.importance.weight_grid import WeightGrid

OTHER_LAYOUTS = {
    "timm.layers.attention_pool.AttentionPoolLatent",  # queries come from a learned token
    "timm.layers.diff_attention.DiffAttention",  # a head is the difference of two
    "timm.models.davit.ChannelAttention",  # queries take the role of values
    "timm.models.mvitv2.MultiScaleAttention",  # pooled queries are added to the output
    "timm.models.mvitv2.MultiScaleAttentionPoolFirst",
    "timm.models.nest.Attention",  # heads alternate in the columns of the output
    "timm.models.tiny_vit.Attention",  # query, key and value of a head are side by side
}
"""Attention whose weights have the usual names and shapes, but are not grouped by part and head."""


def attention_heads(backbone: Backbone) -> dict[str, int]:
    """Return the number of heads of each query, key, value and output weight of attention, by the weight's name.

    A module of timm counts as attention if it states ``num_heads`` and its linear layers are those of ``PARTS``: one
    each for queries, keys and values, or fused ones, and one for the output. Their shapes must hold that many heads of
    one width: (parts · heads · width, D) for queries, keys and values, (D', heads · width) for the output. Where heads
    are laid out otherwise, mixed (talking heads), or attend to a reduced image, nothing is reported.
    """
    return {
        f"{name}.{layer}.weight": heads
        for name, module in backbone.module.named_modules()
        for layer, heads in _heads_by_layer(module).items()
    }


def _heads_by_layer(module: nn.Module) -> dict[str, int]:
    """Return the number of heads of each layer that heads share; {} if this is not attention of the usual layout."""
    kind, heads = type(module), getattr(module, "num_heads", None)
    path = f"{kind.__module__}.{kind.__qualname__}"
    linear = {name: layer for name, layer in module.named_children() if isinstance(layer, nn.Linear)}
    parts = [part for name in linear for part in PARTS.get(name, ("unknown",))]
    if not isinstance(heads, int) or sorted(parts) != sorted((QUERY, KEY, VALUE, OUTPUT)):
        return {}
    if not path.startswith("timm.") or path in OTHER_LAYOUTS or getattr(module, "sr", None) is not None:
        return {}
    if getattr(module, "head_first", False) and heads > 1:  # query, key and value of a head are side by side
        return {}
    width = next(layer.in_features for name, layer in linear.items() if PARTS[name] == (OUTPUT,))
    inputs = {name: layer for name, layer in linear.items() if PARTS[name] != (OUTPUT,)}
    whole_heads = width % heads == 0
    fits = all(layer.out_features == len(PARTS[name]) * width for name, layer in inputs.items())
    return dict.fromkeys([*inputs, *(linear.keys() - inputs)], heads) if whole_heads and fits else {}


@dataclass(frozen=True, eq=False)
class HeadSummary:
    """Mean scores and selected weights of a matrix by attention head.

    Attributes:
        parts: ``query key value`` of a fused weight, one or two of them of another, ``output`` of an attention output.
        means: (parts, heads) mean scores.
        selected: (parts, heads) numbers of selected weights.
        size: the number of weights that one head has in one part.
    """

    parts: tuple[str, ...]
    means: NDArray[np.float64]
    selected: NDArray[np.int64]
    size: int

    def __repr__(self) -> str:
        return f"HeadSummary({self.means.shape[1]} heads of {', '.join(self.parts)}, {self.selected.sum():,} selected)"


def mean_by_head(scores: Tensor, name: str, heads: int) -> NDArray[np.float64]:
    """Return the mean scores (parts, heads) of a (rows, columns) matrix that ``attention_heads`` lists as ``name``."""
    parts = parts_of(name)
    grouped = (scores.t() if OUTPUT in parts else scores).reshape(len(parts), heads, -1)
    return grouped.mean(2, dtype=torch.float64).numpy()


def summarize_heads(name: str, means: NDArray[np.float64], grid: WeightGrid) -> HeadSummary:
    """Join the mean scores of a matrix' heads with the numbers of selected weights.

    Args:
        means: (parts, heads), from ``mean_by_head``.
        grid: the matrix' grid for that many heads.
    """
    parts = parts_of(name)
    lines = grid.counts.sum(0 if OUTPUT in parts else 1)
    size = int(grid.rows[-1] * grid.columns[-1]) // means.size
    return HeadSummary(parts, means, lines.reshape(*means.shape, -1).sum(2), size)
