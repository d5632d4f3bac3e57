"""The figures of ``make reliability``, printed at its end."""

import json
from typing import Any

RECORDED: list[dict[str, Any]] = []


def record(check: str, **figures: Any) -> None:
    """Keep the figures of a check for the summary."""
    RECORDED.append({"check": check, **figures})


def summary() -> list[str]:
    """Return a line of JSON for each check."""
    return [json.dumps(figures) for figures in RECORDED]
