"""Coded concepts of the results. Those that no standard defines are of the scheme 99SHPEFT."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

SCHEME = "99SHPEFT"

MEANING = 64
"""Most characters of a code's meaning (VR LO)."""


UCUM = {
    **dict.fromkeys(("a", "y", "yr", "yrs", "year", "years"), "a"),
    **dict.fromkeys(("mo", "month", "months"), "mo"),
    **dict.fromkeys(("wk", "week", "weeks"), "wk"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("m", "meter", "meters"), "m"),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), "cm"),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), "mm"),
    **dict.fromkeys(("µm", "μm", "um", "micrometer", "micrometers"), "um"),
    **dict.fromkeys(("mm2", "mm²", "mm^2"), "mm2"),
    **dict.fromkeys(("cm2", "cm²", "cm^2"), "cm2"),
    **dict.fromkeys(("mm3", "mm³", "mm^3"), "mm3"),
    **dict.fromkeys(("cm3", "cm³", "cm^3", "cc"), "cm3"),
    **dict.fromkeys(("ml", "milliliter", "milliliters"), "mL"),
    **dict.fromkeys(("l", "liter", "liters"), "L"),
    **dict.fromkeys(("kg", "kilogram", "kilograms"), "kg"),
    **dict.fromkeys(("g", "gram", "grams"), "g"),
    **dict.fromkeys(("mg", "milligram", "milligrams"), "mg"),
    **dict.fromkeys(("%", "percent"), "%"),
    **dict.fromkeys(("deg", "°", "degree", "degrees"), "deg"),
    **dict.fromkeys(("°c", "celsius"), "Cel"),
    **dict.fromkeys(("mmhg", "mm hg"), "mm[Hg]"),
    **dict.fromkeys(("bpm", "1/min", "/min"), "/min"),
    **dict.fromkeys(("hu", "hounsfield", "hounsfield units"), "[hnsf'U]"),
    **dict.fromkeys(("kg/m2", "kg/m²", "kg/m^2"), "kg/m2"),
    **dict.fromkeys(("g/cm2", "g/cm²", "g/cm^2"), "g/cm2"),
    **dict.fromkeys(("ml/min", "ml per minute"), "mL/min"),
    **dict.fromkeys(("mg/dl",), "mg/dL"),
    **dict.fromkeys(("g/dl",), "g/dL"),
    **dict.fromkeys(("mmol/l",), "mmol/L"),
}
"""Units as people write them, in lower case, and their codes in the Unified Code for Units of Measure."""


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


def unit_code(unit: str) -> "CodedConcept":
    """Return a unit in UCUM; of a unit that is not in :data:`UCUM` the annotation that shows it, of none *no units*.

    Examples:
        >>> [(code.value, code.meaning) for code in map(unit_code, ("mm", "years", "points {x}", ""))]
        [('mm', 'mm'), ('a', 'years'), ('{points x}', 'points {x}'), ('1', 'no units')]
    """
    from highdicom.sr import CodedConcept

    if not unit.strip():
        return CodedConcept("1", "UCUM", "no units")
    known = UCUM.get(unit.strip().lower(), UCUM.get(unit.strip()))
    if known is not None:
        return CodedConcept(known, "UCUM", _line(unit))
    shown = "".join(c for c in _line(unit) if 33 <= ord(c) < 127 or c == " ").replace("{", "").replace("}", "")
    return CodedConcept(f"{{{shown[:14] or 'unit'}}}", "UCUM", _line(unit))


def _line(text: str) -> str:
    """Return a text as one LO: a backslash would split it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).replace("\\", "/").split()) or "unnamed"
    return line if len(line) <= MEANING else f"{line[: MEANING - 3]}..."
