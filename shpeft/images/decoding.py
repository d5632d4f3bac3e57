"""How values of more than 8 bits become grey, and which frame of several is taken."""

import re
from dataclasses import dataclass

import numpy as np

from shpeft.errors import ConfigError, did_you_mean

CT_WINDOWS = {
    "lung": (-1350.0, 150.0),
    "mediastinum": (-160.0, 240.0),
    "abdomen": (-160.0, 240.0),
    "liver": (-45.0, 105.0),
    "brain": (0.0, 80.0),
    "subdural": (-65.0, 215.0),
    "stroke": (12.0, 52.0),
    "bone": (-450.0, 1350.0),
}
"""Usual windows of computed tomography, lowest and highest shown value in Hounsfield units (centre ± half the width):
lung -600/1500, mediastinum and abdomen 40/400, liver 30/150, brain 40/80, subdural 75/280, stroke 32/40, bone
450/1800."""

RANGE = re.compile(r"(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Decoding:
    """What to show of an image that has more than 8 bits or one frame.

    Attributes:
        window: ``auto`` is what the file itself asks for (a DICOM's VOI LUT or window), and the full range of its
            values where it asks for nothing; ``full`` is the full range; ``LOW:HIGH`` and the names of ``CT_WINDOWS``
            are in the file's own units (Hounsfield units in CT). Images of 8 bits are shown as they are.
        frame: counted from 0. None: the middle one of a DICOM, the first of an animation or a TIFF.

    Raises:
        ConfigError: a window that is none.
    """

    window: str = "auto"
    frame: int | None = None

    def __post_init__(self) -> None:
        if self.window in ("auto", "full"):
            return
        limits = self.limits
        if limits is None:
            raise ConfigError(
                f"There is no window {self.window!r}. Give auto, full, LOW:HIGH such as -160:240, or one of "
                f"{', '.join(CT_WINDOWS)}. {did_you_mean(self.window, ['auto', 'full', *CT_WINDOWS])}"
            )
        if not limits[0] < limits[1]:
            raise ConfigError(f"The window {self.window!r} is empty: its first number must be the smaller one.")

    @property
    def limits(self) -> tuple[float, float] | None:
        """The lowest and the highest value that are told apart; None where the image decides."""
        if self.window in CT_WINDOWS:
            return CT_WINDOWS[self.window]
        found = RANGE.fullmatch(self.window)
        return (float(found[1]), float(found[2])) if found else None


def to_8_bits(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Grey values of any range as uint8: from ``limits``, or from their smallest to their largest finite value.

    Values outside the limits become black or white. What is not a number becomes black.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    if limits is None:
        limits = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    low, high = limits
    shown = np.where(finite, values, low)
    return np.round(np.clip((shown - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
