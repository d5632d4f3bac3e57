"""What the modalities are painted with: noise, blobs and soft edges on a square of side 2 around the origin."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each pixel's center in -1..1, float32 (size, size), not to be written to."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def noise(rng: np.random.Generator, size: int, columns: float, rows: float | None = None) -> np.ndarray:
    """Smooth noise with about ``columns`` x ``rows`` bumps: mean 0, deviation about 1, float32 (size, size)."""
    height, width = (max(2, round(count)) + 2 for count in (rows or columns, columns))
    coarse = rng.standard_normal((height, width), dtype=np.float32)
    box = (1, 1, width - 1, height - 1)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=box)) * 1.3


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(size: int, center: Point, radius: float) -> np.ndarray:
    """A Gaussian bump of height 1 whose deviation is ``radius``."""
    x, y = grid(size)
    return np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * radius**2))


def rounded(points: np.ndarray) -> np.ndarray:
    """A closed polygon (corners, 2) with its corners cut three times (Chaikin): smooth, and inside its hull."""
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def outline(
    rng: np.random.Generator, center: Point, radii: Point, tilt: float, roughness: float, corners: int = 28
) -> np.ndarray:
    """The corners (corners, 2) of an ellipse whose radius wanders by about ``roughness`` (0 is smooth, 0.3 ragged)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    waves = np.arange(2, 9)
    heights = rng.standard_normal(len(waves)) / waves**0.7
    wander = 1 + roughness * np.cos(angles[:, None] * waves + rng.uniform(0, 6.3, len(waves))) @ heights
    across, along = radii[0] * wander * np.cos(angles), radii[1] * wander * np.sin(angles)
    x = center[0] + across * np.cos(tilt) - along * np.sin(tilt)
    y = center[1] + across * np.sin(tilt) + along * np.cos(tilt)
    return np.stack([x, y], axis=1)


def grow(
    rng: np.random.Generator, starts: np.ndarray, headings: np.ndarray, bends: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Wandering paths (V, steps + 1, 2) and their directions; ``bends`` in radians per unit of length."""
    steps = 18
    travelled = np.linspace(0, 1, steps + 1)[None] * lengths[:, None]
    jitter = np.cumsum(rng.normal(0, 0.09, (len(starts), steps + 1)), axis=1)
    directions = headings[:, None] + bends[:, None] * travelled + jitter
    strides = np.stack([np.cos(directions), np.sin(directions)], axis=2) * (lengths / steps)[:, None, None]
    strides[:, 0] = 0
    return starts[:, None] + strides.cumsum(axis=1), directions


class Canvas:
    """Shapes drawn at three times the resolution, so that edges are soft."""

    OVER = 3

    def __init__(self, size: int) -> None:
        """An empty canvas that will cover ``size`` pixels square."""
        self.size = size
        self._image = Image.new("L", (size * self.OVER, size * self.OVER))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: np.ndarray, level: float = 1.0) -> None:
        """Fill a polygon, (corners, 2); a ``level`` below 1 fills it in part, whatever was there."""
        self._draw.polygon(self._scaled(points), fill=round(255 * level))

    def line(self, points: np.ndarray, width: float) -> None:
        """Draw a line through (points, 2); ``width`` in the square's units."""
        self._draw.line(self._scaled(points), fill=255, width=max(1, round(width * self.size * self.OVER / 2)))

    def trace(self, paths: np.ndarray, widths: np.ndarray, pieces: int) -> None:
        """Draw paths (V, points, 2) that thin out from piece to piece."""
        cuts = np.linspace(0, paths.shape[1] - 1, pieces + 1).astype(int)
        for path, width in zip(paths, widths, strict=True):
            for piece in range(pieces):
                self.line(path[cuts[piece] : cuts[piece + 1] + 1], float(width) * (1 - 0.22 * piece))

    def ellipses(self, centers: np.ndarray, radii: np.ndarray, tilts: np.ndarray, level: float = 1.0) -> None:
        """Fill ellipses: (N, 2) centers, (N, 2) radii across and along, (N,) tilts in radians."""
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        across, along = radii[:, :1] * np.cos(angles), radii[:, 1:] * np.sin(angles)
        cos, sin = np.cos(tilts)[:, None], np.sin(tilts)[:, None]
        corners = np.stack([across * cos - along * sin, across * sin + along * cos], axis=2) + centers[:, None]
        for corner in corners:
            self.polygon(corner, level)

    def coverage(self) -> np.ndarray:
        """How much of each pixel is covered: float32 (size, size) in 0..1."""
        return np.asarray(self._image.reduce(self.OVER), dtype=np.float32) / 255

    def _scaled(self, points: np.ndarray) -> list[float]:
        return ((np.asarray(points) + 1) * (self.size * self.OVER / 2)).ravel().tolist()
