"""Accounts of the people who use the app, by opaque ids.

An id is a keyed hash of the provider and its name for the person; nothing stored tells the name. The key and the audit
log are in ``.accounts`` in the folder of runs, readable by the server alone.
"""

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from shpeft.errors import ShpeftError
from shpeft.runs.listing import runs_root
from shpeft.support.allowed_folders import PRIVATE
from shpeft.support.atomic_files import FileLock
from shpeft.support.bounded_files import read_regular_file

KEY_BYTES = 32


def account_id(issuer: str, subject: str, root: str | Path | None = None) -> str:
    """Return the opaque id of a person: an HMAC-SHA256 of the provider and its name for them, shortened to 64 bits.

    Args:
        issuer: who vouches for the name.
        subject: the name, which is unique for the issuer.
        root: the folder of runs, ``runs_root()`` by default; each folder has a key of its own.

    Raises:
        ShpeftError: the key cannot be made or read.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     first, again = account_id("https://idp", "a", root), account_id("https://idp", "a", root)
        ...     print(first == again, first == account_id("https://idp", "b", root), len(first))
        True False 16
    """
    message = json.dumps([issuer, subject]).encode()
    return hmac.new(_key(private_folder(root)), message, hashlib.sha256).hexdigest()[:16]


def private_folder(root: str | Path | None = None) -> Path:
    """Return the folder of the key and the audit log, and make it if it is missing.

    Raises:
        ShpeftError: it cannot be made.
    """
    folder = Path(root or runs_root()) / PRIVATE
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ShpeftError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose a writable folder of runs."
        ) from None
    return folder


def _key(folder: Path) -> bytes:
    path, lock = folder / "key", FileLock(folder / ".lock")
    try:
        if not path.exists():
            if not lock.acquire(patience=10):
                raise ShpeftError(f"The key of the accounts in {folder} is being made. Try again.")
            try:
                if not path.exists():
                    _write_key(path)
            finally:
                lock.release()
        key = read_regular_file(path, 2 * KEY_BYTES)
    except (OSError, ValueError) as error:
        raise ShpeftError(f"The key of the accounts, {path}, cannot be read: {error}. Restore it.") from None
    if len(key) != KEY_BYTES:
        raise ShpeftError(f"The key of the accounts, {path}, is damaged. Restore it; a new one makes new accounts.")
    return key


def _write_key(path: Path) -> None:
    """Write a new key at once, readable by its owner alone."""
    temporary = path.with_name(f".key-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
