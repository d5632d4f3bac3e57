"""The folders that paths from visitors of the app may lie in; unless somebody names them, every folder."""

import os
from pathlib import Path

from shpeft.errors import ShpeftError

VARIABLE = "SHPEFT_ALLOWED_FOLDERS"
"""Folders, separated as in ``PATH``; ``shpeft ui --allow-folder`` sets it."""


PRIVATE = ".accounts"
"""The folder of the accounts' key and the audit log in the folder of runs, which no path on the pages may lead to."""


def allowed_folders() -> tuple[Path, ...]:
    """Return the folders; none if all are allowed."""
    return tuple(Path(name).resolve() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)


def is_allowed(path: str | Path) -> bool:
    """Return whether a path, after following links, lies in an allowed folder."""
    if not (folders := allowed_folders()):
        return True
    try:
        resolved = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown home, a NUL
        return False
    return PRIVATE not in resolved.parts and any(resolved.is_relative_to(folder) for folder in folders)


def check_allowed(path: str | Path, error: type[ShpeftError] = ShpeftError) -> None:
    """Check that a path lies in an allowed folder, before anything looks at it.

    Raises:
        ShpeftError: of the class ``error``, if it does not.

    Examples:
        >>> check_allowed("/anywhere")  # unless the variable says otherwise
    """
    if not is_allowed(path):
        names = ", ".join(str(folder) for folder in allowed_folders())
        raise error(f"{path} is outside the folders that this server may read: {names}. Choose a path in one of them.")
