"""The planted shortcut: a sticker at the top left whose color and position encode a class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["planted", "none", "true", "false"]
"""Which marker an image carries: as the dataset's ``shortcut`` option says, none at all, that of its own class, or that
of the class after its own."""

RULES: tuple[Rule, ...] = ("planted", "none", "true", "false")


COLORS = ((235, 40, 40), (40, 235, 40), (60, 60, 245))
"""Red, green, blue. White squares that differ in position alone are not learned on ultrasound and histology by a linear
probe of DINOv2 or of the embedded backbone."""


@dataclass(frozen=True)
class Square:
    """The position of a class's marker in an image of this size."""

    size: int
    label: int

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns: the higher the class, the further right."""
        side = max(4, self.size // 16)
        left = side // 2 + self.label * 2 * side
        return slice(side // 2, side // 2 + side), slice(left, left + side)

    def draw(self, pixels: np.ndarray) -> None:
        """Paint it onto (size, size, 3); with its frame it stands out from bright images and from dark ones."""
        square = pixels[self.region]
        frame = max(1, len(square) // 4)
        square[:] = 20
        square[frame:-frame, frame:-frame] = COLORS[self.label]

    def mask(self) -> np.ndarray:
        """Its pixels, bool (size, size)."""
        covered = np.zeros((self.size, self.size), dtype=bool)
        covered[self.region] = True
        return covered
