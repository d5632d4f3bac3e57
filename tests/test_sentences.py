"""Sentences that a reader could misunderstand are nowhere in the program or its documentation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

RULING_OUT = re.compile(r"\brul(e|ed|es|ing)\s+out\b", re.IGNORECASE)
"""A prediction set says what is still possible. What it leaves out can still be true, and often enough is."""

EXCLUDING = re.compile(r"\bexclud(e|ed|es|ing)\b", re.IGNORECASE)

SHOWN = ("app", "shpeft/batch", "shpeft/cli", "shpeft/evaluation", "shpeft/reports", "shpeft/diagnosis.py")
"""What writes about the diagnosis of an image. ``exclude_unset`` and the like are no words of these."""


def texts(*names: str) -> list[Path]:
    """Return the files below some folders that hold code or text."""
    files = [
        path for name in names for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
    ]
    return [
        path for path in files if path.suffix in (".py", ".md", ".html", ".js", ".ipynb") and "_build" not in path.parts
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [(RULING_OUT, ("app", "shpeft", "docs", "README.md", "CHANGELOG.md", "assets")), (EXCLUDING, SHOWN)],
)
def test_nothing_is_said_to_be_ruled_out(pattern: re.Pattern[str], names: tuple[str, ...]) -> None:
    files = texts(*names)
    assert len(files) > 5
    lines = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not lines
