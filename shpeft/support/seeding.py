"""The global generators of PyTorch and NumPy, which timm, Captum and peft draw from, for one thread at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators, and put them back afterwards.

    They belong to the process: without the lock, a thread that draws meanwhile would change what this one draws, so
    that the same seed would not give the same random weights.

    Args:
        device: a graphics card whose generator is drawn from, too.
    """
    with _GENERATORS, torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
        before = np.random.get_state()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
