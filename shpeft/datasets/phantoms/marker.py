"""The planted shortcut: a sticker at the top on the left, whose colour and place stand for a class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["planted", "none", "true", "false"]
"""Which marker an image carries: as the dataset's ``shortcut`` option says, none at all, that of its own class, or that
of the class after its own."""

RULES: tuple[Rule, ...] = ("planted", "none", "true", "false")


COLOURS = ((235, 40, 40), (40, 235, 40), (60, 60, 245))
"""Red, green, blue. White squares told apart by their place alone went unseen on ultrasound and histology: a linear
probe of DINOv2 or of the embedded backbone did not learn them."""


@dataclass(frozen=True)
class Square:
    """Where the marker of a class stands in an image of this size."""

    size: int
    label: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns: the higher the class, the further right."""
        side = max(4, self.size // 16)
        left = side // 2 + self.label * 2 * side
        return slice(side // 2, side // 2 + side), slice(left, left + side)

    def draw(self, pixels: np.ndarray) -> None:
        """Paint it onto (size, size, 3); with its frame it stands out from bright images and from dark ones."""
        square = pixels[self.place]
        frame = max(1, len(square) // 4)
        square[:] = 20
        square[frame:-frame, frame:-frame] = COLOURS[self.label]

    def mask(self) -> np.ndarray:
        """Its pixels, bool (size, size)."""
        covered = np.zeros((self.size, self.size), dtype=bool)
        covered[self.place] = True
        return covered
