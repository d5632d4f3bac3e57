"""Seed the global random generators of PyTorch and NumPy, which timm, Captum and peft use."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators inside the block, and restore their states afterwards.

    A lock admits one thread at a time: the generators belong to the process, and a draw by another thread would change
    the random numbers of this one.

    Args:
        seed: for all generators.
        device: a GPU whose generator is seeded, too.
    """
    with _GENERATORS, torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
        before = np.random.get_state()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
