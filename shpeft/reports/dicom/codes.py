"""Coded concepts of the results. Those that no standard defines are of the scheme 99SHPEFT."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

SCHEME = "99SHPEFT"

MEANING = 64
"""Most characters of a code's meaning (VR LO)."""


def coding_scheme() -> "CodingSchemeIdentificationItem":
    """Return the item that says what the private scheme is."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        designator=SCHEME, name="Concepts of shpeft", version="1", responsible_organization="shpeft"
    )


def concept(value: str, meaning: str) -> "CodedConcept":
    """Return a concept of the private scheme."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, _line(meaning))


def named(kind: str, name: str) -> "CodedConcept":
    """Return the concept of a class, or of something about it: the same code for the same words.

    Examples:
        >>> named("", "malignant").value == named("", "malignant").value
        True
    """
    text = f"{kind} {name}".strip()
    return concept(f"C{hashlib.sha256(text.encode()).hexdigest()[:12]}".upper(), text)


def _line(text: str) -> str:
    """Return a text as one LO: a backslash would split it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).replace("\\", "/").split()) or "unnamed"
    return line if len(line) <= MEANING else f"{line[: MEANING - 3]}..."
