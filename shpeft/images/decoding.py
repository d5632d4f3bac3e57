"""Options for reading an image: the window that maps values to gray, and the frame."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shpeft.errors import ConfigError, did_you_mean

DECODER_VERSION = 2
"""Version of the pixels that this package makes of files. Raise it with every change that changes a pixel: caches of
decoded pixels are keyed by it, and ``tests/images/test_golden.py`` checks it."""

CT_WINDOWS = {
    "lung": (-1350.0, 150.0),
    "mediastinum": (-160.0, 240.0),
    "abdomen": (-160.0, 240.0),
    "liver": (-45.0, 105.0),
    "brain": (0.0, 80.0),
    "subdural": (-65.0, 215.0),
    "stroke": (12.0, 52.0),
    "bone": (-450.0, 1350.0),
}
"""Common CT windows: the values in Hounsfield units that become black and white, center ± half the width. These are
lung -600/1500, mediastinum and abdomen 40/400, liver 30/150, brain 40/80, subdural 75/280, stroke 32/40, bone
450/1800."""

RANGE = re.compile(r"(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)")

BLOCK = 2**20
"""Number of values converted to double precision at a time: 8 MiB for any size of image."""


@dataclass(frozen=True)
class Decoding:
    """The window and the frame of an image with more than 8 bits or several frames.

    Attributes:
        window: ``auto`` uses the file's own window (a DICOM's VOI LUT or window), or the full range if it has none;
            ``full`` uses the full range; ``LOW:HIGH`` and the names in ``CT_WINDOWS`` are in the file's units
            (Hounsfield units in CT). Windows do not apply to images of 8 bits, except DICOM files with a window of
            their own (for ``auto``) or with units. 16-bit colors have one window for all channels, so that they keep
            their ratios: ``full`` is from 0 to the highest value of any channel; ``auto`` of a DICOM covers all its
            stored bits.
        frame: index from 0. None: the middle frame of a DICOM; a TIFF or an animation with several frames is refused.

    Raises:
        ConfigError: the window is not valid.
    """

    window: str = "auto"
    frame: int | None = None

    def __post_init__(self) -> None:
        if self.window in ("auto", "full"):
            return
        limits = self.limits
        if limits is None:
            raise ConfigError(
                f"There is no window {self.window!r}. Use auto, full, LOW:HIGH such as -160:240, or one of "
                f"{', '.join(CT_WINDOWS)}. {did_you_mean(self.window, ['auto', 'full', *CT_WINDOWS])}"
            )
        if not limits[0] < limits[1]:
            raise ConfigError(f"The window {self.window!r} is empty: its first number must be the smaller one.")

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values that become black and white; None if they depend on the image."""
        if self.window in CT_WINDOWS:
            return CT_WINDOWS[self.window]
        match = RANGE.fullmatch(self.window)
        return (float(match[1]), float(match[2])) if match else None


Units = Callable[[np.ndarray], np.ndarray]
"""Elementwise conversion of stored values to the file's units; values to be ignored become NaN."""


def to_8_bits(
    values: np.ndarray, limits: tuple[float, float] | None = None, *, units: Units | None = None, inverted: bool = False
) -> np.ndarray:
    """Return gray values of any range as uint8.

    Args:
        values: stored values of any shape.
        limits: the values that become black and white, after ``units``; values outside are clipped. None: the smallest
            and the largest finite value.
        units: converts stored values; NaN becomes black.
        inverted: swap black and white.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    low, high = limits or extent(flat, units)
    shown = np.empty(flat.size, np.uint8)
    for offset, block in _blocks(flat, units):
        finite = np.isfinite(block)
        with np.errstate(over="ignore", invalid="ignore"):  # if all values are equal, any higher value is white
            level = np.clip((block - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
        gray = np.round(255 * np.where(finite, level, 0)).astype(np.uint8)
        shown[offset : offset + BLOCK] = np.where(finite, 255 - gray, 0) if inverted else gray
    return shown.reshape(np.shape(values))


def in_units(values: np.ndarray, units: Units) -> np.ndarray:
    """Return the values after ``units``, as float32: exact for integers of up to 24 bits."""
    flat = np.ascontiguousarray(values).reshape(-1)
    converted = np.empty(flat.size, np.float32)
    for offset, block in _blocks(flat, units):
        converted[offset : offset + BLOCK] = block
    return converted.reshape(np.shape(values))


def extent(values: np.ndarray, units: Units | None = None) -> tuple[float, float]:
    """Return the smallest and the largest finite value, or 0 and 0 if there is none."""
    low, high = np.inf, -np.inf
    for _, block in _blocks(np.ascontiguousarray(values).reshape(-1), units):
        finite = block[np.isfinite(block)]
        low, high = finite.min(initial=low), finite.max(initial=high)
    return (float(low), float(high)) if low <= high else (0.0, 0.0)


def _blocks(flat: np.ndarray, units: Units | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of the values in double precision, each with its offset."""
    for offset in range(0, flat.size, BLOCK):
        block = flat[offset : offset + BLOCK]
        yield offset, np.asarray(units(block) if units else block, dtype=np.float64)
