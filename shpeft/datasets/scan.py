"""Every file of a dataset is looked at once: can it be read, what is in it, and how does it look."""

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
from shpeft.datasets.cache.place import reader
from shpeft.datasets.duplicates import look
from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import AS_FILED, Decoding, open_image
from shpeft.progress import Progress

THREADS = min(8, os.cpu_count() or 1)

FILES, BYTES = 32, 2**22
"""Files that a thread takes at a time, at most, and their bytes: few enough that work stops soon when it is told to."""

SAVE = 1.0
"""Seconds after which what was learned is written down: that much is lost when the process ends."""

OF_NOW = (MemoryError, MissingExtra, RuntimeError)
"""Why a file cannot be read at present, which says nothing of the file; the last is pydicom's for a decoder's error."""

A = TypeVar("A")
B = TypeVar("B")


def shown_as(decoding: Decoding) -> bytes:
    """A digest of all that decides an image's pixels besides its file."""
    return hashlib.blake2b(reader() + repr(decoding).encode(), digest_size=16).digest()


def check(paths: Sequence[Path], decoding: Decoding, progress: Progress, *, cache: bool = True) -> list[Reading]:
    """Read every file that the index does not know, or that has changed since.

    Args:
        cache: ask the index, and tell it.
        progress: raising in it stops the work; what was learned until then is kept.

    Raises:
        MissingExtra: what reads these files is not installed.
    """
    index, names = file_index() if cache else None, [str(path) for path in paths]
    shown = shown_as(decoding)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="check") as pool:
        identities, known = {}, dict[str, Reading]()
        if index is not None:
            identities = _identities(pool, names, progress)
            known = index.by_file(identities, shown)
        found, unsaved = dict(known), list[tuple[str, bytes | None, Reading]]()
        work = _chunks([name for name in dict.fromkeys(names) if name not in known], identities)
        last, total = time.monotonic(), len(set(names))
        progress("Checking images", len(found), total)
        try:
            for now, chunk in _ahead(pool, lambda chunk: _read(chunk, decoding, shown, index), work):
                for name, reading in chunk:
                    found[name] = reading
                    trusted = name in identities and settled(identities[name], now)
                    unsaved.append((name, identities[name] if trusted else None, reading))
                if index is not None and time.monotonic() - last > SAVE:
                    index.keep(unsaved, shown)
                    unsaved, last = [], time.monotonic()
                progress("Checking images", len(found), total)
        finally:
            pool.shutdown(cancel_futures=True)
            if index is not None and unsaved:
                index.keep(unsaved, shown)
    return [found[name] for name in names]


def _identities(pool: Executor, names: Sequence[str], progress: Progress) -> dict[str, bytes]:
    """The identity of every file that is there."""

    def look_at(part: Sequence[str]) -> list[tuple[str, bytes]]:
        found = []
        for name in part:
            try:
                found.append((name, identity(name)))
            except OSError:  # reading it will say why
                continue
        return found

    parts = [names[start : start + 512] for start in range(0, len(names), 512)]
    found: dict[str, bytes] = {}
    for number, part in enumerate(_ahead(pool, look_at, parts)):
        found.update(part)
        progress("Looking for changes", min(512 * number + 512, len(names)), len(names))
    return found


def _chunks(names: Iterable[str], identities: dict[str, bytes]) -> Iterator[list[str]]:
    """Parts of the work: some files, or fewer where they are large."""
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
    """The time before the first file was read, in nanoseconds, and a reading of each."""
    now, found, data = time.time_ns(), dict[str, Reading](), dict[str, bytes]()
    for name in names:
        try:
            data[name] = Path(name).read_bytes()
        except OSError as error:
            found[name] = Reading(error=str(error.strerror or error))
    contents = {name: hashlib.sha256(held).digest() for name, held in data.items()}
    known = index.by_content(list(contents.values()), shown) if index is not None else {}
    for name, held in data.items():
        found[name] = known.get(contents[name]) or _decode(held, contents[name], decoding)
    return now, [(name, found[name]) for name in names]


def _decode(data: bytes, content: bytes, decoding: Decoding) -> Reading:
    name = content.hex()
    if decoding != AS_FILED:
        name = hashlib.sha256(data + repr(decoding).encode()).hexdigest()
    try:
        image = open_image(data, decoding)
    except UnreadableImage as error:
        if isinstance(error.__cause__ or error.__context__, OF_NOW):
            content = b""
        return Reading(content, name[:12], error=str(error).removeprefix("the uploaded file ").rstrip("."))
    return Reading(content, name[:12], look(image), image.size)


def _ahead(pool: Executor, call: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``call`` of each item, in order, some items ahead of the one that is handed out.

    Not ``pool.map``: that hands all items to the pool at once, which a process that is ending waits for.
    """
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(call, item))
        if len(waiting) > 2 * THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
