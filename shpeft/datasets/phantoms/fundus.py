"""Color photographs of the retina: healthy, with hemorrhages (dark), or with hard exudates (bright)."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, bell, grid, grow, noise, outline, smoothstep

CLASSES = ("healthy", "haemorrhages", "exudates")

TONES = np.array(
    [
        [0.80, 0.42, 0.18],
        [0.60, 0.34, 0.13],
        [0.90, 0.55, 0.40],
        [0.60, 0.52, 0.42],
        [0.60, 0.22, 0.07],
        [0.74, 0.50, 0.16],
    ],
    dtype=np.float32,
)
"""Backgrounds met in screening: orange, brown, pink, hazy gray, dark red, yellow."""


@dataclass(frozen=True)
class Eye:
    """The geometry of an eye, in units in which the image extends from -1 to 1."""

    center: Point
    radius: float
    side: int  # +1: the optic disc is on the right
    disc: Point
    macula: Point

    def on_retina(self, rng: np.random.Generator, near: Point, spread: float) -> Point:
        """Return a random point on the retina around ``near``, outside the optic disc."""
        for _ in range(20):
            spot = (near[0] + spread * rng.standard_normal(), near[1] + spread * rng.standard_normal())
            inside = np.hypot(spot[0] - self.center[0], spot[1] - self.center[1]) < 0.82 * self.radius
            on_disc = np.hypot(spot[0] - self.disc[0], spot[1] - self.disc[1]) < 0.22 * self.radius
            if inside and not on_disc and max(abs(spot[0]), abs(spot[1])) < 0.93:
                return spot
        return self.macula


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One photograph, uint8 (size, size, 3); a label of None leaves the lesions out.

    The same generator draws the same eye and the same exposure for every label: only the lesions differ.
    """
    scene, lesions, camera = rng.spawn(3)
    eye = _anatomy(scene)
    image = _background(scene, eye, size)
    _vessels(scene, eye, image)
    _lookalikes(scene, eye, image, difficulty)
    if label == 1:
        _hemorrhages(lesions, eye, image, difficulty)
    elif label == 2:
        _exudates(lesions, eye, image, difficulty)
    return _camera(camera, eye, image)


def _anatomy(rng: np.random.Generator) -> Eye:
    side = 1 if rng.random() < 0.5 else -1
    radius = float(rng.uniform(0.88, 1.14))
    center = (float(rng.normal(0, 0.02)), float(rng.normal(0, 0.02)))
    macula = (center[0] - side * float(rng.uniform(-0.08, 0.3)), center[1] + float(rng.normal(0, 0.06)))
    disc = (macula[0] + side * float(rng.uniform(0.62, 0.74)) * radius, macula[1] - float(rng.uniform(-0.04, 0.1)))
    return Eye(center, radius, side, disc, macula)


