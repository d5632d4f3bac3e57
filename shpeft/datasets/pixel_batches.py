"""Batches of decoded pixels, decoded once and kept: in memory while it allows, and in the cache on disk."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch

from shpeft.datasets.base import Split
from shpeft.datasets.cache import pixel_file, pixel_key
from shpeft.datasets.checking import THREADS
from shpeft.images import InputTransform
from shpeft.progress import Progress

Key = tuple[str, InputTransform]


class PixelCache:
    """Least recently used pixels leave first once ``limit`` bytes are held. Safe to share between threads."""

    def __init__(self, limit: int = 2**30) -> None:
        """An empty cache; ``limit`` in bytes."""
        self.limit = limit
        self.size = 0
        self._held: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> torch.Tensor | None:
        """The pixels under this key, or None."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, pixels: torch.Tensor) -> None:
        """Keep pixels, and let the oldest go."""
        with self._lock:
            if key in self._held or pixels.nbytes > self.limit:
                return
            self._held[key] = pixels
            self.size += pixels.nbytes
            while self.size > self.limit:
                self.size -= self._held.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self.size = 0

    def __len__(self) -> int:
        """How many images are held."""
        return len(self._held)


CACHE = PixelCache()
"""One for the process: runs on the same data share it. An id stands for the content, so it is the key."""


def pixels(split: Split, index: int, transform: InputTransform) -> torch.Tensor:
    """The pixels of one case, uint8 (3, S, S); shared with the cache, so not to be written to."""
    key = (split.ids[index], transform)
    found = CACHE.get(key)
    if found is None:
        found = _kept_on_disk(split, index, transform)
        CACHE.put(key, found)
    return found


def _kept_on_disk(split: Split, index: int, transform: InputTransform) -> torch.Tensor:
    """The pixels of one case, from the disk where they are there."""
    disk = pixel_file() if split.contents else None
    if disk is None:
        return transform.pixels(split.image(index))
    key = pixel_key(split.contents[index], transform.size, transform.interpolation)
    kept = disk.get(key, transform.size)
    if kept is not None:
        return torch.from_numpy(kept)
    found = transform.pixels(split.image(index))
    disk.put(key, found.numpy())
    return found


def batches(
    split: Split,
    transform: InputTransform,
    batch_size: int,
    *,
    order: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pixels uint8 (B, 3, S, S) and labels int64 (B,), in ``order`` or as they stand; the last batch may be smaller.

    Images are decoded by a few threads, one batch ahead of the one that is handed out.

    Raises:
        UnreadableImage: a file was damaged or removed since the dataset was loaded.
    """
    rows = range(len(split)) if order is None else [int(row) for row in order]
    chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    done = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="decode") as pool:

        def ahead(position: int) -> list:
            chunk = chunks[position] if position < len(chunks) else ()
            return [pool.submit(pixels, split, row, transform) for row in chunk]

        waiting = ahead(0)
        try:
            for position, chunk in enumerate(chunks):
                ready, waiting = waiting, ahead(position + 1)
                images = torch.stack([future.result() for future in ready])
                done += len(chunk)
                if progress is not None:
                    progress("Reading images", done, len(rows))
                yield images, torch.tensor([split.labels[row] for row in chunk], dtype=torch.int64)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if split.contents and (disk := pixel_file()) is not None:
                disk.flush()
