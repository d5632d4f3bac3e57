"""What a DICOM file says of its pixels; everything else in it is passed over.

pydicom is given the tags that the pixels need, and skips the others. None of their values goes into a message.
"""

import zlib
from dataclasses import dataclass
from io import BytesIO
from struct import unpack
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from shpeft.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

PREAMBLE = 128
MAGIC = b"DICM"

TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("Modality", "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
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
"""The length of encapsulated pixels."""

VRS = {b"UL", b"OB", b"UI", b"SH", b"CS", b"DA", b"TM", b"DT", b"LO", b"ST", b"AE", b"UN"}
"""Value representations of what may come first in a file."""


@dataclass(frozen=True)
class Header:
    """What the pixels need.

    Attributes:
        tags: the data set without its pixels, and without what is not in ``TAGS``.
        syntax: the transfer syntax of ``stream``.
        stream: holds the pixels; inflated if the file was deflated.
        start, length: where the pixels' value is in the stream, in bytes; ``UNDEFINED`` if encapsulated.
        keyword, vr: the pixels' element.
    """

    tags: "Dataset"
    syntax: "UID"
    stream: BinaryIO
    start: int
    length: int
    keyword: str
    vr: str

    @property
    def frames(self) -> int:
        """How many there are."""
        return int(self.tags.get("NumberOfFrames") or 1)


class Unnamed:
    """A file without its name, which may be a patient's, and which pydicom quotes in warnings."""

    def __init__(self, file: BinaryIO) -> None:
        """Read, seek and tell are the file's own."""
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a DICOM file: ``DICM`` after a preamble, or elements of a data set at once."""
    return head[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC or _begins_with_elements(head)


def parse(file: BinaryIO, max_bytes: int, name: str) -> Header:
    """Read the header.

    Raises:
        UnreadableImage: there are no pixels, or the file is deflated and unfolds to more than ``max_bytes``.
        Exception: anything, on damaged files; its words may quote tags.
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
        raise UnreadableImage(f"{name} is stored in a transfer syntax that is not known. Export it uncompressed.")
    found: dict[str, Any] = {}

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXELS:
            found.update(start=stream.tell(), length=length, keyword=PIXELS[tag], vr=vr or "OW")
        return tag in PIXELS

    tags = read_dataset(
        stream,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=at_pixels,
        specific_tags=[Tag(keyword) for keyword in TAGS],
    )
    if not found:
        raise UnreadableImage(f"{name} is a DICOM file without an image, or cut short before it.")
    if tags.original_encoding[0]:
        syntax = ImplicitVRLittleEndian  # whatever the file calls itself: pydicom has looked
    return Header(tags, syntax, stream, **found)


def functional_group(tags: "Dataset", frame: int, keyword: str) -> "Dataset":
    """Where the tags of a macro are: with the frame, with what all frames share, or in an ordinary file at its top."""
    own = list(tags.get("PerFrameFunctionalGroupsSequence") or ())[frame : frame + 1]
    for groups in (*own, *list(tags.get("SharedFunctionalGroupsSequence") or ())[:1]):
        if groups.get(keyword):
            return groups[keyword][0]
    return tags


def _inflated(deflated: bytes, max_bytes: int, name: str) -> BinaryIO:
    """PS3.5, A.5. A kilobyte can unfold to a megabyte, so there is a limit."""
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, max_bytes)
    if len(data) >= max_bytes:
        raise UnreadableImage(
            f"{name} is deflated, and unfolds to more than {max_bytes // 10**6} million bytes. Export it uncompressed."
        )
    return BytesIO(data)


def _guess(stream: BinaryIO) -> "UID":
    """The transfer syntax of a data set that does not say it, by its first element; it may not be encapsulated."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    at = stream.tell()
    head = stream.read(6)
    stream.seek(at)
    if not head[4:6].isalpha():
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if head[0] == 0 else ExplicitVRLittleEndian


def _begins_with_elements(head: bytes) -> bool:
    """Two elements in order, of which the first is of group 2 (file meta information) or 8 (identification)."""
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
