"""Shared by all benchmarks: interleaved timing, medians, ratios, and the sections of RESULTS.md."""

import argparse
import ctypes
import gc
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from shpeft.support.environment import processor

RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True)
class Timing:
    """Seconds of one arm in each turn."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)


def interleaved(arms: Mapping[str, Callable[[], object]], repeats: int = 7, warmup: int = 1) -> dict[str, Timing]:
    """Time every arm ``repeats`` times in turns, so that a slow minute of the machine affects all arms alike."""
    keep_freed_memory()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(warmup + repeats):
        for name, arm in arms.items():
            gc.collect()
            began = time.perf_counter()
            arm()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - began)
        print(f"turn {turn + 1} of {warmup + repeats}", file=sys.stderr)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def keep_freed_memory() -> None:
    """Make glibc keep freed memory; do nothing with another C library.

    Otherwise glibc returns large blocks to the system and requests them again, and zeroing the new pages (up to a tenth
    of a step) falls on arms at random.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
    if platform.libc_ver()[0] == "glibc":
        for option in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(option, 1 << 30)


def machine() -> str:
    """Name the processor, its threads and the versions that the numbers depend on."""
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor()}, {torch.get_num_threads()} threads, {versions}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table with numbers aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def arguments(description: str) -> argparse.ArgumentParser:
    """Create a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="turns of each arm (at least 7 for a published number)")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    return parser


def publish(section: str, body: str, write: bool) -> None:
    """Print a section and, with ``write``, replace the section of the same title and processor in RESULTS.md."""
    section = f"{section} ({processor()})"
    command = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip()
    text = f"## {section}\n\n{body}\n\n`{command}` on {machine()}, {time.strftime('%Y-%m-%d')}.\n"
    print(text)
    if write:
        before = RESULTS.read_text() if RESULTS.exists() else "# Benchmarks\n"
        pattern = re.compile(rf"^## {re.escape(section)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
        known = pattern.search(before)
        after = (
            before[: known.start()] + text + "\n" + before[known.end() :] if known else f"{before.rstrip()}\n\n{text}"
        )
        RESULTS.write_text(after.rstrip() + "\n")
