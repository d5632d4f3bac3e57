"""Runs by their names: where they live, which there are, and what a new one is called."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from shpeft.config import RunConfig
from shpeft.errors import RunError
from shpeft.files import is_locked
from shpeft.runs.folder import RunFolder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

NAMED = 8
"""Runs that are named where the one that was asked for is not there, the newest first."""


def runs_root() -> Path:
    """Where runs live: ``$SHPEFT_RUNS``, or ``runs`` in the working directory."""
    return Path(os.environ.get("SHPEFT_RUNS") or "runs")


def list_runs(root: str | Path | None = None) -> list[RunFolder]:
    """The runs under ``root``, newest first; damaged ones are left out (see :func:`damaged_runs`)."""
    folders = [found for found in _scan(root) if isinstance(found, RunFolder)]
    states = {folder.name: folder.settle() for folder in folders}
    return sorted(folders, key=lambda f: states[f.name].started or states[f.name].updated, reverse=True)


def damaged_runs(root: str | Path | None = None) -> dict[str, str]:
    """The names of the run folders under ``root`` that cannot be used, each with the reason."""
    return dict(found for found in _scan(root) if not isinstance(found, RunFolder))


def find_run(name: str, root: str | Path | None = None) -> RunFolder:
    """The run of this name under ``root``; a name, never a path.

    Raises:
        RunError: there is none, which names those that there are; it is damaged; or the name is not one.
    """
    path = Path(root or runs_root()) / checked_name(name)
    if not path.is_dir():
        names = [run.name for run in list_runs(root)]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        there = f"There are {', '.join(names[:NAMED])}{more}." if names else "There is no other either."
        raise RunError(f"There is no run called {name}; it may have been renamed or deleted. {there}")
    return RunFolder.open(path)


def new_run(config: RunConfig, root: str | Path | None = None, name: str = "") -> RunFolder:
    """A new run folder under ``root``, by default named like ``2026-11-23_fundus_1``.

    Raises:
        RunError: the name is taken, or has other characters than letters, digits, dot, dash and underscore.
    """
    root = Path(root or runs_root())
    if name:
        return RunFolder.create(root / checked_name(name), config)
    stem = f"{time.strftime('%Y-%m-%d')}_{_slug(config.dataset.source)}"
    return RunFolder.create(root / _numbered(stem, root, 1), config)


def rename_run(folder: RunFolder, name: str) -> RunFolder:
    """Give a run another name; the run as it is called now.

    Raises:
        RunError: the name is taken or cannot be one, or the run is being worked on.
    """
    place = folder.path.with_name(checked_name(name))
    if place == folder.path:
        return folder
    if place.exists():
        raise RunError(f"There is a run called {name} already. Choose another name.")
    try:
        folder.move(place)
    except OSError as error:
        raise RunError(f"The run {folder.name} cannot be renamed: {error.strerror or error}.") from None
    return RunFolder.open(place)


def free_name(name: str, root: Path) -> str:
    """The name, or where it is taken under ``root`` the name with a number, ``busi_2``."""
    return _numbered(name, root, 2) if (root / name).exists() else name


def _numbered(stem: str, root: Path, number: int) -> str:
    while (root / f"{stem}_{number}").exists():
        number += 1
    return f"{stem}_{number}"


def checked_name(name: str) -> str:
    """The name, when it is safe as a folder's name.

    Raises:
        RunError: it is not.
    """
    if not NAME.fullmatch(name):
        raise RunError(
            f"{name!r} cannot be a run's name: use up to 80 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit."
        )
    return name


def _scan(root: str | Path | None) -> Iterator[RunFolder | tuple[str, str]]:
    """Every run folder under ``root``, or its name and the reason why it cannot be opened."""
    root = Path(root or runs_root())
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir() or not (path / "config.yaml").exists():
            continue
        if not (path / "state.json").exists() and is_locked(path / ".lock"):
            continue  # being made at this moment
        try:
            yield RunFolder.open(path)
        except RunError as error:
            yield path.name, str(error)


def _slug(source: str) -> str:
    """A dataset's name as a part of a folder's name: ``phantom:fundus?n=90`` -> ``fundus``."""
    name = Path(re.split(r"[?@=]", source.split(":", 1)[-1])[0]).name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