def _background(rng: np.random.Generator, eye: Eye, size: int) -> np.ndarray:
    """Retina, macula and optic disc without vessels: float32 (size, size, 3)."""
    x, y = grid(size)
    tone = rng.dirichlet(np.full(len(TONES), 0.35)).astype(np.float32) @ TONES
    distance = np.hypot(x - eye.center[0], y - eye.center[1]) / eye.radius
    slope = rng.normal(0, 0.1, 2).tolist()
    light = 1.05 - rng.uniform(0.15, 0.5) * distance**2.5 + slope[0] * x + slope[1] * y
    light += 0.04 * noise(rng, size, 5) + 0.02 * noise(rng, size, 22)
    image: np.ndarray = tone * light[..., None]
    image += rng.uniform(0.0, 0.02) * noise(rng, size, 14, 24)[..., None] * np.array([1.0, 0.5, 0.2], np.float32)
    shade = rng.uniform(0.15, 0.45) * bell(size, eye.macula, 0.13 * eye.radius)
    image *= 1 - shade[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
    tall = rng.uniform(0.95, 1.15)
    off = np.hypot(x - eye.disc[0], (y - eye.disc[1]) / tall) / (eye.radius * rng.uniform(0.125, 0.16))
    pale = np.minimum(1, tone * 0.35 + rng.uniform(0.8, 1.05) * np.array([0.8, 0.66, 0.42], np.float32))
    rim = (1 - smoothstep(off, 0.75, 1.15))[..., None] * rng.uniform(0.7, 0.95)
    image += rim * (pale - image)
    image += (1 - smoothstep(off, 0.2, 0.6))[..., None] * np.array([0.08, 0.12, 0.12], np.float32)
    return image


def _vessels(rng: np.random.Generator, eye: Eye, image: np.ndarray) -> None:
    """Arteries and veins that leave the disc, bend around the macula, and branch twice."""
    side = np.array([1, -1, 1, -1])  # below and above; the first two are the arcades, the others run to the nose
    for thick, absorbed in ((0.020, (0.22, 0.46, 0.42)), (0.027, (0.36, 0.62, 0.5))):
        canvas = Canvas(len(image))
        swing = np.concatenate([rng.uniform(-0.25, 0.3, 2), rng.uniform(-1.2, -0.5, 2)])
        bends = np.concatenate([rng.uniform(0.7, 1.15, 2), rng.normal(0, 0.4, 2)]) * side * eye.side
        widths = thick * eye.radius * rng.uniform(0.75, 1.1, 4) * np.array([1, 1, 0.65, 0.65])
        lengths = np.array([1.9, 1.9, 0.9, 0.9]) * rng.uniform(0.85, 1.1, 4)
        paths, headings = grow(rng, np.tile(eye.disc, (4, 1)), side * (np.pi / 2 + eye.side * swing), bends, lengths)
        canvas.trace(paths, widths, pieces=3)
        for _ in range(2):
            twigs = np.repeat(np.arange(len(paths)), 3)
            at = rng.integers(3, paths.shape[1] - 3, len(twigs))
            turns = rng.choice((-1, 1), len(twigs)) * rng.uniform(0.4, 0.9, len(twigs))
            starts, tilts = paths[twigs, at], headings[twigs, at] + turns
            lengths = lengths[twigs] * rng.uniform(0.25, 0.5, len(twigs))
            widths = widths[twigs] * 0.58
            paths, headings = grow(rng, starts, tilts, -turns * 0.8, lengths)
            canvas.trace(paths, widths, pieces=1)
        image *= 1 - canvas.coverage()[..., None] * (rng.uniform(0.5, 1.0) * np.array(absorbed)).astype(np.float32)


def _hemorrhages(rng: np.random.Generator, eye: Eye, image: np.ndarray, difficulty: float) -> None:
    """Dots and blots of blood."""
    canvas = Canvas(len(image))
    near = eye.on_retina(rng, eye.macula, 0.3)
    for _ in range(round(rng.uniform(6, 14) / (1 + 0.5 * difficulty))):
        radius = eye.radius * rng.uniform(0.016, 0.045)
        radii = (radius, radius * rng.uniform(0.6, 1.0))
        canvas.polygon(outline(rng, eye.on_retina(rng, near, 0.28), radii, rng.uniform(0, 3.1), 0.25))
    covered = canvas.coverage()
    strength = rng.uniform(0.6, 0.95) / (1 + 0.25 * difficulty)
    image *= 1 - strength * covered[..., None] * np.array([0.55, 0.85, 0.8], np.float32)


def _exudates(rng: np.random.Generator, eye: Eye, image: np.ndarray, difficulty: float) -> None:
    """Small sharp deposits of fat, in rings and clusters."""
    canvas = Canvas(len(image))
    for _ in range(rng.integers(1, 3)):
        near = eye.on_retina(rng, eye.macula, 0.25)
        ring = eye.radius * rng.uniform(0.06, 0.16)
        for angle in rng.uniform(0, 6.3) + np.cumsum(
            rng.exponential(0.5, round(rng.uniform(6, 14) / (1 + 0.5 * difficulty)))
        ):
            reach = ring * rng.normal(1, 0.15)
            spot = (near[0] + reach * np.cos(angle), near[1] + reach * np.sin(angle))
            radius = eye.radius * rng.uniform(0.01, 0.026)
            canvas.polygon(outline(rng, spot, (radius, radius * 0.8), angle, 0.25, 14))
    covered = canvas.coverage()
    strength = rng.uniform(0.6, 0.95) / (1 + 0.25 * difficulty)
    image += strength * covered[..., None] * (np.array([0.98, 0.86, 0.5], np.float32) - image)


def _lookalikes(rng: np.random.Generator, eye: Eye, image: np.ndarray, difficulty: float) -> None:
    """What any eye may have: soft pale drusen, soft dark pigment, and a reflection."""
    size = len(image)
    pale, dark = Canvas(size), Canvas(size)
    for _ in range(rng.poisson(2 * difficulty)):
        radius = eye.radius * rng.uniform(0.012, 0.03)
        pale.polygon(outline(rng, eye.on_retina(rng, eye.macula, 0.3), (radius, radius), 0, 0.1, 14))
    for _ in range(rng.poisson(1.5 * difficulty)):
        radius = eye.radius * rng.uniform(0.015, 0.04)
        dark.polygon(
            outline(rng, eye.on_retina(rng, eye.macula, 0.4), (radius, radius * 0.7), rng.uniform(0, 3), 0.15, 14)
        )
    soft = 0.012 * size / 2
    light = gaussian_filter(pale.coverage(), soft)[..., None]
    image += rng.uniform(0.3, 0.6) * light * (np.array([0.9, 0.72, 0.4], np.float32) - image)
    image *= 1 - rng.uniform(0.3, 0.55) * gaussian_filter(dark.coverage(), soft)[..., None]
    if rng.random() < 0.3:
        glare = bell(size, eye.on_retina(rng, eye.center, 0.5), rng.uniform(0.06, 0.2))
        image += rng.uniform(0.04, 0.14) * glare[..., None] * np.array([0.8, 1.0, 1.1], np.float32)


def _camera(rng: np.random.Generator, eye: Eye, image: np.ndarray) -> np.ndarray:
    """Field of view, exposure, focus and sensor noise."""
    size = len(image)
    x, y = grid(size)
    image = gaussian_filter(image, (*(rng.uniform(0.25, 0.8) * size / 128,) * 2, 0), truncate=3)
    image = np.clip(image, 0, None) ** rng.uniform(0.85, 1.25) * rng.uniform(0.75, 1.1)
    image += rng.uniform(0.004, 0.018) * rng.standard_normal(image.shape, dtype=np.float32)
    distance = np.hypot(x - eye.center[0], y - eye.center[1]) / eye.radius
    seen = (1 - smoothstep(distance, 0.985, 1.0)) * (np.abs(y) < rng.uniform(0.92, 1.6))
    return np.asarray(np.round(255 * np.clip(image * seen[..., None], 0, 1)), dtype=np.uint8)
