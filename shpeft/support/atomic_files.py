"""Write files atomically, and lock files until their process ends."""

import errno
import inspect
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock

from shpeft.errors import ShpeftError

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Errors of file systems without locks, such as some network shares."""

# Newer versions would leave a marker file instead, and a killed process would seem to live for ever.
OPTIONS: dict[str, Any] = {
    name: False for name in inspect.signature(filelock.FileLock).parameters if name == "fallback_to_soft"
}


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a file atomically: readers see the old content or the new content, even after a crash.

    Args:
        path: the file, in a folder that exists.
        data: the whole content; text is encoded as UTF-8.

    Returns:
        The path.

    Raises:
        ShpeftError: the folder is missing, full or not writable; an existing file is left unchanged.
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
            f"{path} cannot be written: {error.strerror or error}. Free some space, or choose a writable folder."
        ) from None
    finally:
        with suppress(OSError):  # a disk that is read-only refuses this, too, and would hide the sentence above
            temporary.unlink(missing_ok=True)
    return path


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is what a killed process left of :func:`write_atomic`.

    Examples:
        >>> is_leftover(".config.yaml.0a1b2c3d.tmp"), is_leftover("config.yaml")
        (True, False)
    """
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk, on systems that can synchronize a folder."""
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
    """A lock on a file that the operating system releases when the holding process ends, even if it is killed.

    A thin layer over :class:`filelock.FileLock`: a second ``acquire`` by the holder succeeds without counting, and any
    thread may release. Two ``FileLock`` objects exclude each other within one process, too.
    """

    def __init__(self, path: str | Path) -> None:
        """Prepare a lock on ``path``; :meth:`acquire` creates the file, in a folder that must exist."""
        self.path = Path(path)
        self._lock = filelock.FileLock(self.path, thread_local=False, **OPTIONS)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self, patience: float = 1.0) -> bool:
        """Try to take the lock for up to ``patience`` seconds; return whether this object holds it.

        Raises:
            OSError: the folder is missing, or the file cannot be opened for writing.
            ShpeftError: the file system has no locks.
        """
        if not self.held:
            if not self.path.parent.is_dir():  # filelock would create it
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path.parent))
            try:
                self._lock.acquire(timeout=patience, poll_interval=0.02)
            except filelock.Timeout:
                return False
            except (NotImplementedError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                    raise
                raise ShpeftError(
                    f"The disk of {self.path.parent} has no file locks, which keep two processes from working on the "
                    "same files. Choose a folder on another disk; $SHPEFT_RUNS names that of runs."
                ) from None
        return True

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        self._lock.release(force=True)


def is_locked(path: str | Path) -> bool:
    """Return whether a living process, or another object of this one, holds the lock on ``path``.

    A lock file that this user may not write counts as held, because only a writer can test the lock.
    """
    if not Path(path).is_file():
        return False
    lock = FileLock(path)
    try:
        return not lock.acquire(patience=0)
    except PermissionError:
        return True
    except (OSError, ShpeftError):  # without locks, nothing can work on it
        return False
    finally:
        lock.release()
