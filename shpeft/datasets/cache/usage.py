"""The cache as a whole: the index and the pixels in use, how much they hold, and how to empty them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shpeft.datasets.cache.index import FileIndex
from shpeft.datasets.cache.pixels import PixelFile
from shpeft.datasets.cache.place import OFF, VARIABLE, cache_folder
from shpeft.errors import ShpeftError


@lru_cache(maxsize=8)
def _index_in(folder: Path) -> FileIndex:
    return FileIndex(folder)


@lru_cache(maxsize=8)
def _pixels_in(folder: Path) -> PixelFile:
    return PixelFile(folder)


def file_index() -> FileIndex | None:
    """The index of this process; None where the cache is turned off."""
    folder = cache_folder()
    return None if folder is None else _index_in(folder)


def pixel_file() -> PixelFile | None:
    """The pixels on disk of this process; None where the cache is turned off."""
    folder = cache_folder()
    return None if folder is None else _pixels_in(folder)


@dataclass(frozen=True)
class Usage:
    """What the cache holds.

    Attributes:
        folder: where it is; None where it is turned off.
        index_bytes, pixel_bytes: the size on disk of what is known of files, and of pixels.
        limit: bytes of pixels, at most.
        files, images: how many files are known and how many images' pixels are kept; None where they were not counted.
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
    """What the cache holds at present; nothing is made where there is none. Counting may wait for whoever writes."""
    index, pixels = file_index(), pixel_file()
    if index is None or pixels is None:
        return Usage(None)
    known, kept = index.database.path, pixels.database.path
    return Usage(
        known.parent,
        _bytes(known),
        _bytes(kept),
        pixels.limit,
        len(index) if count and known.exists() else None,
        len(pixels) if count and kept.exists() else None,
    )


def clear_cache() -> None:
    """Forget all files and all pixels, and give the space on disk back.

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
