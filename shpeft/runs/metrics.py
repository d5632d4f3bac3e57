"""``metrics.json``: the numbers of a finished run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shpeft.runs.run_file import RunFile
from shpeft.support.bounded_files import parse_json
from shpeft.support.jsonable import to_jsonable

PARTS = ("finetuned", "weights")
"""Parts that the metrics of every run have."""


class MetricsFile:
    """The test metrics of a run, with its weights, dataset and timings."""

    def __init__(self, folder: Path) -> None:
        self._file = RunFile(folder, "metrics.json")

    def write(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics as JSON; NaN becomes null."""
        self._file.write(json.dumps(to_jsonable(metrics), indent=1) + "\n")

    def read(self) -> dict[str, Any] | None:
        """Return the metrics, or None until the run is finished.

        Raises:
            RunError: the file is damaged.
        """
        return self._file.parse_if_exists(_parse_metrics)


def _parse_metrics(data: bytes) -> dict[str, Any]:
    metrics = parse_json(data)
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(part), dict) for part in PARTS):
        raise ValueError(f"it is no JSON object with {' and '.join(PARTS)}")
    return metrics
