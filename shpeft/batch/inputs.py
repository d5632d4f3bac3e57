"""List the images of folders, zips and single files in a fixed order; they are read one at a time, never unpacked.

Zips are untrusted: paths that lead out of them, links, encryption, nested archives, and excessive sizes or counts are
refused before any member is read.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from shpeft.errors import DiagnosisError, UnreadableImage, with_file_notes
from shpeft.images import SUFFIXES, looks_like_image
from shpeft.images.dicom_header import is_dicom
from shpeft.images.reading import HEAD
from shpeft.images.series import referenced_files
from shpeft.support.allowed_folders import check_allowed
from shpeft.support.bounded_files import read_regular_file
from shpeft.support.limits import IMAGE_BYTES
from shpeft.support.progress import Progress, silent
from shpeft.support.safe_zip import check_count, is_hidden, members

MOST_BYTES = IMAGE_BYTES
"""Most bytes of one file, which is read into memory."""

INDEXES = ("DICOMDIR",)
"""DICOM files without an image."""


@dataclass(frozen=True)
class Entry:
    """One file: its name for the user, and a function that reads its bytes or raises UnreadableImage."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """The images of a batch.

    Attributes:
        entries: the images, by source and name.
        others: number of files that are not images.
    """

    entries: tuple[Entry, ...]
    others: int = 0

    @property
    def cases(self) -> tuple[Entry, ...]:
        """Each image is a case; :func:`shpeft.batch.by_series` makes one of the files of a series."""
        return self.entries


@contextmanager
def open_source(sources: Sequence[str | Path | bytes], progress: Progress = silent) -> Iterator[Source]:
    """List the images in folders, zips and single files; zips are open inside the ``with`` block.

    Args:
        sources: paths, or the bytes of a zip.
        progress: called with the number of files examined.

    Raises:
        DiagnosisError: a path does not exist, a zip is damaged or refused, or there is no image.
    """
    with ExitStack() as stack:
        images, others = list[Entry](), 0
        for source in sources:
            entries, rest = _images_in(source, stack, progress)
            single_file = [entry.name for entry in entries] == [str(source)]
            if len(sources) > 1 and not isinstance(source, bytes) and not single_file:
                entries = [replace(entry, name=f"{source}/{entry.name}") for entry in entries]
            images += entries
            others += rest
        if not images:
            raise DiagnosisError(
                f"None of the {others:,} files is an image. PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 "
                "and DICOM are read."
            )
        yield Source(tuple(images), others)


def _images_in(source: str | Path | bytes, stack: ExitStack, progress: Progress) -> tuple[list[Entry], int]:
    """Return the images of one source, and the number of other files."""
    if isinstance(source, bytes):
        return _in_zip(io.BytesIO(source), stack, progress)
    path = Path(source)
    check_allowed(path, DiagnosisError)
    if path.is_dir():
        return _in_folder(path, progress)
    if not path.exists():
        sentence = "A file or folder does not exist. Check its path."
        raise with_file_notes(DiagnosisError(sentence), [(str(path), "it does not exist")])
    if path.suffix.lower() == ".zip":
        return _in_zip(path, stack, progress)
    if path.name in INDEXES:
        return _in_index(path)
    return [Entry(str(path), partial(_read_file, path))], 0


# -- folders


def _in_folder(folder: Path, progress: Progress) -> tuple[list[Entry], int]:
    """List the images of a folder and its subfolders, without hidden files and without following links."""
    paths = list[Path]()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        paths += [Path(root, name) for name in files if not is_hidden(name)]
        progress("looking for images", len(paths), 0)
        check_count(len(paths), DiagnosisError)
    entries = list[Entry]()
    names = sorted((path.relative_to(folder).as_posix(), path) for path in paths)
    for number, (name, path) in enumerate(names):
        progress("looking for images", number, len(names))
        if path.name not in INDEXES and looks_like_image(path):
            entries.append(Entry(name, partial(_read_file, path)))
    return entries, len(paths) - len(entries)


def _in_index(path: Path) -> tuple[list[Entry], int]:
    """List the images that a DICOMDIR names, in its order."""
    try:
        names = referenced_files(_read_file(path))
    except UnreadableImage as error:
        raise DiagnosisError(str(error)) from None
    check_count(len(names), DiagnosisError)
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise DiagnosisError(
            f"{len(missing):,} of the {len(names):,} files that the DICOMDIR lists are missing. Copy the whole disc."
        )
    entries = [Entry(name, partial(_read_file, path.parent / name)) for name in names]
    images = [entry for entry in entries if looks_like_image(path.parent / entry.name)]
    return images, len(entries) - len(images)


def _read_file(path: Path) -> bytes:
    try:
        return read_regular_file(path, MOST_BYTES)
    except ValueError as error:
        raise UnreadableImage(f"The file is not read: {error}.") from None
    except OSError as error:
        raise UnreadableImage(f"The file cannot be read: {error.strerror or 'the system refuses it'}.") from None


# -- zips


def _in_zip(file: io.BytesIO | Path, stack: ExitStack, progress: Progress) -> tuple[list[Entry], int]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise DiagnosisError("The upload is not a zip file, or it is damaged. Create it again.") from None
    infos = members(archive, DiagnosisError)
    entries = list[Entry]()
    for number, info in enumerate(infos):
        progress("looking for images", number, len(infos))
        path = PurePosixPath(info.filename)
        if path.name not in INDEXES and (path.suffix.lower() in SUFFIXES or is_dicom(_head(archive, info))):
            entries.append(Entry(info.filename, partial(_read_member, archive, info)))
    return entries, len(infos) - len(entries)


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(HEAD)
    except Exception:  # damaged members raise anything; they are not images
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
