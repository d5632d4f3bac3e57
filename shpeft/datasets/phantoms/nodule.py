"""Slices of a CT of the lung with one solid nodule, whose diameter in millimeters is the label."""

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, grid, grow, noise, outline, smoothstep

QUANTITY, UNIT = "diameter", "mm"

VALUES = (4.0, 30.0)
"""Smallest and largest diameter: a nodule is smaller than 30 mm, and one below 4 mm is rarely followed."""

FIELD = 80.0
"""Side of the field of view in millimeters."""


def draw(rng: np.random.Generator, value: float | None, size: int, difficulty: float) -> np.ndarray:
    """One slice, uint8 (size, size, 3) of equal channels; a value of None leaves the nodule out.

    The same generator draws the same lung for every diameter: only the nodule differs. The nodule is a wandering
    outline whose mean diameter is the value; ``difficulty`` makes it fainter, more ragged, and adds vessels.
    """
    scene, lesion, scanner = rng.spawn(3)
    lung = _lung(scene, size, difficulty)
    center = tuple(lesion.uniform(-0.45, 0.45, 2).tolist())
    strength = lesion.uniform(0.5, 0.8) / (1 + 0.35 * difficulty)
    stretch = float(np.sqrt(lesion.uniform(1.0, 1.0 + 0.25 * difficulty)))
    shape = lesion.spawn(1)[0]
    if value is not None:
        canvas, radius = Canvas(size), value / FIELD
        radii = (radius * stretch, radius / stretch)
        canvas.polygon(outline(shape, center, radii, shape.uniform(0, 3.2), 0.02 + 0.03 * difficulty, 40))
        lung += strength * canvas.coverage() * (0.95 - lung)
    return _scanner(scanner, lung, size)


def _lung(rng: np.random.Generator, size: int, difficulty: float) -> np.ndarray:
    """Aerated lung with vessels, and the chest wall at one side: float32 (size, size) in 0..1."""
    x, y = grid(size)
    lung = rng.uniform(0.1, 0.2) + 0.02 * noise(rng, size, 9) + 0.012 * noise(rng, size, 26)
    count = 3 + rng.poisson(2 + 2 * difficulty)
    canvas, origin = Canvas(size), rng.uniform(-0.3, 0.3, 2)
    headings = rng.uniform(0, 2 * np.pi, count)
    starts = origin + 0.15 * rng.standard_normal((count, 2))
    paths, _ = grow(rng, starts, headings, rng.normal(0, 0.5, count), rng.uniform(0.5, 1.5, count))
    canvas.trace(paths, rng.uniform(0.01, 0.045, count), pieces=4)
    lung += rng.uniform(0.25, 0.5) * canvas.coverage()
    angle = rng.uniform(0, 2 * np.pi)
    wall = smoothstep(x * np.cos(angle) + y * np.sin(angle) + 0.04 * noise(rng, size, 3), 0.82, 0.9)
    return np.asarray(lung + wall * (rng.uniform(0.6, 0.75) - lung), dtype=np.float32)


def _scanner(rng: np.random.Generator, lung: np.ndarray, size: int) -> np.ndarray:
    """Reconstruction kernel and noise."""
    image = gaussian_filter(lung, rng.uniform(0.3, 0.7) * size / 128, truncate=3)
    image = image + rng.uniform(0.01, 0.03) * rng.standard_normal(image.shape, dtype=np.float32)
    gray = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)
