"""A SQLite database of the cache, whose failures are harmless."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TypeVar

from shpeft.support.atomic_files import FileLock

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds to wait for another process that writes."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """A SQLite file that only its owner may read, safe to share between threads and processes.

    It uses the rollback journal: the write-ahead log needs memory that hosts of a network file system do not share. A
    damaged file is replaced by an empty one.
    """

    def __init__(self, path: Path, schema: str):
        """Prepare the database; nothing is opened or created yet.

        Args:
            path: the file; a missing folder is created, readable by its owner only.
            schema: statements that create missing tables.
        """
        self.path = path
        self._schema = schema
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Run ``work`` in a transaction and return its result, or ``otherwise`` if the file cannot be used."""
        with self._lock:
            for damaged_before in (False, True):
                try:
                    connection = self._open()
                    with connection:
                        return work(connection)
                except (sqlite3.Error, OSError) as error:
                    self.close()
                    if damaged_before or not _is_damage(error) or not self._discard():
                        break
        return otherwise

    def clear(self) -> bool:
        """Delete all rows and free their space; return whether it succeeded."""
        if not self.path.exists():
            return True

        def empty(connection: sqlite3.Connection) -> bool:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                connection.execute(f"DELETE FROM {name}")
            connection.commit()
            connection.execute("VACUUM")
            return True

        return self.attempt(empty, False)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its journal the same mode
        self._inode = self.path.stat().st_ino
        self._connection = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = TRUNCATE")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(self._schema)
        return self._connection

    def _discard(self) -> bool:
        """Delete the damaged file, unless another process has replaced it; return whether it is gone."""
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            if not lock.acquire():
                return False
            if self.path.stat().st_ino == self._inode:
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self.path.unlink()
            return True
        except OSError:
            return False
        finally:
            lock.release()


def _is_damage(error: Exception) -> bool:
    """Return whether an error means a damaged file, not a busy, read-only or full one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGED  # the low byte of an extended code is the basic code
