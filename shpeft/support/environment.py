"""The software and hardware that results depend on, and tracebacks without file names."""

import os
import platform
import re
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from shpeft import __version__

LIBRARIES = ("torch", "timm", "numpy", "scikit-learn", "safetensors", "captum", "pillow")


def environment() -> dict[str, Any]:
    """Return versions of Python, the system and the libraries, and the threads; no name of a machine or a person."""
    versions: dict[str, str | None] = {"shpeft": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processors": os.cpu_count(),
        "threads": threads(),
        "libraries": versions,
    }


def threads() -> int | None:
    """Return how many threads torch adds up with, on which the last bits of sums depend; None before it is imported."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def processor() -> str:
    """Return the processor's model name; the last bits of trained values depend on it."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return model[1] if model else platform.processor() or platform.machine()


def traceback_text(error: BaseException) -> str:
    """Return a traceback with the files of the code, but with ``<file>`` for any file name in its messages."""
    lines = []
    for line in traceback.format_exception(error):
        if line.startswith('  File "'):
            lines.append(line)
        else:
            line = re.sub(r"""(['"])(?:(?!\1).)*([/\\]|\.\w{2,5}\1)(?:(?!\1).)*\1?""", "<file>", line)
            lines.append(re.sub(r"\S*[/\\]\S+|\S+\.(?i:png|jpe?g|bmp|tiff?|gif|webp|dcm|nii|gz|csv)\b", "<file>", line))
    return "".join(lines)
