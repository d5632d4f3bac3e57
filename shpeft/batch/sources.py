"""The images of folders, zips and single files, always in one order, read one at a time and never unpacked.

A zip may come from anywhere: names that lead out of it, links, encryption, archives within, and sizes or counts without
measure are refused before anything of it is read.
"""

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from shpeft.errors import DiagnosisError, UnreadableImage, named
from shpeft.images import SUFFIXES, looks_like_image
from shpeft.images.dicom_header import is_dicom
from shpeft.images.reading import HEAD
from shpeft.progress import Progress, silent

MOST_FILES = 100_000
"""Files in one zip or folder."""

MOST_BYTES = 2**29
"""Of one file: it is held in memory while it is read."""

MOST_BYTES_TOGETHER = 2**36
"""What a zip may say that its files unpack to."""

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".jar", ".iso")

INDEXES = ("DICOMDIR",)
"""DICOM files that hold no image."""


@dataclass(frozen=True)
class Entry:
    """One file: its name as the person knows it, and how to get its bytes (an UnreadableImage where that fails)."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """What is to be diagnosed.

    Attributes:
        entries: the images, by place and name.
        others: how many files were left out because they are no images.
    """

    entries: tuple[Entry, ...]
    others: int = 0


@contextmanager
def open_source(places: Sequence[str | Path | bytes], progress: Progress = silent) -> Iterator[Source]:
    """Find the images in folders and zips and among single files.

    Args:
        places: paths, or a zip's bytes.
        progress: told how many files were looked at.

    Raises:
        DiagnosisError: a place that does not exist, a zip that is damaged or refused, or no image at all.
    """
    with ExitStack() as stack:
        found, others = list[Entry](), 0
        for place in places:
            entries, rest = _found(place, stack, progress)
            if len(places) > 1 and not isinstance(place, bytes) and [entry.name for entry in entries] != [str(place)]:
                entries = [replace(entry, name=f"{place}/{entry.name}") for entry in entries]  # tells places apart
            found += entries
            others += rest
        if not found:
            raise DiagnosisError(
                f"There is no image among the {others:,} files given. PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 "
                "and DICOM are read."
            )
        yield Source(tuple(found), others)


def _found(place: str | Path | bytes, stack: ExitStack, progress: Progress) -> tuple[list[Entry], int]:
    if isinstance(place, bytes):
        return _in_zip(io.BytesIO(place), stack, progress)
    place = Path(place)
    if place.is_dir():
        return _in_folder(place, progress)
    if not place.exists():
        sentence = "A file or folder that was given does not exist. Check where it is."
        raise named(DiagnosisError(sentence), [(str(place), "it is not there")])
    if place.suffix.lower() == ".zip":
        return _in_zip(place, stack, progress)
    return [Entry(str(place), partial(_read_file, place))], 0


# -- folders


def _in_folder(folder: Path, progress: Progress) -> tuple[list[Entry], int]:
    """Images of a folder and of the folders in it; what is hidden is passed over, and links to folders, too."""
    paths = list[Path]()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        paths += [Path(place, name) for name in files if not _hidden(name)]
        progress("looking for images", len(paths), 0)
        _check_count(len(paths))
    entries = list[Entry]()
    names = sorted((path.relative_to(folder).as_posix(), path) for path in paths)
    for number, (name, path) in enumerate(names):
        progress("looking for images", number, len(names))
        if path.name not in INDEXES and looks_like_image(path):
            entries.append(Entry(name, partial(_read_file, path)))
    return entries, len(paths) - len(entries)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnreadableImage(_too_large())
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"The file cannot be read: {error.strerror or 'the system refuses it'}.") from None


# -- zips


def _in_zip(file: io.BytesIO | Path, stack: ExitStack, progress: Progress) -> tuple[list[Entry], int]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise DiagnosisError("The zip cannot be opened: it is damaged, or it is no zip. Make it again.") from None
    _check_count(len(infos))
    _check_infos(infos)
    infos = [info for info in infos if not any(map(_hidden, PurePosixPath(info.filename).parts))]
    entries = list[Entry]()
    for number, info in enumerate(sorted(infos, key=lambda info: info.filename)):
        progress("looking for images", number, len(infos))
        path = PurePosixPath(info.filename)
        if path.name not in INDEXES and (path.suffix.lower() in SUFFIXES or is_dicom(_head(archive, info))):
            entries.append(Entry(info.filename, partial(_read_member, archive, info)))
    return entries, len(infos) - len(entries)


def _check_count(count: int) -> None:
    if count > MOST_FILES:
        raise DiagnosisError(f"There are more than {MOST_FILES:,} files. Give them in several parts.")


def _check_infos(infos: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse the whole zip for what no honest one holds; the names stand in notes, for whoever gave it."""
    refused = {
        "names that lead out of it": _escapes,
        "links": lambda info: stat.S_ISLNK(info.external_attr >> 16),
        "encrypted files": lambda info: bool(info.flag_bits & 1),
        "archives within": lambda info: info.filename.lower().endswith(ARCHIVES),
    }
    for what, is_so in refused.items():
        if names := [info.filename for info in infos if is_so(info)]:
            sentence = f"The zip holds {what}, and such a zip is not read. Make one of plain image files."
            raise named(DiagnosisError(sentence), [(name, what) for name in names])
    if sum(info.file_size for info in infos) > MOST_BYTES_TOGETHER:
        raise DiagnosisError(
            f"The zip unpacks to more than {MOST_BYTES_TOGETHER // 2**30} GiB. Give it in parts, or as a folder."
        )


def _escapes(info: zipfile.ZipInfo) -> bool:
    """Absolute, with a drive, or climbing; Windows' separators count, whatever the system."""
    name = info.orig_filename.replace("\\", "/")
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\0" in name


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(HEAD)
    except Exception:  # damaged members raise anything; what cannot be told is no image
        return b""


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MOST_BYTES:
        raise UnreadableImage(_too_large())
    try:
        with archive.open(info) as file:
            return file.read(MOST_BYTES)
    except Exception:  # zlib.error, BadZipFile, EOFError, NotImplementedError for unknown compressions
        raise UnreadableImage("The file cannot be unpacked: it is damaged in the zip.") from None


def _too_large() -> str:
    return f"The file has more than {MOST_BYTES // 2**20} MiB, and such a file is not read."
