"""The folders that paths from visitors of the app may lie in; unless somebody names them, every folder."""

import os
from pathlib import Path

from shpeft.errors import ShpeftError

VARIABLE = "SHPEFT_ALLOWED_FOLDERS"
"""Folders, separated as in ``PATH``; ``shpeft ui --allow-folder`` sets it."""

PRIVATE = ".accounts"
"""The folder of the accounts' key and the audit log in the folder of runs, which no path on the pages may lead to."""

UPLOADS = ".uploads"
"""The folder of what was dropped on the pages, in the folder of runs; it has a folder for each upload."""


def allowed_folders() -> tuple[Path, ...]:
    """Return the folders; none if all are allowed."""
    return tuple(Path(name).resolve() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)


def is_allowed(path: str | Path, *, named_in: Path | None = None) -> bool:
    """Return whether a path, after following links, lies in an allowed folder.

    Args:
        named_in: the table that names it, which may name no files of another upload than its own.
    """
    if not (folders := allowed_folders()):
        return True
    try:
        resolved = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown home, a NUL
        return False
    if PRIVATE in resolved.parts or not any(resolved.is_relative_to(folder) for folder in folders):
        return False
    return named_in is None or UPLOADS not in resolved.parts or upload_of(resolved) == upload_of(named_in)


def upload_of(path: str | Path) -> Path | None:
    """Return the folder of the upload that a path leads into, after following links; None for other paths.

    Examples:
        >>> str(upload_of("/runs/.uploads/0123456789ab/images/ill/1.png"))
        '/runs/.uploads/0123456789ab'
        >>> upload_of("/images/ill/1.png")
    """
    try:
        resolved = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return None
    folders = (resolved, *resolved.parents)
    return next((folder for folder in folders if UPLOADS in (folder.name, folder.parent.name)), None)


def check_allowed(path: str | Path, error: type[ShpeftError] = ShpeftError, *, named_in: Path | None = None) -> None:
    """Check that a path lies in an allowed folder, before anything looks at it; see :func:`is_allowed`.

    Raises:
        ShpeftError: of the class ``error``, if it does not.

    Examples:
        >>> check_allowed("/anywhere")  # unless the variable says otherwise
    """
    if not is_allowed(path, named_in=named_in):
        names = ", ".join(str(folder) for folder in allowed_folders())
        raise error(f"{path} is outside the folders that this server may read: {names}. Choose a path in one of them.")
