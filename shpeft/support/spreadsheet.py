"""Cells of a CSV that no spreadsheet reads as a formula."""

import re
from typing import TypeVar

T = TypeVar("T")

FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet may carry out (OWASP, CSV injection), with any apostrophes before it."""


def as_text(cell: T) -> T | str:
    """Return a cell; text that a spreadsheet would carry out gets an apostrophe before it, numbers do not.

    Examples:
        >>> as_text("=HYPERLINK(A1)"), as_text("benign"), as_text("-0.5"), as_text(-0.5)
        ("'=HYPERLINK(A1)", 'benign', '-0.5', -0.5)
    """
    if not isinstance(cell, str) or not FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_written(cell: str) -> str:
    """Return the text that :func:`as_text` was given.

    Examples:
        >>> as_written("'=HYPERLINK(A1)"), as_written("'quoted'")
        ('=HYPERLINK(A1)', "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
