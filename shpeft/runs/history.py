"""``metrics.jsonl``: a line for each epoch of a run."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.runs.run_file import RunFile
from shpeft.support.bounded_files import parse_json
from shpeft.support.jsonable import to_jsonable

if TYPE_CHECKING:
    from shpeft.training.loop import EpochReport


class History:
    """The epochs of a run so far."""

    def __init__(self, folder: Path) -> None:
        self._file = RunFile(folder, "metrics.jsonl")

    def write(self, reports: "Sequence[EpochReport]") -> None:
        """Write all epochs so far, replacing the ones before."""
        self._file.write(history_text(reports))

    def read(self) -> "list[EpochReport]":
        """Return the epochs so far, in order.

        Raises:
            RunError: the file is damaged.
        """
        return self._file.parse_if_exists(lambda data: parse_history(data.decode())) or []


def history_text(reports: "Sequence[EpochReport]") -> str:
    """Return epochs as JSON, a line each; NaN becomes null."""
    return "".join(json.dumps(to_jsonable(report)) + "\n" for report in reports)


def parse_history(text: str) -> "list[EpochReport]":
    """Return the epochs that ``history_text`` wrote."""
    from shpeft.training.loop import EpochReport

    reports = []
    for line in filter(None, text.splitlines()):
        row: dict[str, Any] = {key: math.nan if item is None else item for key, item in parse_json(line).items()}
        reports.append(EpochReport(**row))
    return reports
