"""Read every file of a dataset once: whether it can be decoded, its content, and its perceptual hash."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shpeft.datasets.cache import FileIndex, Reading, file_index, identity
from shpeft.datasets.cache.index import settled
from shpeft.datasets.cache.location import decoder_digest
from shpeft.datasets.duplicates import look
from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import DEFAULT_DECODING, Decoding, open_image
from shpeft.support.bounded_files import read_regular_file
from shpeft.support.limits import IMAGE_BYTES
from shpeft.support.progress import Progress

THREADS = min(8, os.cpu_count() or 1)

FILES, BYTES = 32, 2**22
"""Maximum files and bytes per task of a thread, small enough that work stops soon on request."""

SAVE = 1.0
"""Seconds between writes to the index: at most this much work is lost when the process ends."""

OF_NOW = (MemoryError, MissingExtra, RuntimeError)
"""Causes that are not properties of the file, so its error is not cached; pydicom wraps decoder errors in the last."""

A = TypeVar("A")
B = TypeVar("B")


def shown_as(decoding: Decoding) -> bytes:
    """Return a digest of everything besides the file that decides its pixels."""
    return hashlib.blake2b(decoder_digest() + repr(decoding).encode(), digest_size=16).digest()


def check(paths: Sequence[Path], decoding: Decoding, progress: Progress, *, cache: bool = True) -> list[Reading]:
    """Return a reading of every file; only files that are new or changed since the last time are read.

    Args:
        paths: the files.
        decoding: the window and the frame.
        progress: may raise to stop the work; readings so far are stored.
        cache: whether to use the index.

    Raises:
        MissingExtra: the package that reads these files is not installed.
    """
    index, names = file_index() if cache else None, [str(path) for path in paths]
    shown = shown_as(decoding)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="check") as pool:
        identities, known = {}, dict[str, Reading]()
        if index is not None:
            identities = _identities(pool, names, progress)
            known = index.by_file(identities, shown)
        readings, unsaved = dict(known), list[tuple[str, bytes | None, Reading]]()
        work = _chunks([name for name in dict.fromkeys(names) if name not in known], identities)
        last, total = time.monotonic(), len(set(names))
        progress("Checking images", len(readings), total)
        try:
            for now, chunk in _ahead(pool, lambda chunk: _read(chunk, decoding, shown, index), work):
                for name, reading in chunk:
                    readings[name] = reading
                    trusted = name in identities and settled(identities[name], now)
                    unsaved.append((name, identities[name] if trusted else None, reading))
                if index is not None and time.monotonic() - last > SAVE:
                    index.keep(unsaved, shown)
                    unsaved, last = [], time.monotonic()
                progress("Checking images", len(readings), total)
        finally:
            pool.shutdown(cancel_futures=True)
            if index is not None and unsaved:
                index.keep(unsaved, shown)
    return [readings[name] for name in names]


def _identities(pool: Executor, names: Sequence[str], progress: Progress) -> dict[str, bytes]:
    """Return the identity of every file that exists."""

    def look_at(part: Sequence[str]) -> list[tuple[str, bytes]]:
        known = []
        for name in part:
            try:
                known.append((name, identity(name)))
            except OSError:  # reading it reports the reason
                continue
        return known

    parts = [names[first : first + 512] for first in range(0, len(names), 512)]
    identities: dict[str, bytes] = {}
    for number, part in enumerate(_ahead(pool, look_at, parts)):
        identities.update(part)
        progress("Looking for changes", min(512 * number + 512, len(names)), len(names))
    return identities


def _chunks(names: Iterable[str], identities: dict[str, bytes]) -> Iterator[list[str]]:
    """Yield the work in chunks of some files, fewer if they are large."""
    chunk, size = list[str](), 0
    for name in names:
        chunk.append(name)
        size += int.from_bytes(identities[name][:8], "little") if name in identities else BYTES // FILES
        if len(chunk) == FILES or size >= BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _read(
    names: Sequence[str], decoding: Decoding, shown: bytes, index: FileIndex | None
) -> tuple[int, list[tuple[str, Reading]]]:
    """Return the time before the first file was read, in nanoseconds, and a reading of each file."""
    now, readings, data = time.time_ns(), dict[str, Reading](), dict[str, bytes]()
    for name in names:
        try:
            data[name] = read_regular_file(name, IMAGE_BYTES)
        except (OSError, ValueError) as error:
            readings[name] = Reading(error=getattr(error, "strerror", None) or str(error))
    contents = {name: hashlib.sha256(held).digest() for name, held in data.items()}
    known = index.by_content(list(contents.values()), shown) if index is not None else {}
    for name, held in data.items():
        readings[name] = known.get(contents[name]) or _decode(held, contents[name], decoding)
    return now, [(name, readings[name]) for name in names]


def _decode(data: bytes, content: bytes, decoding: Decoding) -> Reading:
    name = content.hex()
    if decoding != DEFAULT_DECODING:
        name = hashlib.sha256(data + repr(decoding).encode()).hexdigest()
    try:
        image = open_image(data, decoding)
    except UnreadableImage as error:
        if isinstance(error.__cause__ or error.__context__, OF_NOW):
            content = b""
        return Reading(content, name[:12], error=str(error).removeprefix("the uploaded file ").rstrip("."))
    return Reading(content, name[:12], look(image), image.size)


def _ahead(pool: Executor, call: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Yield ``call(item)`` for each item in order, computed some items ahead.

    ``pool.map`` would submit all items at once, and a process that is ending would wait for them.
    """
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(call, item))
        if len(waiting) > 2 * THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
