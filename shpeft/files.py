"""Files that are never half-written, and locks that die with their process."""

import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

from shpeft.errors import ShpeftError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a whole file: readers see the old content or the new one, after a crash too.

    Text is written as UTF-8. The folder must exist.

    Raises:
        ShpeftError: the folder is missing, full or not writable; an older file is left as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ShpeftError(
            f"{path} cannot be written: {error.strerror or error}. Make room, or choose a folder that can be written."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be synchronised."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(descriptor)


class FileLock:
    """A lock on a file that the operating system releases when its holder ends, however it ends.

    Unlike a stored process id it cannot be mistaken for another process that was given the same number.
    Two ``FileLock`` objects exclude each other inside one process, too.
    """

    def __init__(self, path: str | Path) -> None:
        """Prepare a lock on ``path``, a file that ``acquire`` creates."""
        self.path = Path(path)
        self._file: BinaryIO | None = None

    @property
    def held(self) -> bool:
        """Whether this very object holds the lock."""
        return self._file is not None

    def acquire(self, patience: float = 1.0) -> bool:
        """Take the lock, waiting up to ``patience`` seconds; True when this object holds it afterwards."""
        if self._file is not None:
            return True
        deadline = time.monotonic() + patience
        while True:
            file = open(self.path, "a+b")  # noqa: SIM115 (closing it would release the lock)
            if _try_lock(file):
                self._file = file
                return True
            file.close()
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def release(self) -> None:
        """Give the lock back; without effect when it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(path: str | Path) -> bool:
    """Whether some living process (or another object of this one) holds the lock on ``path``."""
    try:
        with open(path, "r+b" if fcntl is None else "rb") as file:
            return not _try_lock(file)
    except OSError:
        return False


def _try_lock(file: BinaryIO) -> bool:
    """Lock an open file without waiting; closing the file releases it."""
    try:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True
