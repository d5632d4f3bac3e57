"""The layout of a layer's output: feature maps with channels first or last, and tokens on a grid of patches."""

from typing import Any

from torch import Tensor, nn


def patch_grid(module: nn.Module) -> tuple[int, int] | None:
    """Return the rows and columns of the patches of a vision transformer; None for other models."""
    grid: Any = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    return (int(grid[0]), int(grid[1])) if grid else None


def channels_first(features: Tensor, input_shape: tuple[int, int]) -> Tensor:
    """Return a map (B, C, h, w) of an output with channels first or last.

    Which two sides are the positions follows from the input: they have its proportions.

    Args:
        features: (B, C, h, w) or (B, h, w, C).
        input_shape: height and width of the model's input.

    Examples:
        >>> import torch
        >>> [tuple(channels_first(torch.zeros(size), (64, 32)).shape) for size in ((1, 96, 4, 2), (1, 4, 2, 96))]
        [(1, 96, 4, 2), (1, 96, 4, 2)]
    """
    height, width = input_shape
    a, b, c = features.shape[1:]
    first, last = abs(b / height - c / width), abs(a / height - b / width)
    return features if first <= last else features.permute(0, 3, 1, 2)
