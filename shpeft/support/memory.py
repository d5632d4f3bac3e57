"""Memory that has run out: told from a bug, and said with what to lower."""

from shpeft.errors import OutOfMemory

ADVICE = (
    "The memory ran out. Close other programs and repeat it (a run can be resumed); or start again with a smaller "
    "batch size, image size or backbone, or fewer images for the scores."
)

MARKS = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says on a processor, on Windows, and on cards."""


def as_out_of_memory(error: BaseException) -> OutOfMemory | None:
    """Return the error as one that says what to lower; None if it is another one.

    Examples:
        >>> as_out_of_memory(MemoryError()) is None, as_out_of_memory(ValueError("a")) is None
        (False, True)
    """
    allocation = isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in MARKS)
    return OutOfMemory(ADVICE) if allocation or isinstance(error, MemoryError) else None
