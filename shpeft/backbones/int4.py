"""Matrices in four bits a weight: whole numbers from -7 to 7, two a byte, and a scale for each group of a row."""

from collections.abc import Mapping

import torch
from torch import Tensor

GROUP = 64
"""Weights that share a scale: neighbours in a row."""

LEVELS = 7
"""Largest whole number: symmetric, so that zero stays zero."""

CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of a group's largest weight that are tried as its largest level; the one with the least square error is
taken: a single large weight would else make all others coarse."""

CODES, SCALES = ".codes", ".scales"


def packable(weight: Tensor) -> bool:
    """Whether a tensor is a matrix whose rows are made of whole groups."""
    return weight.ndim == 2 and weight.shape[1] % GROUP == 0


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers, float32 (rows, groups, GROUP), and scales (rows, groups, 1) in steps of float16."""
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
    """A matrix as it comes back from four bits, (rows, columns) float32."""
    codes, scales = quantise(weight)
    return (codes * scales).flatten(1)


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors for a file: matrices in four bits as codes and scales, everything else in half precision."""
    packed = {}
    for name, weight in weights.items():
        if not packable(weight):
            packed[name] = weight.detach().half().contiguous()
            continue
        codes, scales = quantise(weight)
        nibbles = (codes.flatten(1) + LEVELS).to(torch.uint8)
        packed[name + CODES] = nibbles[:, ::2] | nibbles[:, 1::2] << 4
        packed[name + SCALES] = scales.squeeze(2).half()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`pack`, up to its rounding; tensors that were not packed are handed on."""
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
