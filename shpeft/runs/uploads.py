"""Images and weights that were uploaded: a private folder beside the runs, deleted with the last run that uses it."""

import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from shpeft.errors import DatasetError
from shpeft.runs.owner import Account, may_change, write_owner
from shpeft.support.allowed_folders import UPLOADS, upload_of
from shpeft.support.safe_zip import check_count, escapes, is_hidden, members

CONTENT = "images"
"""What was uploaded, in the folder of an upload, beside whose it is."""

FORGOTTEN = 24 * 3600.0
"""Seconds after which an upload that no run uses is deleted."""

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")

_TOKEN = re.compile(rf"{re.escape(UPLOADS)}[/\\]+([0-9a-f]{{12}})")


def save_upload(files: Iterable[tuple[str, IO[bytes]]], root: Path, account: Account | None = None) -> Path:
    """Store uploaded files under ``root`` and return the folder or the file that a run can use.

    A zip is unpacked. Folders that hold nothing but one folder are skipped, so the result is the folder whose folders
    are the classes or the splits.

    Args:
        files: relative name and content of each file.
        root: the folder of runs.
        account: whose it is, in an app with accounts.

    Raises:
        DatasetError: there is no file, a name leads out of the folder, a zip is refused or damaged, or the disk is
            full; nothing is left behind.
    """
    uploads = root / UPLOADS
    folder = uploads / secrets.token_hex(6)
    try:
        root.mkdir(parents=True, exist_ok=True)
        uploads.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        write_owner(folder, account)
        content_folder = folder / CONTENT
        content_folder.mkdir(mode=0o700)
        for count, (name, content) in enumerate(files, 1):
            check_count(count, DatasetError)
            if name.lower().endswith(".zip"):
                _unpack(content, content_folder / (PurePosixPath(name).stem or "images"))
            else:
                _write(content, content_folder, name)
        return _innermost(content_folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DatasetError(
            f"The upload cannot be stored: {error.strerror or 'the system refuses it'}. Free some space, or give the "
            "path of a folder on this computer, which is read where it is."
        ) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_may_see(source: str | Path, account: Account | None) -> None:
    """Check that a source of images is not what another account dropped on the pages.

    A model that was trained on them may be used; the images are their owner's and administrators' to see.

    Args:
        source: a path, or any other source of a dataset.
        account: who asks; None without accounts.

    Raises:
        DatasetError: it is.

    Examples:
        >>> check_may_see("phantom:fundus", Account("0123456789abcdef"))
        >>> check_may_see("/runs/.uploads/0123456789ab/images", Account("0123456789abcdef"))
        Traceback (most recent call last):
        ...
        shpeft.errors.DatasetError: Another account dropped these images: you can use its models, not see its images.
    """
    text = str(source)
    upload = upload_of(text.partition("=")[2].strip() if text.startswith("recipe:") else text)
    if upload is not None and not may_change(upload, account):
        raise DatasetError("Another account dropped these images: you can use its models, not see its images.")


def delete_unused_uploads(root: Path, formerly: Sequence[str] = ()) -> None:
    """Delete the uploads that no run uses, also none in the trash.

    Args:
        root: the folder of runs.
        formerly: configurations of runs that are gone: their uploads are deleted now, others after a day.
    """
    uploads = root / UPLOADS
    if not uploads.is_dir():
        return
    used = {token for text in _configurations(root) for token in _TOKEN.findall(text)}
    freed = {token for text in formerly for token in _TOKEN.findall(text)}
    for folder in uploads.iterdir():
        old = time.time() - folder.stat().st_mtime > FORGOTTEN
        if folder.name not in used and (old or folder.name in freed):
            shutil.rmtree(folder, ignore_errors=True)


def _configurations(root: Path) -> Iterator[str]:
    for path in (*root.glob("*/config.yaml"), *root.glob(".trash/*/config.yaml")):
        with suppress(OSError):
            yield path.read_text(encoding="utf-8", errors="replace")


def configuration_text(folder: Path) -> str:
    """Return the text of a run's configuration; empty if it cannot be read."""
    try:
        return (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _unpack(content: IO[bytes], folder: Path) -> None:
    try:
        with zipfile.ZipFile(content) as archive:
            for info in members(archive, DatasetError):
                with archive.open(info) as member:
                    _write(member, folder, info.filename)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        raise DatasetError("The upload is not a zip file, or it is damaged. Create it again.") from None


def _write(content: IO[bytes], folder: Path, name: str) -> None:
    name = name.replace("\\", "/")
    if escapes(name):
        raise DatasetError("A file of the upload has a name that leads out of its folder. Rename it.")
    if any(map(is_hidden, name.split("/"))):
        return
    path = os.path.join(folder, name)  # an upload may have very many files
    with open(_created(path), "wb") as file:
        shutil.copyfileobj(content, file)


def _created(path: str) -> int:
    """Create a private file, with its folder where that is missing, and return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o600)


def _innermost(folder: Path) -> Path:
    """Return the file that was uploaded alone, or the outermost folder that is more than a wrapper of another one."""
    if not (entries := list(folder.iterdir())):
        raise DatasetError("The upload holds no files. Choose a folder or a zip with images.")
    inner, *others = entries
    if others or inner.is_file():
        return folder if others else inner
    folder = inner
    while len(entries := list(folder.iterdir())) == 1 and entries[0].is_dir() and _is_more_than_a_class(entries[0]):
        folder = entries[0]
    return folder


def _is_more_than_a_class(folder: Path) -> bool:
    """Return whether a folder holds folders or a table."""
    return any(entry.is_dir() or entry.suffix.lower() in TABLES for entry in folder.iterdir())
