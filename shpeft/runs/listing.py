"""Find runs by name: the folder of all runs, the runs in it, and names of new ones."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import platformdirs

from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.runs.example import EXAMPLE, example_path
from shpeft.runs.folder import RunFolder
from shpeft.support.atomic_files import is_locked

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

STAGING = ".import-"
"""How the folder of an import begins, which becomes a run at its end."""

LOCK = ".lock"
"""A file in it, locked by the process that imports."""

MOST_NAMES = 8
"""Names of runs in an error message, the newest runs first."""


def runs_root() -> Path:
    """Return the folder of all runs: ``$SHPEFT_RUNS``, else an existing ``./runs``, else the user's data folder."""
    if folder := os.environ.get("SHPEFT_RUNS"):
        return Path(folder).expanduser()
    return Path("runs") if Path("runs").is_dir() else platformdirs.user_data_path("shpeft", appauthor=False) / "runs"


def list_runs(root: str | Path | None = None) -> list[RunFolder]:
    """Return the runs under ``root``, newest first, without damaged ones (see :func:`damaged_runs`).

    Args:
        root: the folder of runs, ``runs_root()`` by default.
    """
    remove_killed_imports(Path(root or runs_root()))
    folders = [item for item in _scan(root) if isinstance(item, RunFolder)]
    states = {folder.name: folder.state.settle() for folder in folders}
    return sorted(folders, key=lambda f: states[f.name].started or states[f.name].updated, reverse=True)


def damaged_runs(root: str | Path | None = None) -> dict[str, str]:
    """Return the names of damaged run folders under ``root``, with the reasons."""
    return dict(item for item in _scan(root) if not isinstance(item, RunFolder))


def remove_killed_imports(root: Path) -> None:
    """Delete what killed imports left behind."""
    for path in root.glob(f"{STAGING}*"):
        if not (path / LOCK).exists():
            with suppress(OSError):  # it has its lock by now; an import that finds no folder makes another one
                path.rmdir()
        elif not is_locked(path / LOCK):
            shutil.rmtree(path, ignore_errors=True)


def find_run(name: str, root: str | Path | None = None) -> RunFolder:
    """Return the run of this name under ``root``, or the example that ships with shpeft; a name is never a path.

    Args:
        name: the name of the run.
        root: the folder of runs, ``runs_root()`` by default.

    Raises:
        RunError: there is no such run (the message lists the others), it is damaged, or the name is not allowed.

    Examples:
        >>> import tempfile
        >>> import shpeft
        >>> with tempfile.TemporaryDirectory() as root:
        ...     created = shpeft.RunFolder.create(f"{root}/first", shpeft.RunConfig())
        ...     print(find_run("first", root), [run.name for run in list_runs(root)])
        ...     created.discard()
        RunFolder(first) ['first']
    """
    root = Path(root or runs_root())
    path = root / checked_name(name)
    if not path.is_dir() and name == EXAMPLE and (example := example_run()) is not None:
        return example
    if not path.is_dir():
        names = [run.name for run in list_runs(root)]
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        others = f"There are {', '.join(names[:MOST_NAMES])}{more}." if names else "There is no other either."
        raise RunError(f"There is no run called {name}; it may have been renamed or deleted. {others}")
    return RunFolder.open(path)


def example_run() -> RunFolder | None:
    """Return the example that ships with shpeft; None if the installation lacks it."""
    path = example_path()
    return None if path is None else RunFolder.open(path)


def new_run(config: RunConfig, root: str | Path | None = None, name: str = "") -> RunFolder:
    """Create a run folder under ``root``, by default named like ``2026-11-23_fundus_1``.

    Raises:
        RunError: the name is taken, or has other characters than letters, digits, dot, dash and underscore; spaces
            become underscores.
    """
    root = Path(root or runs_root())
    if name:
        return RunFolder.create(root / checked_name(joined_words(name)), config)
    stem = f"{time.strftime('%Y-%m-%d')}_{slug(config.dataset.source)}"
    return RunFolder.create(root / _numbered(stem, root, 1), config)


def rename_run(folder: RunFolder, name: str) -> RunFolder:
    """Rename a run, and return its folder under the new name.

    Raises:
        RunError: the name is taken or not allowed, or another process works on the run.
    """
    path = folder.path.with_name(checked_name(joined_words(name)))
    if path == folder.path:
        return folder
    if path.exists():
        raise RunError(f"There is a run called {name} already. Choose another name.")
    try:
        folder.move(path)
    except OSError as error:
        raise RunError(f"The run {folder.name} cannot be renamed: {error.strerror or error}.") from None
    return RunFolder.open(path)


def free_name(name: str, root: Path) -> str:
    """Return the name, with a number like ``busi_2`` if it is taken under ``root``."""
    return _numbered(name, root, 2) if (root / name).exists() else name


def _numbered(stem: str, root: Path, number: int) -> str:
    while (root / f"{stem}_{number}").exists():
        number += 1
    return f"{stem}_{number}"


def joined_words(name: str) -> str:
    """Return a name as people type it with ``_`` for the spaces.

    Examples:
        >>> joined_words(" breast ultrasound ")
        'breast_ultrasound'
    """
    return "_".join(name.split())


def checked_name(name: str) -> str:
    """Return the name if it is safe as a folder's name.

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
    """Yield every run folder under ``root``, or its name and the reason why it cannot be opened."""
    root = Path(root or runs_root())
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir() or not (path / "config.yaml").exists():
            continue
        if not (path / "state.json").exists() and is_locked(path / ".lock"):
            continue  # being created by another process
        try:
            yield RunFolder.open(path)
        except RunError as error:
            yield path.name, str(error)


def slug(source: str) -> str:
    """Return a short name of a dataset for a folder: ``phantom:fundus?n=90`` -> ``fundus``."""
    name = Path(re.split(r"[?@=]", source.split(":", 1)[-1])[0]).name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
