"""Four-bit weight matrices: integers from -7 to 7, two per byte, with a scale per group of a row."""

from collections.abc import Mapping

import torch
from torch import Tensor

GROUP = 64
"""Number of consecutive weights of a row that share a scale."""

LEVELS = 7
"""Largest integer; the range is symmetric, so that zero stays zero."""

CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Candidates for a group's largest level, as shares of its largest weight. The one with the least squared error wins:
otherwise a single large weight would make all others coarse."""

CODES, SCALES = ".codes", ".scales"


def packable(weight: Tensor) -> bool:
    """Return whether a tensor is a matrix whose rows divide into whole groups."""
    return weight.ndim == 2 and weight.shape[1] % GROUP == 0


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize a matrix.

    Returns:
        Integers as float32 (rows, groups, GROUP), and scales (rows, groups, 1) that float16 holds exactly.
    """
    groups = weight.detach().float().unflatten(1, (-1, GROUP))
    largest = groups.abs().amax(2, keepdim=True).clamp_min(1e-6)
    best = torch.full_like(largest, torch.inf)
    scales = torch.zeros_like(largest)
    for clip in CLIPS:
        tried = (largest * clip / LEVELS).half().float()
        error = (_round(groups, tried) * tried - groups).square().sum(2, keepdim=True)
        scales = torch.where(error < best, tried, scales)
        best = torch.minimum(error, best)
    return _round(groups, scales), scales


def rounded(weight: Tensor) -> Tensor:
    """Return a matrix after quantization and back, (rows, columns) float32."""
    codes, scales = quantize(weight)
    return (codes * scales).flatten(1)


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return named tensors for a file: matrices as four-bit codes and scales, all else in half precision."""
    packed = {}
    for name, weight in weights.items():
        if not packable(weight):
            packed[name] = weight.detach().half().contiguous()
            continue
        codes, scales = quantize(weight)
        nibbles = (codes.flatten(1) + LEVELS).to(torch.uint8)
        packed[name + CODES] = nibbles[:, ::2] | nibbles[:, 1::2] << 4
        packed[name + SCALES] = scales.squeeze(2).half()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the named tensors of :func:`pack`, up to rounding; tensors that were not packed stay as they are."""
    weights = {}
    for name, tensor in packed.items():
        if name.endswith(CODES):
            codes = torch.stack((tensor & 15, tensor >> 4), 2).flatten(1).float() - LEVELS
            scales = packed[name.removesuffix(CODES) + SCALES].float()
            weights[name.removesuffix(CODES)] = (codes.unflatten(1, (-1, GROUP)) * scales[..., None]).flatten(1)
        elif not name.endswith(SCALES):
            weights[name] = tensor
    return weights


def _round(groups: Tensor, scales: Tensor) -> Tensor:
    return (groups / scales).round().clamp(-LEVELS, LEVELS)
