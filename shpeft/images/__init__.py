"""Read images of any kind as pixels, and turn pixels into the inputs of a model."""

from shpeft.images.acquisition import CODES_OF_DATASETS, MODALITIES, UNKNOWN, Acquisition
from shpeft.images.decoding import CT_WINDOWS, DECODER_VERSION, Decoding
from shpeft.images.facts import NO_FACTS, Facts
from shpeft.images.pixels import Pixels, View
from shpeft.images.reading import (
    DEFAULT_DECODING,
    FORMATS,
    SUFFIXES,
    ImageSource,
    looks_like_image,
    open_image,
    open_pixels,
    read_facts,
)
from shpeft.images.transform import InputTransform

__all__ = [
    "Acquisition",
    "CODES_OF_DATASETS",
    "MODALITIES",
    "DEFAULT_DECODING",
    "CT_WINDOWS",
    "DECODER_VERSION",
    "FORMATS",
    "NO_FACTS",
    "SUFFIXES",
    "UNKNOWN",
    "Decoding",
    "Facts",
    "ImageSource",
    "InputTransform",
    "Pixels",
    "View",
    "looks_like_image",
    "open_image",
    "open_pixels",
    "read_facts",
]
