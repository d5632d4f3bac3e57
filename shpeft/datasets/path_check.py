"""What a typed path holds, in a sentence before anything is loaded; each check takes less than a second."""

import os
import time
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

from shpeft.datasets import table
from shpeft.datasets.discover import discover
from shpeft.errors import DatasetError
from shpeft.images import SUFFIXES, looks_like_image
from shpeft.support.allowed_folders import is_allowed

Kind = Literal["dataset", "images", "folder", "weights"]
"""What the path should hold: images with their classes, images to diagnose, anything, or a file of weights."""

SECONDS = 0.5
"""Time to count images; a folder with more of them is not counted to the end."""

ENTRIES = 5000
"""Entries of a folder among which similar names are looked for."""

NAMED = 5
"""Names that a sentence lists."""

SOURCES = ("phantom:", "medmnist:", "recipe:")
"""Beginnings of sources that are no paths."""


@dataclass(frozen=True)
class PathCheck:
    """What is at a path.

    Attributes:
        state: ``ready`` (it holds what it should), ``incomplete`` (names begin with what is typed), or ``wrong``.
        sentence: what it holds, how it may go on, or what is wrong with it.
    """

    state: Literal["ready", "incomplete", "wrong"]
    sentence: str


def check_path(text: str, kind: Kind = "dataset") -> PathCheck:
    """Return what a typed path holds: classes and counts, or the names that it may be meant to be.

    Nothing is decoded, and nothing outside the folders that the server may read is looked at.

    Args:
        text: the path; ``~`` is the home folder. A built-in source such as ``phantom:fundus`` is ready.
        kind: what it should hold.

    Examples:
        >>> check_path("/no/such/folder").state
        'wrong'
        >>> check_path("phantom:fundus")
        PathCheck(state='ready', sentence='A built-in source.')
    """
    if kind == "dataset" and text.startswith(SOURCES):
        return PathCheck("ready", "A built-in source.")
    if not is_allowed(text):
        return PathCheck("wrong", f"{text} is outside the folders that this server may read.")
    try:
        path = Path(text).expanduser()
        if not path.exists():
            return _missing(text, path)
        if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            return PathCheck("wrong", f"{text} exists, and this user may not read it. Change its permissions.")
        return _folder(path, kind) if path.is_dir() else _file(path, kind)
    except (OSError, RuntimeError, ValueError) as error:  # an unknown home, a name that is too long, a NUL
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        return PathCheck("wrong", f"{text} cannot be read: {reason}.")


def _missing(text: str, path: Path) -> PathCheck:
    """Return how the first missing part of a path may go on, or what it may be meant to be."""
    parts = [path, *path.parents]
    parent, part = next((b, a.name) for a, b in pairwise(parts) if b.is_dir())
    missing = f"There is no file or folder {text} on this computer."
    try:
        with os.scandir(parent) as entries:
            names = sorted(entry.name for entry in islice(entries, ENTRIES) if not entry.name.startswith("."))
    except OSError:
        return PathCheck("wrong", f"{missing} Check the path.")
    begun = [name for name in names if name.startswith(part)]
    if begun and part == path.name:
        return PathCheck("incomplete", f"In {parent} begin so: {_listed(begun)}.")
    near = get_close_matches(part, names, n=NAMED) or begun
    if near:
        return PathCheck("wrong", f"{missing} Similar in {parent}: {_listed(near)}.")
    return PathCheck("wrong", f"{missing} Check the path: {parent} exists, and has no {part}.")


def _file(path: Path, kind: Kind) -> PathCheck:
    suffix, size = path.suffix.lower(), f"{path.stat().st_size / 1e6:,.1f} MB"
    if kind == "weights":
        if suffix == ".safetensors":
            return PathCheck("ready", f"A file of weights, {size}.")
        return PathCheck("wrong", f"{path.name} is no .safetensors file. Give a file of weights.")
    if kind == "images" and (suffix == ".zip" or looks_like_image(path)):
        return PathCheck("ready", f"{'A zip' if suffix == '.zip' else 'An image'}, {size}.")
    if kind == "dataset" and suffix in (*table.SUFFIXES, ".npz"):
        return PathCheck("ready", f"A table or arrays of images, {size}; it is read below.")
    expected = {
        "dataset": f"a folder or a table ({', '.join(table.SUFFIXES)})",
        "images": "a folder, a zip or an image",
        "folder": "a folder",
    }[kind]
    hint = " Save its sheet as 'CSV UTF-8'." if suffix in table.WORKBOOKS else ""
    hint = " Unpack it first." if kind != "images" and suffix == ".zip" else hint
    return PathCheck("wrong", f"{path.name} is a file, and {expected} is needed.{hint}")


def _folder(path: Path, kind: Kind) -> PathCheck:
    if kind == "weights":
        return PathCheck("incomplete", f"A folder. Its files of weights: {_listed(_names(path, '.safetensors'))}.")
    if kind == "folder":
        return PathCheck("ready", f"A folder with {len(_names(path)):,} entries.")
    if kind == "images":
        return _images(path)
    if table.tables_of(path):
        return PathCheck("ready", "A folder with a table of its images; it is read below.")
    try:
        layout = discover(path, _Deadline(time.monotonic() + SECONDS))
    except _OutOfTime as reached:
        return PathCheck(
            "ready", f"A folder with more than {reached.count:,} images in class folders; they are counted below."
        )
    except DatasetError as error:
        if folders := [
            entry.name for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")
        ]:
            return PathCheck("wrong", f"{error} Its folders: {_listed(folders)}.")
        return PathCheck("wrong", str(error))
    counts = Counter(file.label for file in layout.files)
    splits = Counter(file.split for file in layout.files)
    classes = ", ".join(f"{name} ({counts[name]:,})" for name in layout.classes[:NAMED])
    more = f" and {len(layout.classes) - NAMED} more" if len(layout.classes) > NAMED else ""
    by_split = f" {', '.join(f'{splits[name]:,} {name}' for name in layout.splits)}." if len(layout.splits) > 1 else ""
    return PathCheck(
        "ready", f"{len(layout.files):,} images of {len(layout.classes)} classes: {classes}{more}.{by_split}"
    )


def _images(path: Path) -> PathCheck:
    """Return how many images are below a folder."""
    until, count = time.monotonic() + SECONDS, 0
    for home, _, names in os.walk(path):
        count += sum(Path(name).suffix.lower() in SUFFIXES for name in names)
        if not count and names and looks_like_image(Path(home, names[0])):  # DICOM of any name
            return PathCheck("ready", "A folder with images.")
        if time.monotonic() > until:
            return PathCheck("ready", f"A folder with at least {count:,} images.")
    if count:
        return PathCheck("ready", f"A folder with {count:,} image{'s' * (count != 1)}.")
    return PathCheck("wrong", f"There are no images in {path}. Its entries: {_listed(_names(path))}.")


class _OutOfTime(Exception):
    """Raised when images are counted for too long."""

    def __init__(self, count: int) -> None:
        self.count = count


class _Deadline:
    """A progress callback that raises at a time of ``time.monotonic``."""

    def __init__(self, until: float) -> None:
        self.until = until

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() > self.until:
            raise _OutOfTime(done)


def _names(path: Path, suffix: str = "") -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in islice(entries, ENTRIES) if entry.name.endswith(suffix))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED]) or "none"
    return shown + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
