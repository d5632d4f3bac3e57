"""The audit log of an app with accounts: who diagnosed which case with which model or stored its results, and when.

One line of JSON for each of these, in ``.accounts/audit.jsonl`` in the folder of runs. Lines are appended and never
changed. They hold opaque ids only: no image, no name, no result.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Literal

from shpeft.errors import ShpeftError
from shpeft.runs.accounts import private_folder
from shpeft.runs.listing import runs_root
from shpeft.runs.owner import Account
from shpeft.support.allowed_folders import PRIVATE
from shpeft.support.atomic_files import FileLock
from shpeft.support.bounded_files import open_regular_file, parse_json

NAME = "audit.jsonl"

LINE_BYTES = 4096
"""Most bytes of a line."""

Action = Literal["diagnosed", "stored"]
"""What was done: a diagnosis was made, or made and sent to the archive."""

Record = Callable[[str, str], None]
"""Takes a case and the model that diagnosed it."""


@dataclass(frozen=True)
class AuditEntry:
    """One diagnosis, or its results on their way to the archive.

    Attributes:
        time: when, in UTC, as ``2026-11-30T16:40:02Z``.
        account: the opaque id of who asked for it.
        case: the opaque id of the image.
        run: the name of the run.
        model: a digest of the model, its decision rules, and the versions of the libraries.
        action: what was done; lines of an older version have none, and are diagnoses.
    """

    time: str
    account: str
    case: str
    run: str
    model: str
    action: str = "diagnosed"


class AuditLog:
    """The audit log of a folder of runs.

    Args:
        root: the folder of runs, ``runs_root()`` by default.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     AuditLog(root).append(Account("0123456789abcdef"), "case-1", "first", "ab12")
        ...     [entry] = AuditLog(root).entries()
        ...     print(entry.account, entry.case, entry.run, entry.model, entry.action)
        0123456789abcdef case-1 first ab12 diagnosed
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self._root = Path(root or runs_root())

    @property
    def path(self) -> Path:
        """The file."""
        return self._root / PRIVATE / NAME

    def append(self, account: Account, case: str, run: str, model: str, action: Action = "diagnosed") -> None:
        """Append what is about to be done, and wait until the disk has it.

        Raises:
            ShpeftError: the log cannot be written; nothing must be shown or stored then.
        """
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps(asdict(AuditEntry(moment, account.id, case, run, model, action))).encode() + b"\n"
        lock = FileLock(private_folder(self._root) / f".{NAME}.lock")
        try:
            if not lock.acquire(patience=10):
                raise ShpeftError("The audit log is in use, so nothing is diagnosed. Try again.")
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with open(descriptor, "r+b", buffering=0) as file:
                _append(file, line)
        except OSError as error:
            why = error.strerror or "the disk is full"
            sentence = f"The audit log cannot be written ({why}), so nothing is diagnosed. Ask those who run the app."
            raise ShpeftError(sentence) from None
        finally:
            lock.release()

    def entries(self) -> Iterator[AuditEntry | None]:
        """Yield the entries, oldest first; None for a line that cannot be read, such as one that a crash cut off.

        Raises:
            ShpeftError: the log cannot be read.
        """
        try:
            with open_regular_file(self.path) as file:
                while line := file.readline(LINE_BYTES):
                    if line.strip():
                        yield _entry(line)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ShpeftError(f"The audit log {self.path} cannot be read: {error}.") from None


def recorder(account: Account | None, run: str, action: Action = "diagnosed") -> Record | None:
    """Return what records an action with this run's model for this account; None without accounts."""
    if account is None:
        return None
    log = AuditLog()
    return lambda case, model: log.append(account, case, run, model, action)


def _append(file: FileIO, line: bytes) -> None:
    """Append a line by one write, after a line break if a crash cut off the line before."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        line = line if file.read(1) == b"\n" else b"\n" + line
    if file.write(line) != len(line):
        raise OSError
    os.fsync(file)


def _entry(line: bytes) -> AuditEntry | None:
    try:
        fields = parse_json(line)
        entry = AuditEntry(**fields)
    except (ValueError, TypeError):
        return None
    return entry if all(isinstance(value, str) for value in fields.values()) else None
