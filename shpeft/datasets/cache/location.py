"""The location of the cache, and the versions on which its pixels depend."""

import hashlib
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from PIL import features
from platformdirs import user_cache_path

from shpeft.datasets.duplicates import HASH_VERSION
from shpeft.images import DECODER_VERSION

VARIABLE = "SHPEFT_CACHE"
"""Environment variable that names another folder, or turns the cache off."""

OFF = "off"

LIBRARIES = ("pillow", "numpy", "pydicom", "python-gdcm", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
CODECS = ("jpg", "jpg_2000", "zlib", "libtiff", "webp")


def cache_folder() -> Path | None:
    """Return the cache's folder, which need not exist, or None if the cache is turned off.

    The folder is ``$SHPEFT_CACHE``, else the platform's cache folder of the user: ``$XDG_CACHE_HOME/shpeft`` or
    ``~/.cache/shpeft`` on Linux, ``~/Library/Caches/shpeft`` on macOS, ``%LOCALAPPDATA%\\shpeft`` on Windows. Caches of
    earlier versions on Linux and Windows are in the same folders and stay in use; on macOS they were in
    ``~/.cache/shpeft``, which is no longer read and may be deleted.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == OFF:
        return None
    if named:
        return Path(named).expanduser().absolute()
    return user_cache_path("shpeft", appauthor=False, opinion=False)


@cache
def decoder_digest() -> bytes:
    """Return a digest of what decides the pixels of a file: the decoder's version, the libraries and the machine type.

    Cached pixels are keyed by it, so a new version of a library that decodes makes them unused.
    """
    digest = hashlib.blake2b(platform.machine().encode(), digest_size=16)
    digest.update(f"decoder {DECODER_VERSION}, hash {HASH_VERSION}\n".encode())
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
