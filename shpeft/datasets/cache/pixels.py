"""Resized pixels on disk, by content; the least recently used are deleted first."""

import hashlib
import shutil
import sqlite3
import time
import zlib
from pathlib import Path
from threading import Lock

import numpy as np

from shpeft.datasets.cache.database import Database
from shpeft.support.image_size import ImageSize, height_and_width

LIMIT = 8 * 2**30
"""Maximum bytes of pixels on disk; half of the free disk space is a second limit."""

PENDING = 8 * 2**20
"""Bytes of pixels to collect in memory before writing."""

RECENT = 3600
"""Seconds after a recorded use within which further uses are not recorded."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS pixels (
    key BLOB PRIMARY KEY, used INTEGER NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS pixels_used ON pixels (used);
"""


def pixel_key(content: bytes, size: ImageSize, interpolation: str) -> bytes:
    """Return the key of resized pixels, from content and decoding, size and interpolation."""
    return hashlib.blake2b(content + f"{size} {interpolation}".encode(), digest_size=20).digest()


class PixelFile:
    """A thread-safe pixel cache in a folder; an unusable database acts like an empty one."""

    def __init__(self, folder: Path, limit: int = LIMIT):
        """Prepare the cache, without opening it; ``limit`` is in bytes on disk."""
        self.limit = limit
        self.database = Database(folder / "pixels-1.sqlite", SCHEMA)
        self._pending: dict[bytes, np.ndarray] = {}
        self._touched: set[bytes] = set()
        self._lock = Lock()

    def get(self, key: bytes, size: ImageSize) -> np.ndarray | None:
        """Return the pixels of a key, uint8 (3, H, W), or None if they are missing or damaged."""
        height, width = height_and_width(size)
        with self._lock:
            if key in self._pending:
                return self._pending[key]

        def look_up(connection: sqlite3.Connection) -> tuple[int, int, bytes] | None:
            query = "SELECT used, checksum, data FROM pixels WHERE key = ?"
            row: tuple[int, int, bytes] | None = connection.execute(query, (key,)).fetchone()
            return row

        row = self.database.attempt(look_up, None)
        if row is None or len(row[2]) != 3 * height * width or _checksum(key, row[2]) != row[1]:
            return None
        if row[0] < time.time() - RECENT:
            with self._lock:
                self._touched.add(key)
        return np.frombuffer(bytearray(row[2]), np.uint8).reshape(3, height, width)

    def put(self, key: bytes, pixels: np.ndarray) -> None:
        """Add pixels; they are written together with others, at the latest by :meth:`flush`."""
        with self._lock:
            self._pending[key] = pixels
            full = sum(waiting.nbytes for waiting in self._pending.values()) >= PENDING
        if full:
            self.flush()

    def flush(self) -> None:
        """Write pending pixels, and delete the least recently used ones if there is no room."""
        with self._lock:
            pending, self._pending = self._pending, {}
            touched, self._touched = self._touched, set()
        if not pending and not touched:
            return
        now = int(time.time())
        rows = [(key, now, _checksum(key, data), data) for key, data in _contiguous(pending)]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE pixels SET used = ? WHERE key = ?", [(now, key) for key in touched])
            needed = sum(len(data) for _, _, _, data in rows)
            self._make_room(connection, needed)
            if needed <= self._room(connection):
                connection.executemany("INSERT OR REPLACE INTO pixels VALUES (?, ?, ?, ?)", rows)

        self.database.attempt(write, None)

    def drop_pending(self) -> None:
        """Drop pending pixels."""
        with self._lock:
            self._pending, self._touched = {}, set()

    def __len__(self) -> int:
        """Return the number of images on disk."""
        count = "SELECT count(*) FROM pixels"
        return self.database.attempt(lambda connection: int(connection.execute(count).fetchone()[0]), 0)

    def _room(self, connection: sqlite3.Connection) -> int:
        """Return the number of bytes that may still be used."""
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        used = (pages - free) * size
        disk = shutil.disk_usage(self.database.path.parent).free + free * size
        return min(self.limit - used, disk // 2)

    def _make_room(self, connection: sqlite3.Connection, needed: int) -> None:
        """Delete the least recently used, some at a time, until ``needed`` bytes fit or nothing is left."""
        oldest = "DELETE FROM pixels WHERE rowid IN (SELECT rowid FROM pixels ORDER BY used, rowid LIMIT 16)"
        while self._room(connection) < needed and connection.execute(oldest).rowcount:
            pass


def _contiguous(pending: dict[bytes, np.ndarray]) -> list[tuple[bytes, bytes]]:
    return [(key, pixels.tobytes()) for key, pixels in pending.items()]


def _checksum(key: bytes, data: bytes) -> int:
    """Return a checksum of pixels and key, which detects damaged pixels and those of another image."""
    return zlib.crc32(data, zlib.crc32(key))
