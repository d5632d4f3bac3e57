"""An image file becomes RGB pixels, and RGB pixels become a model's input."""

from shpeft.images.decoding import CT_WINDOWS, Decoding
from shpeft.images.pixels import Pixels, View
from shpeft.images.reading import AS_FILED, FORMATS, SUFFIXES, ImageSource, looks_like_image, open_image, open_pixels
from shpeft.images.transform import InputTransform

__all__ = [
    "AS_FILED",
    "CT_WINDOWS",
    "FORMATS",
    "SUFFIXES",
    "Decoding",
    "ImageSource",
    "InputTransform",
    "Pixels",
    "View",
    "looks_like_image",
    "open_image",
    "open_pixels",
]
