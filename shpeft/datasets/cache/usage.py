"""The cache as a whole: its databases, its size, and how to empty it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shpeft.datasets.cache.index import FileIndex
from shpeft.datasets.cache.location import OFF, VARIABLE, cache_folder
from shpeft.datasets.cache.pixels import PixelFile
from shpeft.errors import ShpeftError


@lru_cache(maxsize=8)
def _index_in(folder: Path) -> FileIndex:
    return FileIndex(folder)


@lru_cache(maxsize=8)
def _pixels_in(folder: Path) -> PixelFile:
    return PixelFile(folder)


def file_index() -> FileIndex | None:
    """Return the file index of this process, or None if the cache is turned off."""
    folder = cache_folder()
    return None if folder is None else _index_in(folder)


def pixel_file() -> PixelFile | None:
    """Return the pixel cache on disk of this process, or None if the cache is turned off."""
    folder = cache_folder()
    return None if folder is None else _pixels_in(folder)


@dataclass(frozen=True)
class Usage:
    """The contents of the cache.

    Attributes:
        folder: its folder; None if the cache is turned off.
        index_bytes, pixel_bytes: sizes on disk of the file index and of the pixels.
        limit: maximum bytes of pixels.
        files, images: numbers of known files and of images with cached pixels; None if they were not counted.
    """

    folder: Path | None
    index_bytes: int = 0
    pixel_bytes: int = 0
    limit: int = 0
    files: int | None = None
    images: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.index_bytes + self.pixel_bytes


def usage(*, count: bool = False) -> Usage:
    """Return the contents of the cache, without creating one; counting may wait for a writing process."""
    index, pixels = file_index(), pixel_file()
    if index is None or pixels is None:
        return Usage(None)
    index_path, pixel_path = index.database.path, pixels.database.path
    return Usage(
        index_path.parent,
        _bytes(index_path),
        _bytes(pixel_path),
        pixels.limit,
        len(index) if count and index_path.exists() else None,
        len(pixels) if count and pixel_path.exists() else None,
    )


def clear_cache() -> None:
    """Delete all files and pixels from the cache, and free their space on disk.

    Raises:
        ShpeftError: another process is writing, or the files cannot be written.
    """
    index, pixels = file_index(), pixel_file()
    if index is None or pixels is None:
        raise ShpeftError(f"The cache is turned off: {VARIABLE} is '{OFF}'. Without that variable it can be emptied.")
    pixels.drop_pending()
    failed = [part.database.path for part in (pixels, index) if not part.database.clear()]
    if failed:
        raise ShpeftError(
            f"The cache in {failed[0].parent} cannot be emptied now: another run is writing to it, or this user may not"
            " write there. Try again when no run is under way, or delete the folder."
        )


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
