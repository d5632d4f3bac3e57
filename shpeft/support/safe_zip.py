"""Checks of a zip from elsewhere, before any of its members is read or unpacked."""

import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from shpeft.errors import ShpeftError, with_file_notes

MOST_FILES = 100_000
"""Files in one zip or folder."""

MOST_BYTES_TOGETHER = 2**36
"""Most bytes of an unpacked zip, by its own headers."""

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".jar", ".iso")


def members(archive: zipfile.ZipFile, error: type[ShpeftError]) -> list[zipfile.ZipInfo]:
    """Return the files of a zip by name, without folders and hidden files.

    Raises:
        ShpeftError: of the class ``error``, if the zip is refused as a whole; notes have the names of its files.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    check_count(len(infos), error)
    _check_infos(infos, error)
    visible = [info for info in infos if not any(map(is_hidden, PurePosixPath(info.filename).parts))]
    return sorted(visible, key=lambda info: info.filename)


def check_count(count: int, error: type[ShpeftError]) -> None:
    """Check that there are not too many files.

    Raises:
        ShpeftError: of the class ``error``, if there are.
    """
    if count > MOST_FILES:
        raise error(f"There are more than {MOST_FILES:,} files. Give them in several parts.")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is the system's, not the user's."""
    return name.startswith(".") or name == "__MACOSX"


def escapes(name: str) -> bool:
    """Return whether a name is absolute, has a drive or contains ``..``, with the separators of any system.

    Examples:
        >>> escapes("images/1.png"), escapes("../1.png"), escapes("C:1.png")
        (False, True, True)
    """
    name = name.replace("\\", "/")
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\0" in name


def _check_infos(infos: Iterable[zipfile.ZipInfo], error: type[ShpeftError]) -> None:
    """Check a zip for unsafe members; the error has their names in notes, for the user.

    Raises:
        ShpeftError: of the class ``error``; the zip is refused as a whole.
    """
    refused: dict[str, Callable[[zipfile.ZipInfo], bool]] = {
        "names that lead out of it": lambda info: escapes(info.orig_filename),
        "links": lambda info: stat.S_ISLNK(info.external_attr >> 16),
        "encrypted files": lambda info: bool(info.flag_bits & 1),
        "archives within": lambda info: info.filename.lower().endswith(ARCHIVES),
    }
    for what, is_so in refused.items():
        if names := [info.filename for info in infos if is_so(info)]:
            sentence = f"The zip holds {what}, and such a zip is not read. Make one of plain image files."
            raise with_file_notes(error(sentence), [(name, what) for name in names])
    if sum(info.file_size for info in infos) > MOST_BYTES_TOGETHER:
        raise error(
            f"The zip unpacks to more than {MOST_BYTES_TOGETHER // 2**30} GiB. Give it in parts, or as a folder."
        )
