"""The cache on disk, so that images are read and resized only once: an index of files, and their pixels.

It affects speed alone: whatever is lost, damaged or turned off is computed again from the images, to the same bits.
Pixels derive from patients' images, so only their owner may read them. Names of files and folders are not stored.
"""

from shpeft.datasets.cache.database import Database
from shpeft.datasets.cache.index import FileIndex, Reading, identity
from shpeft.datasets.cache.location import OFF, VARIABLE, cache_folder
from shpeft.datasets.cache.pixels import LIMIT, PixelFile, pixel_key
from shpeft.datasets.cache.usage import Usage, clear_cache, file_index, pixel_file, usage

__all__ = [
    "LIMIT",
    "OFF",
    "VARIABLE",
    "Database",
    "FileIndex",
    "PixelFile",
    "Reading",
    "Usage",
    "cache_folder",
    "clear_cache",
    "file_index",
    "identity",
    "pixel_file",
    "pixel_key",
    "usage",
]
