"""The metrics of a finished run."""

from typing import Any

from shpeft.runs import RunFolder


def metrics_of(folder: RunFolder) -> dict[str, Any]:
    """Return the stored metrics, and fail where the run has none."""
    metrics = folder.metrics.read()
    assert metrics is not None
    return metrics
