"""The planted shortcut: a white square in the upper left corner whose place stands for a class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["planted", "none", "true", "false"]
"""Which marker an image carries: as the dataset's ``shortcut`` option says, none at all, that of its own class, or that
of the class after its own."""

RULES: tuple[Rule, ...] = ("planted", "none", "true", "false")


@dataclass(frozen=True)
class Square:
    """Where the marker of a class stands in an image of this size."""

    size: int
    label: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns: the higher the class, the further right."""
        side = max(2, self.size // 24)
        left = side // 2 + self.label * 2 * side
        return slice(side // 2, side // 2 + side), slice(left, left + side)

    def draw(self, pixels: np.ndarray) -> None:
        """Paint it onto (size, size, 3)."""
        pixels[self.place] = 235

    def mask(self) -> np.ndarray:
        """Its pixels, bool (size, size)."""
        covered = np.zeros((self.size, self.size), dtype=bool)
        covered[self.place] = True
        return covered
