"""What is kept in the user's cache folder so that images are read and resized once: an index of files, and pixels.

Both are an aid to speed alone: whatever is lost, damaged or turned off is made again from the images, to the same bits.
Pixels derive from patients' images, so only their owner may read them; names of files and folders are not kept.
"""

from shpeft.datasets.cache.database import Database
from shpeft.datasets.cache.index import FileIndex, Reading, identity
from shpeft.datasets.cache.pixels import LIMIT, PixelFile, pixel_key
from shpeft.datasets.cache.place import OFF, VARIABLE, cache_folder
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
