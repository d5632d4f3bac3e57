"""Random numbers that nobody can guess, for noise that protects images.

PyTorch's generator on the processor uses 32 bits of its seed: whoever sees a few thousand noisy numbers can try all
seeds, subtract the noise, and has the numbers without it. Here each number has 53 bits of its own from the operating
system's cryptographic generator. Against attacks on the last bits of floating-point noise (Mironov, 2012) nothing is
done.
"""

import math
import secrets
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 1 << 20
"""Numbers drawn together, which bounds the memory beside the result."""


def secure_uniform(count: int) -> Tensor:
    """Return numbers from 0 up to, but without, 1: (count,) float64.

    Examples:
        >>> numbers = secure_uniform(1000)
        >>> bool((numbers >= 0).all() and (numbers < 1).all())
        True
    """
    return torch.from_numpy(_uniform(count))


def secure_normal(shape: Sequence[int]) -> Tensor:
    """Return standard normal numbers, float32, by Box and Muller (1958) in float64.

    Examples:
        >>> secure_normal((2, 3)).shape
        torch.Size([2, 3])
    """
    numbers = torch.empty(math.prod(shape))
    for part in numbers.split(2 * CHUNK):
        half = -(-len(part) // 2)
        radius, angle = np.sqrt(-2 * np.log1p(-_uniform(half))), 2 * np.pi * _uniform(half)
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        part.copy_(torch.from_numpy(both[: len(part)]))
    return numbers.reshape(tuple(shape))


def _uniform(count: int) -> NDArray[np.float64]:
    bits = np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
