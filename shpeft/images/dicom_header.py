"""Read the tags of a DICOM file that its pixels need, or others that are named, and no more.

pydicom skips all tags that are not listed. No value of a tag is quoted in a message.
"""

import logging
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from struct import unpack
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from shpeft.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

# pydicom's own messages quote tags, and would reach the terminal and the server's log.
logging.getLogger("pydicom").addFilter(lambda _: False)
warnings.filterwarnings("ignore", module=r"pydicom\b")

PREAMBLE = 128
MAGIC = b"DICM"

TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("Modality", "BodyPartExamined", "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(f"{color}PaletteColorLookupTableDescriptor" for color in ("Red", "Green", "Blue")),
    *(
        f"{segmented}{c}PaletteColorLookupTableData"
        for segmented in ("", "Segmented")
        for c in ("Red", "Green", "Blue")
    ),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}

UNDEFINED = 0xFFFFFFFF
"""Length that marks encapsulated (compressed) pixels."""

VRS = {b"UL", b"OB", b"UI", b"SH", b"CS", b"DA", b"TM", b"DT", b"LO", b"ST", b"AE", b"UN"}
"""Value representations of the elements that may come first in a file."""


@dataclass(frozen=True)
class Header:
    """The tags of a file that its pixels need, and where the pixels are.

    Attributes:
        tags: the data set, reduced to ``TAGS``.
        syntax: the transfer syntax of ``stream``.
        stream: holds the pixels; inflated if the file was deflated.
        offset, length: position and length of the pixel data in the stream, in bytes; the length is ``UNDEFINED`` if
            they are encapsulated.
        keyword, vr: keyword and value representation of the pixel data element.
    """

    tags: "Dataset"
    syntax: "UID"
    stream: BinaryIO
    offset: int
    length: int
    keyword: str
    vr: str

    @property
    def frames(self) -> int:
        """The number of frames."""
        return int(self.tags.get("NumberOfFrames") or 1)


class Unnamed:
    """A file without its name: pydicom quotes names in warnings, and they may contain a patient's name."""

    def __init__(self, file: BinaryIO) -> None:
        """Wrap an open file, whose read, seek and tell are used."""
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def is_dicom(head: bytes) -> bool:
    """Return whether a file with this head is a DICOM file, with a preamble and ``DICM`` or without them."""
    return head[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC or _begins_with_elements(head)


def parse(file: BinaryIO, max_bytes: int, name: str, keywords: Sequence[str] = TAGS, *, image: bool = True) -> Header:
    """Read the header.

    Args:
        file: the open file.
        max_bytes: a deflated file must not inflate to more.
        name: of the file, for messages.
        keywords: the tags to read.
        image: whether there must be pixels; without them, offset and length are 0 and the keyword is empty.

    Raises:
        UnreadableImage: there are no pixels but should be, or the file inflates to more than ``max_bytes``.
        Exception: anything on damaged files; the message may quote tags.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stream = cast(BinaryIO, Unnamed(file))
    stream.seek(PREAMBLE)
    stream.seek(PREAMBLE + len(MAGIC) if stream.read(len(MAGIC)) == MAGIC else 0)
    meta = read_dataset(
        stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2, specific_tags=[Tag("TransferSyntaxUID")]
    )
    syntax = meta.get("TransferSyntaxUID") or _guess(stream)
    if syntax == DeflatedExplicitVRLittleEndian:
        stream, syntax = _inflated(stream.read(), max_bytes, name), ExplicitVRLittleEndian
    if not syntax.is_transfer_syntax:
        raise UnreadableImage(f"{name} has an unknown transfer syntax. Export it uncompressed.")
    element: dict[str, Any] = {}

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXELS:
            element.update(offset=stream.tell(), length=length, keyword=PIXELS[tag], vr=vr or "OW")
        return tag in PIXELS

    tags = read_dataset(
        stream,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=at_pixels,
        specific_tags=[Tag(keyword) for keyword in keywords],
    )
    if not element and not image:
        element.update(offset=0, length=0, keyword="", vr="")
    if not element:
        raise UnreadableImage(f"{name} is a DICOM file without an image, or truncated before it.")
    if tags.original_encoding[0]:
        syntax = ImplicitVRLittleEndian  # pydicom determined it from the content
    return Header(tags, syntax, stream, **element)


def functional_group(tags: "Dataset", frame: int, keyword: str) -> "Dataset":
    """Return the item that holds a macro's tags: of the frame, shared by all frames, or the data set itself."""
    own = list(tags.get("PerFrameFunctionalGroupsSequence") or ())[frame : frame + 1]
    for groups in (*own, *list(tags.get("SharedFunctionalGroupsSequence") or ())[:1]):
        if groups.get(keyword):
            return cast("Dataset", groups[keyword][0])
    return tags


def _inflated(deflated: bytes, max_bytes: int, name: str) -> BinaryIO:
    """Inflate a deflated file (PS3.5, A.5), up to a limit: a kilobyte can inflate to a megabyte."""
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, max_bytes)
    if len(data) >= max_bytes:
        raise UnreadableImage(
            f"{name} is deflated, and inflates to more than {max_bytes // 10**6} million bytes. Export it uncompressed."
        )
    return BytesIO(data)


def _guess(stream: BinaryIO) -> "UID":
    """Guess the transfer syntax of a data set without one from its first element; it cannot be encapsulated."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    at = stream.tell()
    head = stream.read(6)
    stream.seek(at)
    if not head[4:6].isalpha():
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if head[0] == 0 else ExplicitVRLittleEndian


def _begins_with_elements(head: bytes) -> bool:
    """Return whether there are two elements in order, the first of group 2 (file meta) or 8 (identification)."""
    for order in "<>":
        if len(head) < 20 or (first := unpack(f"{order}HH", head[:4]))[0] not in (2, 8):
            continue
        if head[4:6] in (b"OB", b"UN"):
            after = 12 + unpack(f"{order}I", head[8:12])[0]
        elif head[4:6] in VRS:
            after = 8 + unpack(f"{order}H", head[6:8])[0]
        else:
            after = 8 + unpack(f"{order}I", head[4:8])[0]
        following = head[after : after + 4]
        if len(following) == 4 and first < unpack(f"{order}HH", following) < (0x0011, 0):
            return True
    return False
