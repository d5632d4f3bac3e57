"""What was learned of each file, so that opening a folder again costs a look at its date and no decoding."""

import hashlib
import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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
"""``files`` says which content a file has while its identity is the same, ``readings`` what a content looks like under
one way to show it: so a copied folder is read but not decoded, and the same file may be shown in several windows."""

SETTLED = 2_000_000_000
"""Nanoseconds since its last change after which a file's date is trusted: within the resolution of a file system's
clock a file can change twice and keep its date."""

KEPT = 180
"""Days after which a file that was not met again is forgotten."""

AT_ONCE = 500
"""Rows asked for in one statement."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What reading a file gave.

    Attributes:
        content: SHA-256 of the file, 32 bytes; empty where it cannot be opened.
        id: made of the content and of how it is shown.
        look: the perceptual hash, (32,) uint8; None where it cannot be read.
        size: width and height in pixels, as the image is shown.
        error: why it cannot be read; empty where it can be.
    """

    content: bytes = b""
    id: str = ""
    look: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""


def identity(path: str) -> bytes:
    """What the file system says of a file that changes when its content does: size, dates and inode.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return struct.pack("<QqqQ", found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def settled(known: bytes, now: int) -> bool:
    """Whether a file of this identity changed last long enough before ``now``, in nanoseconds."""
    _, modified, changed, _ = struct.unpack("<QqqQ", known)
    return bool(max(modified, changed) < now - SETTLED)


def path_key(path: str) -> bytes:
    """A digest of the path: file names may be patients' names, and are not kept."""
    return hashlib.blake2b(os.path.abspath(path).encode(errors="surrogateescape"), digest_size=16).digest()


class FileIndex:
    """The index in a folder. A file that cannot be used is one that knows nothing."""

    def __init__(self, folder: Path):
        """Nothing is opened or made yet."""
        self.database = Database(folder / "index-1.sqlite", SCHEMA)

    def by_file(self, identities: Mapping[str, bytes], shown: bytes) -> dict[str, Reading]:
        """What is known of those of these files that are still the same, by path.

        Args:
            identities: of each path, as ``identity`` gives it.
            shown: a digest of how images are read and shown.
        """
        keys = {path_key(path): path for path in identities}
        today = _today()

        def look_up(connection: sqlite3.Connection) -> dict[str, Reading]:
            found, met = dict[str, Reading](), list[bytes]()
            for part in _parts(keys):
                query = (
                    "SELECT path, used, identity, files.content, id, look, width, height, error FROM files JOIN "
                    "readings ON readings.content = files.content AND shown = ? "
                    f"WHERE path IN ({','.join('?' * len(part))})"
                )
                for key, used, known, *row in connection.execute(query, (shown, *part)):
                    if known == identities[keys[key]]:
                        found[keys[key]] = _reading(row)
                        met += [key] * (used != today)
            if met:
                connection.executemany("UPDATE files SET used = ? WHERE path = ?", [(today, key) for key in met])
                _forget(connection, today - KEPT)
            return found

        return self.database.attempt(look_up, {})

    def by_content(self, contents: Sequence[bytes], shown: bytes) -> dict[bytes, Reading]:
        """What is known of these contents (SHA-256)."""

        def look_up(connection: sqlite3.Connection) -> dict[bytes, Reading]:
            found: dict[bytes, Reading] = {}
            for part in _parts(contents):
                query = (
                    "SELECT content, id, look, width, height, error FROM readings WHERE shown = ? "
                    f"AND content IN ({','.join('?' * len(part))})"
                )
                found.update((row[0], _reading(row)) for row in connection.execute(query, (shown, *part)))
            return found

        return self.database.attempt(look_up, {})

    def keep(self, readings: Sequence[tuple[str, bytes | None, Reading]], shown: bytes) -> bool:
        """Remember readings with the path and the identity of each; whether that could be done.

        An identity of None is one that cannot be trusted yet: then only what the content looks like is kept.
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
        """How many files are known."""
        count = "SELECT count(*) FROM files"
        return self.database.attempt(lambda connection: int(connection.execute(count).fetchone()[0]), 0)


def _reading(row: Sequence) -> Reading:
    content, name, look, width, height, error = row
    return Reading(content, name, None if look is None else np.frombuffer(look, np.uint8), (width, height), error)


def _forget(connection: sqlite3.Connection, day: int) -> None:
    """Drop files that were last met before a day, and what their contents looked like."""
    if connection.execute("DELETE FROM files WHERE used < ?", (day,)).rowcount:
        connection.execute("DELETE FROM readings WHERE content NOT IN (SELECT content FROM files)")


def _today() -> int:
    return int(time.time() // 86400)


def _parts(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while part := list(islice(rest, AT_ONCE)):
        yield part
