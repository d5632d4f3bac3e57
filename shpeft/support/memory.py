"""Memory that has run out: told from a bug, and said with what to lower."""

import os
from contextlib import suppress
from pathlib import Path

from shpeft.errors import OutOfMemory

ADVICE = (
    "The memory ran out. Close other programs and repeat it (a run can be resumed); or start again with a smaller "
    "batch size, image size or backbone, or fewer images for the scores."
)

MEMINFO = "/proc/meminfo"

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""What a container may use, by the two versions of control groups."""

USAGE = ("/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat")
"""What it uses."""

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


def free_memory_bytes() -> int | None:
    """Return how much memory new work may take without making others wait for a disk; None where nobody says.

    Examples:
        >>> free_memory_bytes() is None or free_memory_bytes() <= memory_bytes()
        True
    """
    limits: list[int] = []
    with suppress(OSError, ValueError):
        lines = Path(MEMINFO).read_text().splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for limit, usage in zip(CGROUPS, USAGE, strict=True):
        with suppress(OSError, ValueError):
            limits.append(int(Path(limit).read_text()) - _own_bytes(Path(usage)))
    return max(0, min(limits)) if limits else None


def _own_bytes(usage: Path) -> int:
    """Return what a container's processes hold, without what the system only remembers of files."""
    counts = dict(line.split() for line in usage.read_text().splitlines())
    return int(counts.get("anon", counts.get("total_rss", 0)))


def memory_bytes() -> int | None:
    """Return how much memory this computer has, or this container may use; None where the system does not say.

    Examples:
        >>> memory_bytes() is None or memory_bytes() > 2**20
        True
    """
    limits: list[int] = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in map(Path, CGROUPS):
        with suppress(OSError, ValueError):  # missing, or "max"
            limits.append(int(path.read_text()))
    return min(limits, default=None)
