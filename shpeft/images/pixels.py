"""An image's values as its file keeps them, before a window makes 8 bits of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shpeft.images.decoding import extent, to_8_bits


@dataclass(frozen=True, eq=False)
class Table:
    """A lookup table: the stored value of the first entry, the entries, and the largest value that they may have."""

    first: int
    entries: np.ndarray
    top: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values beyond an end take that end's entry. What is not a number stays so."""
        finite = np.isfinite(values)
        position = np.rint(np.where(finite, values, self.first)).astype(np.int64) - self.first
        found = self.entries[np.clip(position, 0, len(self.entries) - 1)].astype(np.float64)
        return np.where(finite, found, np.nan)


@dataclass(frozen=True)
class View:
    """A way to show values in the file's units: linear between black and white, after a function where there is one.

    Attributes:
        low, high: what is black and what is white: values, or results of the function.
        integers: its centre and width are those of DICOM's LINEAR (PS3.3 C.11.2.1.2.1), whose width counts both ends:
            high − low + 1. Else, as in LINEAR_EXACT, the width is high − low.
        sigmoid: centre and width of DICOM's function of that name (C.11.2.1.3.1).
        table: a VOI LUT (C.11.2.1.1).
    """

    low: float
    high: float
    integers: bool = False
    sigmoid: tuple[float, float] | None = None
    table: Table | None = None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """What lies between ``low`` and ``high``."""
        if self.table is not None:
            return self.table(values)
        if self.sigmoid is not None:
            from scipy.special import expit

            centre, width = self.sigmoid
            return np.asarray(expit(4 * (values - centre) / width))
        return values


@dataclass(frozen=True, eq=False)
class Pixels:
    """One frame with all bits that its file has.

    Attributes:
        values: stored values (H, W) of any numeric type, or RGB (H, W, 3) of 8 or 16 bits.
        slope, intercept: from stored values to the file's units.
        blank: stored values from the first to the second are no part of the image, and black.
        inverted: the lowest value is white.
        span: the lowest and the highest value, in the file's units, that so few bits can hold; None: of more than 8
            bits, where the values that are there count. Of colours of 16 bits 0 and the highest value of any channel.
        filed: the ways that the file itself offers, its first choice first.
        asked: how a :class:`~shpeft.images.Decoding` shows it; None: over its whole range.
        hounsfield: the file's units are Hounsfield units.
        frame, frames: which one this is, counted from 0, and how many there are.
    """

    values: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    blank: tuple[float, float] | None = None
    inverted: bool = False
    span: tuple[float, float] | None = None
    filed: tuple[View, ...] = ()
    asked: View | None = None
    hounsfield: bool = False
    frame: int = 0
    frames: int = 1

    @property
    def colour(self) -> bool:
        """Whether these are colours."""
        return self.values.ndim == 3

    def units(self, block: np.ndarray) -> np.ndarray:
        """Stored values in the file's units, in double precision; what is blank becomes not a number."""
        shown = block.astype(np.float64)
        if (self.slope, self.intercept) != (1, 0):
            shown = shown * self.slope + self.intercept
        if self.blank is not None:
            shown = np.where((block >= self.blank[0]) & (block <= self.blank[1]), np.nan, shown)
        return shown

    @cached_property
    def whole(self) -> View:
        """From the lowest to the highest value."""
        return View(*(self.span or extent(self.values, self.units)))

    @property
    def view(self) -> View:
        """How it is shown where nothing else is wanted, and how a model sees it."""
        return self.asked or self.whole

    def shown(self, view: View | None = None) -> np.ndarray:
        """As uint8, (H, W) or (H, W, 3): round(255 · (x − low) / (high − low)), halves to the even number."""
        if self.colour and self.values.dtype == np.uint8:
            return self.values
        how = view or self.view
        return to_8_bits(
            self.values, (how.low, how.high), units=lambda block: how(self.units(block)), inverted=self.inverted
        )

    def little_endian(self) -> tuple[str, bytes]:
        """The type of the values as NumPy calls it, and the values row by row, the lowest byte first."""
        kind = self.values.dtype
        if kind == np.bool_ or kind.itemsize > 4:  # types that a browser has, too
            kind = np.dtype(np.float64 if kind.itemsize > 4 else np.uint8)
        return kind.name, np.ascontiguousarray(self.values, dtype=kind.newbyteorder("<")).tobytes()
