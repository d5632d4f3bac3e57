"""The stored values of an image, before a window reduces them to 8 bits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from shpeft.images.decoding import extent, to_8_bits
from shpeft.images.facts import KEY, NO_FACTS, Facts


@dataclass(frozen=True, eq=False)
class Table:
    """A lookup table.

    Attributes:
        first: the stored value of the first entry.
        entries: (N,) the entries.
        top: the largest value that an entry can have.
    """

    first: int
    entries: np.ndarray
    top: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Look values up; those beyond an end take that end's entry, and NaN stays NaN."""
        finite = np.isfinite(values)
        position = np.rint(np.where(finite, values, self.first)).astype(np.int64) - self.first
        looked_up = self.entries[np.clip(position, 0, len(self.entries) - 1)].astype(np.float64)
        return np.where(finite, looked_up, np.nan)


@dataclass(frozen=True)
class View:
    """A display window: gray is linear between black and white, after an optional function.

    Attributes:
        low, high: the values that are black and white, in the file's units or after the function.
        integers: the window's width is high − low + 1, as in DICOM's LINEAR (PS3.3 C.11.2.1.2.1). Otherwise it is
            high − low, as in LINEAR_EXACT.
        sigmoid: center and width of DICOM's SIGMOID function (C.11.2.1.3.1).
        table: a VOI LUT (C.11.2.1.1).
    """

    low: float
    high: float
    integers: bool = False
    sigmoid: tuple[float, float] | None = None
    table: Table | None = None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Apply the function to values in the file's units; the result is linear between ``low`` and ``high``."""
        if self.table is not None:
            return self.table(values)
        if self.sigmoid is not None:
            from scipy.special import expit

            center, width = self.sigmoid
            return np.asarray(expit(4 * (values - center) / width))
        return values


@dataclass(frozen=True, eq=False)
class Pixels:
    """One frame with all the bits of its file.

    Attributes:
        values: stored values, gray (H, W) of any numeric type or RGB (H, W, 3) of 8 or 16 bits.
        slope, intercept: units = slope · stored value + intercept.
        blank: stored values from the first to the second do not belong to the image, and are shown black.
        inverted: whether the lowest value is white.
        span: the full range in the file's units: of 8-bit values all that the bits can hold, of 16-bit colors from 0 to
            the highest value of any channel. None: the range of the values present.
        file_views: the windows in the file, its first choice first.
        requested: the window of the :class:`~shpeft.images.Decoding`. None: the full range.
        hounsfield: whether the file's units are Hounsfield units.
        frame, frames: the index of this frame, from 0, and the number of frames.
        facts: what the file states about how it was made.
    """

    values: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    blank: tuple[float, float] | None = None
    inverted: bool = False
    span: tuple[float, float] | None = None
    file_views: tuple[View, ...] = ()
    requested: View | None = None
    hounsfield: bool = False
    frame: int = 0
    frames: int = 1
    facts: Facts = NO_FACTS

    @property
    def is_color(self) -> bool:
        """Whether the values are RGB."""
        return self.values.ndim == 3

    def units(self, block: np.ndarray) -> np.ndarray:
        """Convert stored values to the file's units, in double precision; blank values become NaN."""
        shown = block.astype(np.float64)
        if (self.slope, self.intercept) != (1, 0):
            shown = shown * self.slope + self.intercept
        if self.blank is not None:
            shown = np.where((block >= self.blank[0]) & (block <= self.blank[1]), np.nan, shown)
        return shown

    @cached_property
    def full_range(self) -> View:
        """The window from the lowest to the highest value."""
        return View(*(self.span or extent(self.values, self.units)))

    @property
    def view(self) -> View:
        """The default window, through which models see the image."""
        return self.requested or self.full_range

    def to_uint8(self, view: View | None = None) -> np.ndarray:
        """Return uint8 values (H, W) or (H, W, 3): round(255 · (x − low) / (high − low)), halves to even.

        Args:
            view: the window. None: :attr:`view`. It does not apply to RGB of 8 bits.
        """
        if self.is_color and self.values.dtype == np.uint8:
            return self.values
        window = view or self.view
        return to_8_bits(
            self.values,
            (window.low, window.high),
            units=lambda block: window(self.units(block)),
            inverted=self.inverted,
        )

    def to_image(self) -> Image.Image:
        """Return the image as models see it, in RGB; ``info`` has the facts of its file."""
        image = Image.fromarray(self.to_uint8()).convert("RGB")
        image.info[KEY] = self.facts
        return image

    def little_endian(self) -> tuple[str, bytes]:
        """Return NumPy's name of the value type, and the values row by row in little-endian bytes."""
        kind = self.values.dtype
        if kind == np.bool_ or kind.itemsize > 4:  # types that a browser does not have
            kind = np.dtype(np.float64 if kind.itemsize > 4 else np.uint8)
        return kind.name, np.ascontiguousarray(self.values, dtype=kind.newbyteorder("<")).tobytes()
