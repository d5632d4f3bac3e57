"""Numbers of a comparison as text: points of a hundred, or a number's unit."""

from shpeft.compare.analysis.bootstrap import Estimate
from shpeft.compare.analysis.paired_comparison import PairedComparison
from shpeft.compare.measures import POINTS, Scale


def points(value: float | None, sign: bool = False) -> str:
    """Format a fraction in points of a hundred with one decimal, such as ``69.7``."""
    return POINTS.text(value, sign)


def format_estimate(estimate: Estimate, sign: bool = True, scale: Scale = POINTS) -> str:
    """Format an estimate with its 95 % interval, such as ``+1.2 [-0.3, +2.6]`` in points."""
    value, low, high = (scale.text(v, sign) for v in (estimate.value, *estimate.interval()))
    return f"{value} [{low}, {high}]"


def format_difference(comparison: PairedComparison) -> str:
    """Format a mean difference as an estimate, or say in words that no resample shows a difference."""
    if comparison.mean.same:
        return "the same predictions" if comparison.identical else "the same decision on every test case"
    return format_estimate(comparison.mean, scale=comparison.scale)
