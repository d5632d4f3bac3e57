"""Numbers of a comparison as text, in points of a hundred."""

from shpeft.compare.analysis.bootstrap import Estimate
from shpeft.compare.analysis.paired_comparison import PairedComparison

NONE = "–"
"""What a table shows where there is no value."""


def points(value: float | None, sign: bool = False) -> str:
    """Format a fraction in points of a hundred with one decimal, such as ``69.7``."""
    return NONE if value is None else tenths(100 * value, sign)


def tenths(value: float, sign: bool = False) -> str:
    """Format a number with one decimal, and zero without a minus sign."""
    return f"{round(value, 1) + 0.0:{'+' if sign else ''}.1f}"


def format_margin(margin: float) -> str:
    """Format a margin such as ``1 point`` or ``2 points``."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def format_estimate(estimate: Estimate, sign: bool = True) -> str:
    """Format an estimate with its 95 % interval in points, such as ``+1.2 [-0.3, +2.6]``."""
    value, low, high = (points(v, sign) for v in (estimate.value, *estimate.interval()))
    return f"{value} [{low}, {high}]"


def format_difference(comparison: PairedComparison) -> str:
    """Format a mean difference as an estimate, or say in words that no resample shows a difference."""
    if comparison.mean.same:
        return "the same predictions" if comparison.identical else "the same decision on every test case"
    return format_estimate(comparison.mean)
