"""Tables in Markdown, and the words for verdicts."""

from collections.abc import Iterable, Sequence

VERDICT_LABELS = {"better": "better", "tie": "tie", "same": "identical", "worse": "worse"}
"""How a report names the verdict of a paired difference."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a table; the first column is aligned to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
