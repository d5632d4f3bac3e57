"""Batches of resized pixels, cached in memory and on disk."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import torch

from shpeft.datasets.base import Split
from shpeft.datasets.cache import pixel_file, pixel_key
from shpeft.datasets.scan import THREADS
from shpeft.images import InputTransform
from shpeft.support.progress import Progress

Key = tuple[str, InputTransform]


class PixelCache:
    """A thread-safe cache in memory of at most ``limit`` bytes; the least recently used pixels are dropped first."""

    def __init__(self, limit: int = 2**30) -> None:
        """Create an empty cache; ``limit`` is in bytes."""
        self.limit = limit
        self.size = 0
        self._held: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> torch.Tensor | None:
        """Return the pixels of a key, or None."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, pixels: torch.Tensor) -> None:
        """Store pixels, and drop the least recently used ones beyond the limit."""
        with self._lock:
            if key in self._held or pixels.nbytes > self.limit:
                return
            self._held[key] = pixels
            self.size += pixels.nbytes
            while self.size > self.limit:
                self.size -= self._held.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Drop all pixels."""
        with self._lock:
            self._held.clear()
            self.size = 0

    def __len__(self) -> int:
        """Return the number of images in the cache."""
        return len(self._held)


CACHE = PixelCache()
"""The cache of the process, shared by all runs; an id is derived from the content, so it is part of the key."""


def pixels(split: Split, index: int, transform: InputTransform) -> torch.Tensor:
    """Return the resized pixels of one case, uint8 (3, H, W); the cache shares them, so they must not be modified."""
    key = (split.ids[index], transform)
    cached = CACHE.get(key)
    if cached is None:
        cached = _from_disk(split, index, transform)
        CACHE.put(key, cached)
    return cached


def _from_disk(split: Split, index: int, transform: InputTransform) -> torch.Tensor:
    """Return the pixels of one case from the cache on disk, or decode and store them."""
    disk = pixel_file() if split.contents else None
    if disk is None:
        return transform.pixels(split.image(index))
    key = pixel_key(split.contents[index], transform.size, transform.interpolation)
    stored = disk.get(key, transform.size)
    if stored is not None:
        return torch.from_numpy(stored)
    decoded = transform.pixels(split.image(index))
    disk.put(key, decoded.numpy())
    return decoded


def batches(
    split: Split,
    transform: InputTransform,
    batch_size: int,
    *,
    order: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of pixels, uint8 (B, 3, H, W), and labels (B, ...); the last batch may be smaller.

    A few threads decode one batch ahead.

    Args:
        split: the images.
        transform: resizes them to H x W pixels.
        batch_size: B.
        order: indices of the cases. None: all cases in their order.
        progress: called with the number of images yielded.

    Raises:
        UnreadableImage: a file was changed or removed since the dataset was loaded.
    """
    rows = range(len(split)) if order is None else [int(row) for row in order]
    chunks = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    done = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="decode") as pool:

        def ahead(position: int) -> list[Future[torch.Tensor]]:
            chunk = chunks[position] if position < len(chunks) else ()
            return [pool.submit(pixels, split, row, transform) for row in chunk]

        waiting = ahead(0)
        try:
            for position, chunk in enumerate(chunks):
                ready, waiting = waiting, ahead(position + 1)
                batch = torch.stack([future.result() for future in ready])
                done += len(chunk)
                if progress is not None:
                    progress("Reading images", done, len(rows))
                yield batch, split.task.target([split.labels[row] for row in chunk])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if split.contents and (disk := pixel_file()) is not None:
                disk.flush()
