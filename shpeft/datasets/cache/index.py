"""The index of known files: a folder is opened again by file dates, without decoding."""

import hashlib
import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from shpeft.datasets.cache.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, identity BLOB NOT NULL, content BLOB NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (
    content BLOB, shown BLOB, id TEXT NOT NULL, width INTEGER, height INTEGER, look BLOB, error TEXT NOT NULL,
    PRIMARY KEY (content, shown)
) WITHOUT ROWID;
"""
"""``files`` maps a file, while its identity is unchanged, to its content; ``readings`` maps a content and a decoding to
their properties. So a copied folder is read but not decoded, and a file may have readings for several windows."""

SETTLED = 2_000_000_000
"""Nanoseconds since its last change after which a file's date is trusted: a file can change twice within the
resolution of the file system's clock and keep its date."""

KEPT = 180
"""Days after their last use for which files stay in the index."""

AT_ONCE = 500
"""Number of rows per query."""


@dataclass(frozen=True, eq=False)
class Reading:
    """The result of reading a file.

    Attributes:
        content: SHA-256 of the file, 32 bytes; empty if it cannot be opened.
        id: derived from the content and the decoding.
        look: the perceptual hash, (32,) uint8; None if the file cannot be decoded.
        size: width and height of the upright image in pixels.
        error: why the file cannot be read; empty if it can.
    """

    content: bytes = b""
    id: str = ""
    look: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""


def identity(path: str) -> bytes:
    """Return the file's size, dates and inode, which change with its content.

    Raises:
        OSError: there is no such file.
    """
    stat = os.stat(path)
    return struct.pack("<QqqQ", stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def settled(known: bytes, now: int) -> bool:
    """Return whether the last change of a file is long enough before ``now``, in nanoseconds."""
    _, modified, changed, _ = struct.unpack("<QqqQ", known)
    return bool(max(modified, changed) < now - SETTLED)


def path_key(path: str) -> bytes:
    """Return a digest of the path: file names may contain patients' names, and are not stored."""
    return hashlib.blake2b(os.path.abspath(path).encode(errors="surrogateescape"), digest_size=16).digest()


class FileIndex:
    """The index in a folder; an unusable database acts like an empty one."""

    def __init__(self, folder: Path):
        """Prepare the index; nothing is opened or created yet."""
        self.database = Database(folder / "index-1.sqlite", SCHEMA)

    def by_file(self, identities: Mapping[str, bytes], shown: bytes) -> dict[str, Reading]:
        """Return the known readings of unchanged files, by path.

        Args:
            identities: the :func:`identity` of each path.
            shown: a digest of the decoder and the decoding.
        """
        keys = {path_key(path): path for path in identities}
        today = _today()

        def look_up(connection: sqlite3.Connection) -> dict[str, Reading]:
            readings, met = dict[str, Reading](), list[bytes]()
            for part in _parts(keys):
                query = (
                    "SELECT path, used, identity, files.content, id, look, width, height, error FROM files JOIN "
                    "readings ON readings.content = files.content AND shown = ? "
                    f"WHERE path IN ({','.join('?' * len(part))})"
                )
                for key, used, known, *row in connection.execute(query, (shown, *part)):
                    if known == identities[keys[key]]:
                        readings[keys[key]] = _reading(row)
                        met += [key] * (used != today)
            if met:
                connection.executemany("UPDATE files SET used = ? WHERE path = ?", [(today, key) for key in met])
                _forget(connection, today - KEPT)
            return readings

        return self.database.attempt(look_up, {})

    def by_content(self, contents: Sequence[bytes], shown: bytes) -> dict[bytes, Reading]:
        """Return the known readings of contents (SHA-256)."""

        def look_up(connection: sqlite3.Connection) -> dict[bytes, Reading]:
            readings: dict[bytes, Reading] = {}
            for part in _parts(contents):
                query = (
                    "SELECT content, id, look, width, height, error FROM readings WHERE shown = ? "
                    f"AND content IN ({','.join('?' * len(part))})"
                )
                readings.update((row[0], _reading(row)) for row in connection.execute(query, (shown, *part)))
            return readings

        return self.database.attempt(look_up, {})

    def keep(self, readings: Sequence[tuple[str, bytes | None, Reading]], shown: bytes) -> bool:
        """Store readings with the path and the identity of each file; return whether it succeeded.

        If the identity is None, it cannot be trusted yet, and only the reading of the content is stored.
        """
        today = _today()
        files = [(path_key(path), known, r.content, today) for path, known, r in readings if known and r.content]
        rows = [
            (r.content, shown, r.id, *r.size, None if r.look is None else r.look.tobytes(), r.error)
            for _, _, r in readings
            if r.content
        ]

        def write(connection: sqlite3.Connection) -> bool:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", files)
            connection.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            return True

        return self.database.attempt(write, False)

    def __len__(self) -> int:
        """Return the number of known files."""
        count = "SELECT count(*) FROM files"
        return self.database.attempt(lambda connection: int(connection.execute(count).fetchone()[0]), 0)


def _reading(row: Sequence[Any]) -> Reading:
    content, name, look, width, height, error = row
    return Reading(content, name, None if look is None else np.frombuffer(look, np.uint8), (width, height), error)


def _forget(connection: sqlite3.Connection, day: int) -> None:
    """Delete files last used before a day, and readings without a file."""
    if connection.execute("DELETE FROM files WHERE used < ?", (day,)).rowcount:
        connection.execute("DELETE FROM readings WHERE content NOT IN (SELECT content FROM files)")


def _today() -> int:
    return int(time.time() // 86400)


def _parts(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while part := list(islice(rest, AT_ONCE)):
        yield part
