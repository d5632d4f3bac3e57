"""One file of a run folder: written atomically, and read with errors that name the run and the file."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from shpeft.errors import RunError, ShpeftError
from shpeft.runs.example import refuse_example
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import parse_json, read_regular_file
from shpeft.support.limits import RUN_FILE_BYTES

T = TypeVar("T")

DAMAGE = (
    ShpeftError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    RecursionError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
)
"""Exceptions that parsing a damaged file may raise."""


class RunFile:
    """One file of a run folder.

    Args:
        folder: the run folder; its name is the run's name.
        name: the file's path inside the folder, with forward slashes.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.folder / self.name

    @property
    def exists(self) -> bool:
        """Whether the file has been written."""
        return self.path.exists()

    def write(self, data: bytes | str) -> None:
        """Replace the file by ``data`` in one atomic step.

        Raises:
            ShpeftError: the file cannot be written.
            RunError: the run is the example that ships with shpeft.
        """
        refuse_example(self.folder)
        write_atomic(self.path, data)

    def parse(self, parser: Callable[[bytes], T]) -> T:
        """Return ``parser`` of the file's content.

        Raises:
            RunError: the file is missing or damaged; the message names the run and the file.
        """
        try:
            return parser(read_regular_file(self.path, RUN_FILE_BYTES))
        except FileNotFoundError:
            reason = f"has no {self.name}: it may not have come that far"
        except ValidationError:
            reason = f"is damaged: {self.name} does not have the expected fields"
        except DAMAGE as error:
            reason = f"is damaged: {self.name} cannot be read ({error})"
        raise RunError(f"The run {self.folder.name} {reason}. Choose another run, or run it again.")

    def parse_if_exists(self, parser: Callable[[bytes], T]) -> T | None:
        """Return ``parser`` of the file's content, or None if there is no file.

        Raises:
            RunError: the file is damaged.
        """
        return self.parse(parser) if self.exists else None


def safetensors_metadata(data: bytes) -> dict[str, Any]:
    """Return the JSON object that a run's safetensors file stores under the key ``shpeft`` of its metadata."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, Any] = parse_json(parse_json(data[8 : 8 + length])["__metadata__"]["shpeft"])
    return metadata


def check_format(metadata: dict[str, Any], expected: str) -> None:
    """Check that a file's ``format`` is ``expected``.

    Raises:
        ValueError: it is another one.
    """
    if metadata.get("format") != expected:
        raise ValueError(f"it is not of the format {expected}")


def entry(entries: dict[str, T], name: str) -> T:
    """Return the entry called ``name``.

    Raises:
        ValueError: there is none; the message lists the names.
    """
    if name not in entries:
        raise ValueError(f"it holds {', '.join(sorted(entries))}, not {name}")
    return entries[name]
