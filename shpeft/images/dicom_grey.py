"""Stored values of a DICOM image become grey or colour of 8 bits: PS3.3 C.11.1, C.11.2 and C.7.6.3.1.

Each transformation maps every value by itself, so that :func:`shpeft.images.decoding.to_8_bits` can go through a large
image in blocks. Lookup is our own: pydicom's wraps around in tables of more than 256 entries of 8 bits.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shpeft.images.decoding import Decoding, Units, to_8_bits
from shpeft.images.dicom_header import functional_group

if TYPE_CHECKING:
    from pydicom import Dataset

COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
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


def grey(values: np.ndarray, tags: "Dataset", frame: int, decoding: Decoding) -> np.ndarray:
    """Stored grey values (H, W) as uint8 (H, W)."""
    rescaling = functional_group(tags, frame, "PixelValueTransformationSequence")
    modality = _modality(rescaling, tags)
    bits = int(tags.get("BitsStored") or 64) if values.dtype.kind in "iu" else 64
    inverted = tags.PhotometricInterpretation == "MONOCHROME1"

    def units(block: np.ndarray) -> np.ndarray:
        shown = block.astype(np.float64) if modality is None else modality(block)
        return np.where(_padding(block, tags), np.nan, shown)

    if decoding.limits is not None and (bits > 8 or modality is not None):
        return to_8_bits(values, decoding.limits, units=units, inverted=inverted)
    voi = _voi(functional_group(tags, frame, "FrameVOILUTSequence"), tags) if decoding.window == "auto" else None
    if voi is not None:
        function, shown = voi
        return to_8_bits(values, shown, units=lambda block: function(units(block)), inverted=inverted)
    whole = _storable(bits, tags, modality) if bits <= 8 else None
    return to_8_bits(values, whole, units=units, inverted=inverted)


def colour(values: np.ndarray, tags: "Dataset") -> np.ndarray:
    """Stored RGB (H, W, 3) of any depth as uint8 (H, W, 3)."""
    return values if values.dtype == np.uint8 else to_8_bits(values, (0, 2 ** int(tags.BitsStored) - 1))


def palette(values: np.ndarray, tags: "Dataset") -> np.ndarray:
    """Stored positions (H, W) in three lookup tables as uint8 (H, W, 3)."""
    tables = [_palette_table(tags, name) for name in COLOURS]
    top = 255 if all(table.top == 255 and table.entries.max() <= 255 for table in tables) else 65535
    return np.stack([to_8_bits(values, (0, top), units=table) for table in tables], axis=-1)


def window(centre: float, width: float, function: str = "LINEAR") -> tuple[Units, tuple[float, float]]:
    """The VOI LUT functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, each with the limits between which it is grey."""
    if function == "SIGMOID":
        from scipy.special import expit

        return lambda values: expit(4 * (values - centre) / width), (0, 1)
    if function == "LINEAR_EXACT":
        return lambda values: values, (centre - width / 2, centre + width / 2)
    return lambda values: values, (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _modality(group: "Dataset", tags: "Dataset") -> Units | None:
    """Stored values to the file's units; None where it has none."""
    if group.get("ModalityLUTSequence"):
        return _table(group.ModalityLUTSequence[0], tags)
    slope, intercept = _number(group, "RescaleSlope"), _number(group, "RescaleIntercept")
    slope = 1.0 if slope is None or slope == 0 else slope  # a slope of 0 is forbidden, and met with
    intercept = intercept or 0.0
    if (slope, intercept) == (1, 0):
        return None
    return lambda values: values * slope + intercept


def _voi(group: "Dataset", tags: "Dataset") -> tuple[Units, tuple[float, float]] | None:
    """The first of the views that the file offers: of its lookup tables, or else of its windows."""
    for item in list(group.get("VOILUTSequence") or ())[:1]:
        if item.get("LUTData"):
            table = _table(item, tags)
            return table, (0, table.top)
    centre, width = _number(group, "WindowCenter"), _number(group, "WindowWidth")
    function = str(group.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or not width >= (1 if function == "LINEAR" else np.finfo(float).tiny):
        return None
    return window(centre, width, function)


def _storable(bits: int, tags: "Dataset", modality: Units | None) -> tuple[float, float]:
    """The lowest and the highest value that so few bits can hold, in the file's units."""
    signed = tags.get("PixelRepresentation") == 1
    stored = np.arange(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - 1) if signed else 2**bits)
    shown = stored if modality is None else modality(stored)
    return float(shown.min()), float(shown.max())


def _padding(values: np.ndarray, tags: "Dataset") -> np.ndarray | bool:
    """What lies outside the image proper: C.7.5.1.1.2."""
    value = tags.get("PixelPaddingValue")
    if value is None or values.dtype.kind not in "iu":
        return False
    other = tags.get("PixelPaddingRangeLimit")
    low, high = sorted((_signed(value, tags), _signed(value if other is None else other, tags)))
    return (values >= low) & (values <= high)


def _number(group: "Dataset", keyword: str) -> float | None:
    """A tag's number, the first of several; None where it is missing or empty, as type 3 allows and type 1 sees."""
    value = group.get(keyword)
    if value is not None and not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)


def _signed(value: int, tags: "Dataset") -> int:
    """Writers put a negative number of 16 bits where an unsigned one is to stand."""
    return value - 2**16 if tags.get("PixelRepresentation") == 1 and value > 2**15 - 1 else int(value)


def _table(item: "Dataset", tags: "Dataset") -> Table:
    """C.11.1.1: number of entries (0 is 65,536), stored value of the first, bits of each."""
    count, first, bits = item.LUTDescriptor
    entries = _entries(item.LUTData, count or 2**16, tags)
    return Table(_signed(first, tags), entries, max(2**bits - 1, int(entries.max())))


def _palette_table(tags: "Dataset", name: str) -> Table:
    """C.7.6.3.1.5: entries of 8 bits may be kept in 16."""
    from pydicom.pixels import apply_color_lut

    count, first, bits = tags[f"{name}PaletteColorLookupTableDescriptor"].value
    count, first = count or 2**16, _signed(first, tags)
    if f"{name}PaletteColorLookupTableData" in tags:
        entries = _entries(tags[f"{name}PaletteColorLookupTableData"].value, count, tags)
    elif bits == 8 and count > 256:
        raise NotImplementedError("pydicom's lookup wraps around here")
    else:
        entries = apply_color_lut(np.arange(first, first + count), tags)[:, COLOURS.index(name)]
    return Table(first, entries, 2**bits - 1)


def _entries(data: object, count: int, tags: "Dataset") -> np.ndarray:
    """The numbers of a table, which come as such or as bytes, one or two to an entry."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64))
    if len(data) < 2 * count:
        return np.frombuffer(data, np.uint8, count)
    return np.frombuffer(data, "<u2" if tags.original_encoding[1] else ">u2", count)
