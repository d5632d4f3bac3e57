"""Interpret the stored values of a DICOM image: PS3.3 C.11.1, C.11.2 and C.7.6.3.1.

Each transformation is elementwise, so that :func:`shpeft.images.decoding.to_8_bits` can process a large image in
blocks. Table lookup is our own: pydicom's wraps around in tables of more than 256 entries of 8 bits.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shpeft.images.decoding import Decoding, Units, in_units, to_8_bits
from shpeft.images.dicom_header import functional_group
from shpeft.images.pixels import Pixels, Table, View

if TYPE_CHECKING:
    from pydicom import Dataset

COLORS = ("Red", "Green", "Blue")


def gray(values: np.ndarray, tags: "Dataset", frame: int, decoding: Decoding) -> Pixels:
    """Return stored gray values (H, W) with the properties in the file: units, padding and windows."""
    group = functional_group(tags, frame, "PixelValueTransformationSequence")
    bits = int(tags.get("BitsStored") or 64) if values.dtype.kind in "iu" else 64
    blank, (slope, intercept) = _padding(values, tags), _rescaling(group)
    stored = Pixels(values, slope, intercept, blank, inverted=tags.PhotometricInterpretation == "MONOCHROME1")
    table = _table(group.ModalityLUTSequence[0], tags) if group.get("ModalityLUTSequence") else None
    units = table or stored.units
    span = _storable(bits, tags, units) if bits <= 8 else None
    if table is not None:
        outside = replace(stored, slope=1.0, intercept=0.0).units  # blank values become NaN
        mapped = in_units(values, lambda block: np.where(np.isnan(outside(block)), np.nan, table(block)))
        stored = Pixels(mapped, inverted=stored.inverted)
    file_views = tuple(dict.fromkeys(_views(functional_group(tags, frame, "FrameVOILUTSequence"), tags)))
    requested = file_views[0] if file_views and decoding.window == "auto" else None
    if decoding.limits is not None and (bits > 8 or table is not None or (slope, intercept) != (1, 0)):
        requested = View(*decoding.limits)
    return replace(stored, span=span, file_views=file_views, requested=requested, hounsfield=_hounsfield(group, tags))


def palette(values: np.ndarray, tags: "Dataset") -> np.ndarray:
    """Look up stored indices (H, W) in the three palettes: uint8 (H, W, 3)."""
    tables = [_palette_table(tags, name) for name in COLORS]
    top = 255 if all(table.top == 255 and table.entries.max() <= 255 for table in tables) else 65535
    return np.stack([to_8_bits(values, (0, top), units=table) for table in tables], axis=-1)


def window(center: float, width: float, function: str = "LINEAR") -> View:
    """Return the view of a VOI LUT function of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return View(0, 1, sigmoid=(center, width))
    if function == "LINEAR_EXACT":
        return View(center - width / 2, center + width / 2)
    return View(center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2, integers=True)


def _rescaling(group: "Dataset") -> tuple[float, float]:
    """Return slope and intercept from stored values to the file's units; 1 and 0 if the file has none."""
    slope, intercept = _number(group, "RescaleSlope"), _number(group, "RescaleIntercept")
    return slope or 1.0, intercept or 0.0  # a slope of 0 is forbidden, but occurs


def _hounsfield(group: "Dataset", tags: "Dataset") -> bool:
    """Return whether the units are Hounsfield units, the default of CT: C.11.1.1.2, C.8.2.1.1."""
    kind = str(group.get("RescaleType") or "")
    return kind == "HU" or (not kind and tags.get("Modality") == "CT" and "RescaleIntercept" in group)


def _views(group: "Dataset", tags: "Dataset") -> Iterator[View]:
    """Yield the views in the file: its lookup tables, then its windows."""
    for item in group.get("VOILUTSequence") or ():
        if item.get("LUTData"):
            table = _table(item, tags)
            yield View(0, table.top, table=table)
    function = str(group.get("VOILUTFunction") or "LINEAR")
    narrowest = 1 if function == "LINEAR" else np.finfo(float).tiny
    for center, width in zip(_numbers(group, "WindowCenter"), _numbers(group, "WindowWidth"), strict=False):
        if width >= narrowest:
            yield window(center, width, function)


def _storable(bits: int, tags: "Dataset", units: Units) -> tuple[float, float]:
    """Return the lowest and the highest value that the bits can hold, in the file's units."""
    signed = tags.get("PixelRepresentation") == 1
    stored = np.arange(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - 1) if signed else 2**bits)
    shown = units(stored)
    return float(np.nanmin(shown)), float(np.nanmax(shown))


def _padding(values: np.ndarray, tags: "Dataset") -> tuple[int, int] | None:
    """Return the range of stored values that are padding around the image: C.7.5.1.1.2."""
    value = tags.get("PixelPaddingValue")
    if value is None or values.dtype.kind not in "iu":
        return None
    other = tags.get("PixelPaddingRangeLimit")
    low, high = sorted((_signed(value, tags), _signed(value if other is None else other, tags)))
    return low, high


def _numbers(group: "Dataset", keyword: str) -> list[float]:
    """Return a tag's numbers; none if it is missing or empty, which occurs for required tags, too."""
    value = group.get(keyword)
    if value is None or value == "":
        return []
    several = not isinstance(value, str | int | float) and hasattr(value, "__len__")
    return [float(each) for each in (value if several else [value])]


def _number(group: "Dataset", keyword: str) -> float | None:
    """Return the first of a tag's numbers."""
    return next(iter(_numbers(group, keyword)), None)


def _signed(value: int, tags: "Dataset") -> int:
    """Return a number with its sign: some writers store negative 16-bit numbers as unsigned ones."""
    return value - 2**16 if tags.get("PixelRepresentation") == 1 and value > 2**15 - 1 else int(value)


def _table(item: "Dataset", tags: "Dataset") -> Table:
    """Read a lookup table (C.11.1.1): number of entries (0 means 65,536), first stored value, bits per entry."""
    count, first, bits = item.LUTDescriptor
    entries = _entries(item.LUTData, count or 2**16, tags)
    return Table(_signed(first, tags), entries, max(2**bits - 1, int(entries.max())))


def _palette_table(tags: "Dataset", name: str) -> Table:
    """Read a palette (C.7.6.3.1.5), whose entries of 8 bits may be stored in 16."""
    from pydicom.pixels.processing import apply_color_lut

    count, first, bits = tags[f"{name}PaletteColorLookupTableDescriptor"].value
    count, first = count or 2**16, _signed(first, tags)
    if f"{name}PaletteColorLookupTableData" in tags:
        entries = _entries(tags[f"{name}PaletteColorLookupTableData"].value, count, tags)
    elif bits == 8 and count > 256:
        raise NotImplementedError("pydicom's lookup wraps around in such a table")
    else:
        entries = apply_color_lut(np.arange(first, first + count), tags)[:, COLORS.index(name)]
    return Table(first, entries, 2**bits - 1)


def _entries(data: object, count: int, tags: "Dataset") -> np.ndarray:
    """Return the entries of a table, stored as numbers or as bytes, one or two per entry."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64))
    if len(data) < 2 * count:
        return np.frombuffer(data, np.uint8, count)
    return np.frombuffer(data, "<u2" if tags.original_encoding[1] else ">u2", count)
