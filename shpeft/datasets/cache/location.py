"""Where the cache is, and what the pixels that it holds depend on besides the files."""

import hashlib
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from PIL import features

import shpeft.images
from shpeft.datasets import duplicates

VARIABLE = "SHPEFT_CACHE"
"""The environment variable that names another folder, or turns the cache off."""

OFF = "off"

LIBRARIES = ("pillow", "numpy", "pydicom", "python-gdcm", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
CODECS = ("jpg", "jpg_2000", "zlib", "libtiff", "webp")


def cache_folder() -> Path | None:
    """The folder, which need not exist; None where the cache is turned off."""
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == OFF:
        return None
    if named:
        return Path(named).expanduser().absolute()
    usual = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "shpeft"


@cache
def reader() -> bytes:
    """A digest of what turns a file into pixels: the code that does, and the versions of what it calls.

    Of code, not of a number that somebody has to remember to count up.
    """
    digest = hashlib.blake2b(platform.machine().encode(), digest_size=16)
    code = [*sorted(Path(shpeft.images.__file__).parent.rglob("*.py")), Path(duplicates.__file__)]
    for path in code:
        digest.update(path.read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    for codec in CODECS:
        digest.update(f"{codec} {features.version(codec)}\n".encode())
    return digest.digest()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"
