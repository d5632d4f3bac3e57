"""Load datasets through the cache, and look into its databases."""

from pathlib import Path
from typing import Any

import torch

from shpeft.datasets import batches, cache, load_dataset, pixel_batches
from shpeft.datasets.cache import FileIndex, PixelFile
from shpeft.images import InputTransform

TRANSFORM = InputTransform(16, (0.5,) * 3, (0.25,) * 3)
SHOWN = b"shown"

Loaded = tuple[dict[str, Any], list[torch.Tensor]]


def everything(root: Path, **options: Any) -> Loaded:
    """Return the card and all pixels, as a new process reads them."""
    pixel_batches.CACHE.clear()
    data = load_dataset(root, **options)
    return data.card, [pixels for split in data.splits for pixels, _ in batches(split, TRANSFORM, 4)]


def file_index() -> FileIndex:
    """Return the file index, which must be available."""
    index = cache.file_index()
    assert index is not None
    return index


def pixel_file() -> PixelFile:
    """Return the pixel file, which must be available."""
    pixels = cache.pixel_file()
    assert pixels is not None
    return pixels


def rows(index: FileIndex, table: str) -> list[tuple[Any, ...]]:
    """Return all rows of a table of the file index."""
    return index.database.attempt(lambda connection: connection.execute(f"SELECT * FROM {table}").fetchall(), [])


def same(a: Loaded, b: Loaded) -> bool:
    """Return whether two results of :func:`everything` are equal to the bit."""
    return a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))
