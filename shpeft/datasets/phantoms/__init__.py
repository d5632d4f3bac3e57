"""Images generated in the process, each with its true lesion mask: to try everything without data or network."""

from shpeft.datasets.phantoms.source import known, load, marker_mask, with_marker

__all__ = ["known", "load", "marker_mask", "with_marker"]
