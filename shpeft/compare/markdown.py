"""Numbers and tables in Markdown."""

from collections.abc import Iterable, Sequence

NONE = "–"

WORDS = {"better": "won", "tie": "a tie", "same": "the same", "worse": "lost"}
"""What a duel's verdict is called."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def margin_told(margin: float) -> str:
    """``1 point`` or ``2 points``."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def points(value: float | None, sign: bool = False) -> str:
    """A fraction in points of a hundred, one digit."""
    return NONE if value is None else tenths(100 * value, sign)


def tenths(value: float, sign: bool = False) -> str:
    """One digit, and no minus before a zero."""
    return f"{round(value, 1) + 0.0:{'+' if sign else ''}.1f}"
