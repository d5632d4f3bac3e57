"""The process that GDCM decodes in: ``python -m shpeft.images.decoder_child``. A damaged file ends it alone.

A request is a length and a JSON text, then the bytes of one frame; so is the answer, with the bytes of its values.
"""

import json
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

LENGTHS = struct.Struct("<II")

MEMORY = 4 * 2**30
"""Most bytes of address space beside the libraries': an image of 80 megapixels in color takes a tenth of it."""


def read_exactly(stream: IO[bytes], count: int) -> bytearray:
    """Return this many bytes.

    Raises:
        EOFError: the other side has ended.
    """
    data = bytearray(count)
    view = memoryview(data)
    while view:
        if not (received := stream.readinto(view)):  # type: ignore[attr-defined]
            raise EOFError
        view = view[received:]
    return data


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """Return a message: its JSON text and its bytes.

    Raises:
        EOFError: the other side has ended.
    """
    head, body = LENGTHS.unpack(read_exactly(stream, LENGTHS.size))
    fields: dict[str, Any] = json.loads(read_exactly(stream, head))
    return fields, read_exactly(stream, body)


def send(stream: IO[bytes], fields: dict[str, Any], body: Any = b"") -> None:
    """Send a message: a JSON text and bytes."""
    head, view = json.dumps(fields).encode(), memoryview(body).cast("B")
    stream.write(LENGTHS.pack(len(head), len(view)) + head)
    stream.write(view)
    stream.flush()


def main() -> None:
    """Decode frames until the other side ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # GDCM prints
    _limit_memory()
    with suppress(EOFError, BrokenPipeError):
        while True:
            fields, frame = receive(requests)
            try:
                values = _decode(fields, bytes(frame))
            except Exception as error:  # decoders in C raise anything
                send(answers, {"error": type(error).__name__})
            else:
                send(answers, {"shape": values.shape, "dtype": values.dtype.str}, values)


def _decode(fields: dict[str, Any], frame: bytes) -> Any:
    import numpy as np
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(fields["syntax"])
    values, _ = decoder.as_array(encapsulate([frame], has_bot=False), index=0, **fields["options"])
    return np.ascontiguousarray(values)


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        most = MEMORY + _reserved()
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reserved() -> int:
    """Return the bytes of address space that this process has; libraries reserve more than they use."""
    with suppress(OSError, ValueError):  # as Linux says it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


if __name__ == "__main__":
    main()
