"""Runs that others share: a folder that ``shpeft export --to hub`` wrote, or a repository of the model hub with it."""

import shutil
import tempfile
from pathlib import Path

from shpeft.errors import RunError
from shpeft.runs.folder import RunFolder
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import read_regular_file
from shpeft.support.limits import RUN_FILE_BYTES

SHARED_FILES = (
    "environment.json",
    "metrics.json",
    "trust.json",
    "novelty.safetensors",
    "delta.safetensors",
    "README.md",
)
"""Files of a run that a shared folder holds as they are; none has a case of its own."""

LOCAL, HUB = "local-dir:", "hf-hub:"


def is_shared(source: str) -> bool:
    """Return whether this names a shared folder: ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``.

    Examples:
        >>> is_shared("hf-hub:owner/name"), is_shared("runs/first")
        (True, False)
    """
    return source.startswith((LOCAL, HUB))


def open_shared(source: str) -> RunFolder:
    """Open a shared folder; one of the model hub is downloaded, or read from the cache of this computer.

    Args:
        source: ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME[@REVISION]``.

    Raises:
        RunError: it is no shared folder of a run.
        WeightsUnavailable: the repository is not in the cache, and cannot be downloaded.
    """
    if source.startswith(LOCAL):
        return RunFolder.open(source.removeprefix(LOCAL))
    from shpeft.backbones.hub import download_files
    from shpeft.datasets.cache import cache_folder

    repository = source.removeprefix(HUB)
    names = ("config.yaml", "state.json", *SHARED_FILES)
    snapshot = download_files(repository, names)
    if not (snapshot / "config.yaml").exists() or not (snapshot / "delta.safetensors").exists():
        raise RunError(f"{source} holds no run of shpeft: it has no config.yaml or no delta.safetensors.")
    cache = cache_folder() or Path(tempfile.mkdtemp(prefix="shpeft-hub-"))
    folder = cache / "hub" / repository.replace("/", "--").replace("@", "--")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (snapshot / name).exists():
                write_atomic(folder / name, read_regular_file(snapshot / name, RUN_FILE_BYTES))
            else:
                (folder / name).unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"{source} cannot be read: {error}.") from None
    return RunFolder.open(folder)
