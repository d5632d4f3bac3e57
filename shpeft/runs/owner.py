"""``owner.json``: whose a run or a batch is, and who may change it; only an app with accounts writes it."""

import json
from dataclasses import dataclass
from pathlib import Path

from shpeft.errors import RunError
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import parse_json, read_regular_file
from shpeft.support.limits import DOCUMENT_BYTES

OWNER = "owner.json"

FORMAT = "shpeft.owner/1"
DAMAGED = "unreadable"
"""The owner of a folder whose file cannot be read: nobody, so that an administrator has to decide."""


@dataclass(frozen=True)
class Account:
    """Somebody who uses the app.

    Attributes:
        id: 16 hex digits.
        is_admin: whether they may change everybody's runs.
    """

    id: str
    is_admin: bool = False


def write_owner(folder: Path, account: Account | None) -> None:
    """Write whose a run or a batch is; without accounts, nothing is written.

    Raises:
        ShpeftError: the file cannot be written.
    """
    if account is not None:
        write_atomic(folder / OWNER, json.dumps({"format": FORMAT, "owner": account.id}) + "\n")


def owner_of(folder: Path) -> str | None:
    """Return the id of the account whose a run or a batch is; None if it has no owner."""
    try:
        fields = parse_json(read_regular_file(folder / OWNER, DOCUMENT_BYTES))
        if fields["format"] == FORMAT and isinstance(fields["owner"], str):
            owner: str = fields["owner"]
            return owner
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return DAMAGED


def may_change(folder: Path, account: Account | None) -> bool:
    """Return whether an account may rename, delete or stop a run or a batch, or change its rules and notes.

    Its owner may, and administrators. Everybody may use it. Without accounts, everything is allowed.

    Examples:
        >>> may_change(Path("anything"), None), may_change(Path("nothing"), Account("0123456789abcdef"))
        (True, False)
    """
    return account is None or account.is_admin or owner_of(folder) == account.id


def check_may_change(folder: Path, account: Account | None, what: str) -> None:
    """Check that an account may change a run or a batch.

    Args:
        folder: of the run or the batch.
        account: who asks; None without accounts.
        what: as in ``The run first``.

    Raises:
        RunError: it may not.
    """
    if not may_change(folder, account):
        whose = "has no owner" if owner_of(folder) in (None, DAMAGED) else "belongs to another account"
        raise RunError(f"{what} {whose}: you can use it, not change it. Ask its owner or an administrator.")
