"""How values of more than 8 bits become grey, and which frame of several is taken."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shpeft.errors import ConfigError, did_you_mean

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
"""Usual windows of computed tomography, lowest and highest shown value in Hounsfield units (centre ± half the width):
lung -600/1500, mediastinum and abdomen 40/400, liver 30/150, brain 40/80, subdural 75/280, stroke 32/40, bone
450/1800."""

RANGE = re.compile(r"(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)")

BLOCK = 2**20
"""How many values are held in double precision at a time: 8 MiB, whatever the image's size."""


@dataclass(frozen=True)
class Decoding:
    """What to show of an image that has more than 8 bits or one frame.

    Attributes:
        window: ``auto`` is what the file itself asks for (a DICOM's VOI LUT or window), and the full range of its
            values where it asks for nothing; ``full`` is the full range; ``LOW:HIGH`` and the names of ``CT_WINDOWS``
            are in the file's own units (Hounsfield units in CT). Images of 8 bits are shown as they are, unless they
            are DICOM files with a window (heeded by ``auto``) or with units (to which any window applies). Colours of
            16 bits have one window for all channels, in ``full`` from 0 to the highest value of any, so that they keep
            their ratios; a DICOM's ``auto`` is all its stored bits.
        frame: counted from 0. None: the middle one of a DICOM, the first of an animation or a TIFF.

    Raises:
        ConfigError: a window that is none.
    """

    window: str = "auto"
    frame: int | None = None

    def __post_init__(self) -> None:
        if self.window in ("auto", "full"):
            return
        limits = self.limits
        if limits is None:
            raise ConfigError(
                f"There is no window {self.window!r}. Give auto, full, LOW:HIGH such as -160:240, or one of "
                f"{', '.join(CT_WINDOWS)}. {did_you_mean(self.window, ['auto', 'full', *CT_WINDOWS])}"
            )
        if not limits[0] < limits[1]:
            raise ConfigError(f"The window {self.window!r} is empty: its first number must be the smaller one.")

    @property
    def limits(self) -> tuple[float, float] | None:
        """The lowest and the highest value that are told apart; None where the image decides."""
        if self.window in CT_WINDOWS:
            return CT_WINDOWS[self.window]
        found = RANGE.fullmatch(self.window)
        return (float(found[1]), float(found[2])) if found else None


Units = Callable[[np.ndarray], np.ndarray]
"""Stored values to values in the file's units, each by itself; what is to be left out becomes not a number."""


def to_8_bits(
    values: np.ndarray, limits: tuple[float, float] | None = None, *, units: Units | None = None, inverted: bool = False
) -> np.ndarray:
    """Grey values of any range as uint8: from ``limits``, or from their smallest to their largest finite value.

    Values outside the limits become black or white, swapped if ``inverted``. What is not a number becomes black. The
    limits are in the units that ``units`` gives to the values.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    low, high = limits or extent(flat, units)
    shown = np.empty(flat.size, np.uint8)
    for start, block in _blocks(flat, units):
        finite = np.isfinite(block)
        with np.errstate(over="ignore", invalid="ignore"):  # all values alike: any that is higher is white
            level = np.clip((block - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
        grey = np.round(255 * np.where(finite, level, 0)).astype(np.uint8)
        shown[start : start + BLOCK] = np.where(finite, 255 - grey, 0) if inverted else grey
    return shown.reshape(np.shape(values))


def in_units(values: np.ndarray, units: Units) -> np.ndarray:
    """All values in the units that ``units`` gives, as float32: exact for whole numbers of up to 24 bits."""
    flat = np.ascontiguousarray(values).reshape(-1)
    found = np.empty(flat.size, np.float32)
    for start, block in _blocks(flat, units):
        found[start : start + BLOCK] = block
    return found.reshape(np.shape(values))


def extent(values: np.ndarray, units: Units | None = None) -> tuple[float, float]:
    """The smallest and the largest finite value; 0 and 0 where there is none."""
    low, high = np.inf, -np.inf
    for _, block in _blocks(np.ascontiguousarray(values).reshape(-1), units):
        finite = block[np.isfinite(block)]
        low, high = finite.min(initial=low), finite.max(initial=high)
    return (float(low), float(high)) if low <= high else (0.0, 0.0)


def _blocks(flat: np.ndarray, units: Units | None) -> Iterator[tuple[int, np.ndarray]]:
    """The values in double precision, some at a time, each with the position of its first."""
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        yield start, np.asarray(units(block) if units else block, dtype=np.float64)
