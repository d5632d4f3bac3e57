"""DICOM files as images, through pydicom: modality LUT, VOI LUT or window, photometric interpretation, frames.

Of all tags only those that the pixels need are looked at, and none of their values goes into a message.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images.decoding import Decoding, to_8_bits

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
EXTRA = "Install it with: pip install 'shpeft[dicom]'"


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a DICOM file: ``DICM`` after a preamble of 128 bytes."""
    return head[128:132] == b"DICM"


def read(source: bytes | Path | BinaryIO, decoding: Decoding, max_pixels: int, name: str) -> Image.Image:
    """One frame as a grey or RGB image of 8 bits.

    Raises:
        MissingExtra: pydicom, or what decodes this file's compression, is not installed.
        UnreadableImage: no pixels, damaged ones, too many, or no such frame.
    """
    try:
        import pydicom
        from pydicom.pixels import pixel_array
    except ImportError:
        raise MissingExtra(f"DICOM files need the package 'pydicom', which is not installed. {EXTRA}") from None
    try:
        data = pydicom.dcmread(BytesIO(source) if isinstance(source, bytes) else source)
        frame = _frame(data, decoding.frame, name)
        size = data.Rows * data.Columns
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom raises anything on damaged files; its words may quote tags
        raise UnreadableImage(
            f"{name} cannot be read as an image: it is a damaged DICOM file or has no pixels ({type(error).__name__})."
        ) from None
    if size > max_pixels:
        raise UnreadableImage(f"{name} has more than {max_pixels // 10**6} million pixels. Save a smaller copy.")
    _check_decoder(data, name)
    try:
        values = pixel_array(data, index=frame)
        return _shown(values, data, decoding)
    except Exception as error:
        raise UnreadableImage(
            f"{name} cannot be read as an image: its DICOM pixels are damaged ({type(error).__name__})."
        ) from None


def modality(source: bytes | Path | BinaryIO) -> str | None:
    """The file's modality, such as CT or US; None where it does not say."""
    import pydicom

    data = pydicom.dcmread(
        BytesIO(source) if isinstance(source, bytes) else source, stop_before_pixels=True, specific_tags=["Modality"]
    )
    return str(data.get("Modality", "")) or None


def _frame(data: "Dataset", wanted: int | None, name: str) -> int:
    count = int(data.get("NumberOfFrames", 1) or 1)
    if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
        raise UnreadableImage(f"{name} is a DICOM file without an image.")
    if wanted is None:
        return (count - 1) // 2
    if not 0 <= wanted < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {wanted} was asked for.")
    return wanted


def _check_decoder(data: "Dataset", name: str) -> None:
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UnreadableImage(f"{name} is compressed as {syntax.name}, which is no image that can be read.") from None
    if not available:
        raise MissingExtra(f"{name} is compressed as {syntax.name}, and what decodes that is not installed. {EXTRA}")


def _shown(values: np.ndarray, data: "Dataset", decoding: Decoding) -> Image.Image:
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    kind = data.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, data)
    if values.ndim == 3:  # pixel_array has turned YBR into RGB
        if values.dtype != np.uint8:
            depth = 16 if kind == "PALETTE COLOR" else int(data.BitsStored)
            values = to_8_bits(values, (0, 2**depth - 1))
        return Image.fromarray(values, "RGB")
    grey = _windowed(np.asarray(apply_modality_lut(values, data)), data, decoding)
    return Image.fromarray(255 - grey if kind == "MONOCHROME1" else grey)


def _windowed(values: np.ndarray, data: "Dataset", decoding: Decoding) -> np.ndarray:
    if decoding.limits is not None:
        return to_8_bits(values, decoding.limits)
    if decoding.window == "auto" and data.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return to_8_bits(apply_voi(values, data), (0, 2**bits - 1))
    if decoding.window == "auto" and "WindowCenter" in data and "WindowWidth" in data:
        return window(values, _first(data.WindowCenter), _first(data.WindowWidth), data.get("VOILUTFunction", "LINEAR"))
    return to_8_bits(values)


def window(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """The VOI LUT functions of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, as uint8."""
    if function == "SIGMOID":
        return to_8_bits(1 / (1 + np.exp(-4 * (np.asarray(values, np.float64) - centre) / width)), (0, 1))
    if function == "LINEAR_EXACT":
        return to_8_bits(values, (centre - width / 2, centre + width / 2))
    return to_8_bits(values, (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2))


def _first(value: Any) -> float:
    """A file may offer several windows; the first is the one to show."""
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)
