"""Folders of random images for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    """Write an RGB image of noise, (width, height) in pixels; equal seeds give equal pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def build_folder(root: Path, counts: dict[str, int]) -> Path:
    """Write images into folders such as train/sick, as many as their counts; no two are alike."""
    for number, (folder, count) in enumerate(counts.items()):
        for index in range(count):
            write_picture(root / folder / f"{index}.png", 1000 * number + index)
    return root
