"""Stored values of a DICOM image become grey or colour of 8 bits: PS3.3 C.11.1, C.11.2 and C.7.6.3.1.

Each transformation maps every value by itself, so that :func:`shpeft.images.decoding.to_8_bits` can go through a large
image in blocks. Lookup is our own: pydicom's wraps around in tables of more than 256 entries of 8 bits.
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

COLOURS = ("Red", "Green", "Blue")


def grey(values: np.ndarray, tags: "Dataset", frame: int, decoding: Decoding) -> Pixels:
    """Stored grey values (H, W), with what the file says of them."""
    group = functional_group(tags, frame, "PixelValueTransformationSequence")
    bits = int(tags.get("BitsStored") or 64) if values.dtype.kind in "iu" else 64
    blank, (slope, intercept) = _padding(values, tags), _rescaling(group)
    stored = Pixels(values, slope, intercept, blank, inverted=tags.PhotometricInterpretation == "MONOCHROME1")
    table = _table(group.ModalityLUTSequence[0], tags) if group.get("ModalityLUTSequence") else None
    units = table or stored.units
    span = _storable(bits, tags, units) if bits <= 8 else None
    if table is not None:
        outside = replace(stored, slope=1.0, intercept=0.0).units  # blank values become not a number
        mapped = in_units(values, lambda block: np.where(np.isnan(outside(block)), np.nan, table(block)))
        stored = Pixels(mapped, inverted=stored.inverted)
    filed = tuple(dict.fromkeys(_views(functional_group(tags, frame, "FrameVOILUTSequence"), tags)))
    asked = filed[0] if filed and decoding.window == "auto" else None
    if decoding.limits is not None and (bits > 8 or table is not None or (slope, intercept) != (1, 0)):
        asked = View(*decoding.limits)
    return replace(stored, span=span, filed=filed, asked=asked, hounsfield=_hounsfield(group, tags))


def palette(values: np.ndarray, tags: "Dataset") -> np.ndarray:
    """Stored positions (H, W) in three lookup tables as uint8 (H, W, 3)."""
    tables = [_palette_table(tags, name) for name in COLOURS]
    top = 255 if all(table.top == 255 and table.entries.max() <= 255 for table in tables) else 65535
    return np.stack([to_8_bits(values, (0, top), units=table) for table in tables], axis=-1)


def window(centre: float, width: float, function: str = "LINEAR") -> View:
    """The VOI LUT functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, each with the limits between which it is grey."""
    if function == "SIGMOID":
        return View(0, 1, sigmoid=(centre, width))
    if function == "LINEAR_EXACT":
        return View(centre - width / 2, centre + width / 2)
    return View(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2, integers=True)


def _rescaling(group: "Dataset") -> tuple[float, float]:
    """Slope and intercept, from stored values to the file's units; 1 and 0 where it has none."""
    slope, intercept = _number(group, "RescaleSlope"), _number(group, "RescaleIntercept")
    return slope or 1.0, intercept or 0.0  # a slope of 0 is forbidden, and met with


def _hounsfield(group: "Dataset", tags: "Dataset") -> bool:
    """Whether the file's units are Hounsfield units, which computed tomography need not say: C.11.1.1.2, C.8.2.1.1."""
    kind = str(group.get("RescaleType") or "")
    return kind == "HU" or (not kind and tags.get("Modality") == "CT" and "RescaleIntercept" in group)


def _views(group: "Dataset", tags: "Dataset") -> Iterator[View]:
    """What the file offers: its lookup tables, then its windows."""
    for item in group.get("VOILUTSequence") or ():
        if item.get("LUTData"):
            table = _table(item, tags)
            yield View(0, table.top, table=table)
    function = str(group.get("VOILUTFunction") or "LINEAR")
    narrowest = 1 if function == "LINEAR" else np.finfo(float).tiny
    for centre, width in zip(_numbers(group, "WindowCenter"), _numbers(group, "WindowWidth"), strict=False):
        if width >= narrowest:
            yield window(centre, width, function)


def _storable(bits: int, tags: "Dataset", units: Units) -> tuple[float, float]:
    """The lowest and the highest value that so few bits can hold, in the file's units."""
    signed = tags.get("PixelRepresentation") == 1
    stored = np.arange(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - 1) if signed else 2**bits)
    shown = units(stored)
    return float(np.nanmin(shown)), float(np.nanmax(shown))


def _padding(values: np.ndarray, tags: "Dataset") -> tuple[int, int] | None:
    """What lies outside the image proper: C.7.5.1.1.2."""
    value = tags.get("PixelPaddingValue")
    if value is None or values.dtype.kind not in "iu":
        return None
    other = tags.get("PixelPaddingRangeLimit")
    low, high = sorted((_signed(value, tags), _signed(value if other is None else other, tags)))
    return low, high


def _numbers(group: "Dataset", keyword: str) -> list[float]:
    """A tag's numbers; none where it is missing or empty, as type 3 allows and type 1 sees."""
    value = group.get(keyword)
    if value is None or value == "":
        return []
    several = not isinstance(value, str | int | float) and hasattr(value, "__len__")
    return [float(each) for each in (value if several else [value])]


def _number(group: "Dataset", keyword: str) -> float | None:
    """The first of a tag's numbers."""
    return next(iter(_numbers(group, keyword)), None)


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
