"""Axial T1-weighted MRI of the head after contrast: no tumor, a glioma-like one, or a meningioma-like one."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, bell, grid, noise, outline, rounded, smoothstep

CLASSES = ("normal", "glioma", "meningioma")

BRAIN = 0.85
"""The brain's surface, in units of the head's radius."""


@dataclass(frozen=True)
class Head:
    """The geometry of a head; u runs across it and v from the forehead back, both from -1 to 1."""

    center: Point
    radii: Point
    tilt: float
    egg: float  # how much narrower the forehead is
    level: float  # of the slice: 0 at the third ventricle, 1 above the ventricles

    def inside(self, points: np.ndarray) -> np.ndarray:
        """From u, v to the picture's x, y: (..., 2)."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        u, v = points[..., 0] * self.radii[0], points[..., 1] * self.radii[1]
        return np.stack([self.center[0] + u * cos - v * sin, self.center[1] + u * sin + v * cos], axis=-1)

    def coordinates(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """u, v and the distance from the middle (1 at the skin) of each pixel, float32 (size, size)."""
        x, y = grid(size)
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        x, y = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        u, v = (x * cos + y * sin) / np.float32(self.radii[0]), (y * cos - x * sin) / np.float32(self.radii[1])
        return u, v, np.hypot(u * (1 - np.float32(self.egg) * v), v)


@dataclass(frozen=True)
class Tumor:
    """The signs that a reader looks at. No sign is certain: both kinds can have each of them."""

    at: Point  # u, v
    radius: float
    roughness: float
    rim: float  # enhancement of the edge, in brain-white units
    core: float  # and of the middle
    edema: float  # how dark the brain around it becomes
    broad: bool  # it lies on the dura, with a tail


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One slice, uint8 (size, size, 3) of equal channels; a label of None leaves the tumor out.

    The same generator draws the same head and the same scanner noise for every label: only the tumor differs.
    """
    scene, disease, scanner = rng.spawn(3)
    head = _anatomy(scene)
    signal = _tissue(scene, head, size)
    _ventricles(scene, head, signal)
    _vessels(scene, head, signal)
    _lookalikes(scene, head, signal, difficulty)
    if label:
        _insert(disease, head, signal, _tumor(disease, label, difficulty))
    return _scanner(scanner, signal)


def _anatomy(rng: np.random.Generator) -> Head:
    long = rng.uniform(0.74, 0.93)
    return Head(
        center=(rng.normal(0, 0.03), rng.normal(0, 0.03)),
        radii=(long * rng.uniform(0.76, 0.88), long),
        tilt=rng.normal(0, 0.06),
        egg=rng.uniform(-0.02, 0.12),
        level=rng.uniform(0, 1),
    )


def _tissue(rng: np.random.Generator, head: Head, size: int) -> np.ndarray:
    """Scalp, skull, meninges, and the brain with its folds: float32 (size, size), about 0.5 in white matter."""
    u, v, r = head.coordinates(size)
    gray, white = 0.44 - rng.uniform(0, 0.1), 0.5
    r = r + 0.012 * noise(rng, size, 4)
    folds = np.abs(noise(rng, size, rng.uniform(16, 22), rng.uniform(18, 24)))
    outer = smoothstep(r, 0.35, 0.75)
    brain = white + (gray - white) * (1 - smoothstep(folds, 0.25, 0.7)) * (0.25 + 0.75 * outer)
    sulcus = rng.uniform(0.1, 0.24) * (1 - smoothstep(folds, 0.05, 0.28)) * outer
    brain = brain - sulcus + 0.02 * noise(rng, size, 5)
    for sign in (-1, 1):  # the deep nuclei
        deep = np.hypot((u - sign * 0.24) / 0.16, (v + 0.02) / 0.26)
        brain -= 0.05 * (1 - head.level) * (1 - smoothstep(deep, 0.7, 1.05))
    midline = np.abs(u + 0.015 * noise(rng, size, 2, 5))
    split = (1 - smoothstep(midline, 0.008, 0.03)) * smoothstep(np.abs(v), 0.4 - 0.4 * head.level, 0.5)
    brain -= 0.2 * split
    edge = rng.uniform(0.9, 0.93)
    signal = np.where(r < 1, rng.uniform(0.65, 1.0), 0.0) * smoothstep(1.02 - r, 0.0, 0.025)
    signal += smoothstep(edge + 0.03 - r, 0, 0.03) * (rng.uniform(0.04, 0.14) - signal)  # bone
    signal += smoothstep(BRAIN + 0.035 - r, 0, 0.02) * (rng.uniform(0.3, 0.55) - signal)  # dura
    signal += smoothstep(BRAIN + 0.015 - r, 0, 0.02) * (0.17 - signal)  # liquor
    signal += smoothstep(BRAIN - r + 0.03 * noise(rng, size, 14), 0, 0.04) * (brain - signal)
    falx = (1 - smoothstep(midline, 0.0, 0.013)) * smoothstep(np.abs(v), 0.45, 0.55) * (r < BRAIN)
    return np.asarray(signal + rng.uniform(0.05, 0.3) * falx, np.float32)


def _ventricles(rng: np.random.Generator, head: Head, signal: np.ndarray) -> None:
    """The lateral ventricles' horns, smaller the higher the slice, and the third one between them; choroid plexus."""
    size = len(signal)
    swell = rng.uniform(0.55, 1.25) * (1 - smoothstep(np.array(head.level), 0.7, 0.9))
    if swell < 0.1:
        return
    canvas, plexus = Canvas(size), Canvas(size)
    apart = rng.uniform(0.1, 0.16)
    for sign in (-1, 1):
        lean = rng.normal(1, 0.12)
        front = np.array([(0.03, -0.22), (0.1, -0.38), (0.2, -0.4), (0.16, -0.28), (0.07, -0.05), (0.03, -0.05)])
        back = np.array([(apart, 0.1), (apart + 0.12, 0.26), (apart + 0.16, 0.42), (apart + 0.09, 0.36), (apart, 0.22)])
        body = np.array([(0.03, -0.25), (0.08, -0.25), (0.12, 0.1), (0.17, 0.3), (0.11, 0.25), (0.04, 0.05)])
        for shape in (body,) if head.level > 0.45 else (front, back):
            middle = shape.mean(axis=0)
            corners = (middle + (shape - middle) * (swell * lean, 0.5 + 0.5 * swell)) * (sign, 1)
            canvas.polygon(head.inside(rounded(corners)))
        spot = np.array([sign * (apart + 0.06), 0.24]) + rng.normal(0, 0.015, 2)
        plexus.polygon(outline(rng, tuple(head.inside(spot)), (0.022, 0.03), sign, 0.15, 12))
    if head.level < 0.45:
        third = np.array([(-0.012, -0.06), (0.012, -0.06), (0.02, 0.1), (-0.02, 0.1)]) * (rng.uniform(0.7, 1.8), 1)
        canvas.polygon(head.inside(rounded(third)))
        signal += rng.uniform(0.1, 0.4) * plexus.coverage()
    signal += canvas.coverage() * (rng.uniform(0.12, 0.2) - signal)


def _vessels(rng: np.random.Generator, head: Head, signal: np.ndarray) -> None:
    """Enhanced vessels: the sinus at the back, and short bright threads and dots, most near the surface."""
    canvas = Canvas(len(signal))
    sinus = np.array([(0, BRAIN - 0.07), (0.05, BRAIN + 0.02), (-0.05, BRAIN + 0.02)]) * (rng.uniform(0.6, 1.3), 1)
    canvas.polygon(head.inside(sinus))
    for _ in range(rng.integers(8, 22)):
        angle, reach = rng.uniform(0, 6.3), BRAIN * rng.uniform(0.3, 1.0) ** 0.5
        origin = reach * np.array([np.cos(angle), np.sin(angle)])
        steps = np.cumsum(rng.normal(0, 0.025, (5, 2)), axis=0)
        canvas.line(head.inside(origin + steps[: rng.integers(2, 6)]), rng.uniform(0.008, 0.016))
    signal += rng.uniform(0.25, 0.6) * canvas.coverage() * np.clip(1 - signal, 0, 1)


def _lookalikes(rng: np.random.Generator, head: Head, signal: np.ndarray, difficulty: float) -> None:
    """Old scars, dark, and slightly bright patches such as coils and flow make."""
    size = len(signal)
    _, _, r = head.coordinates(size)
    for _ in range(rng.poisson(0.8 * difficulty)):
        spot = head.inside(rng.uniform(-0.55, 0.55, 2))
        patch = bell(size, tuple(spot), rng.uniform(0.05, 0.14)) * (1 + 0.25 * noise(rng, size, 9))
        signal += float(rng.choice((-1, 0.8))) * rng.uniform(0.03, 0.12) * smoothstep(patch, 0.25, 0.9) * (r < BRAIN)


def _tumor(rng: np.random.Generator, label: int, difficulty: float) -> Tumor:
    """Signs drawn from what is usual for the class; ``difficulty`` makes the kinds overlap and the enhancement weak."""
    outside = label == 2
    odd = rng.random(4) < min(0.45, 0.1 + 0.08 * difficulty)  # each sign may be that of the other kind
    radius = rng.uniform(0.14, 0.3) / (1 + 0.15 * difficulty)
    broad = outside != odd[0]
    angle = rng.uniform(0, 2 * np.pi)
    reach = BRAIN - 0.75 * radius if broad else rng.uniform(0.25, 0.6)
    bright = rng.uniform(0.28, 0.5) / (1 + 0.2 * difficulty)
    ring = outside == odd[1]
    return Tumor(
        at=(reach * np.cos(angle), reach * np.sin(angle)),
        radius=radius,
        roughness=rng.uniform(0.02, 0.1) if outside != odd[2] else rng.uniform(0.12, 0.26),
        rim=bright,
        core=rng.uniform(-0.25, -0.05) if ring else bright * rng.uniform(0.8, 1.0),
        edema=rng.uniform(0.05, 0.16) if outside == odd[3] else rng.uniform(0, 0.05),
        broad=broad,
    )


def _insert(rng: np.random.Generator, head: Head, signal: np.ndarray, tumor: Tumor) -> None:
    """Draw a tumor into the brain, with its edema and its tail on the dura."""
    size = len(signal)
    _, _, r = head.coordinates(size)
    center = tuple(head.inside(np.array(tumor.at)).tolist())
    radii = (tumor.radius * head.radii[0] * 1.1, tumor.radius * head.radii[0] * rng.uniform(0.75, 1.1))
    canvas = Canvas(size)
    canvas.polygon(outline(rng, center, radii, rng.uniform(0, 3.1), tumor.roughness, 40))
    if tumor.broad:
        angle = np.arctan2(tumor.at[1], tumor.at[0]) + np.linspace(-1, 1, 9) * tumor.radius * rng.uniform(1.2, 2.0)
        canvas.line(head.inside((BRAIN + 0.005) * np.stack([np.cos(angle), np.sin(angle)], axis=1)), 0.02)
    inside = gaussian_filter(canvas.coverage(), 0.005 * size, truncate=3) * smoothstep(BRAIN + 0.03 - r, 0, 0.02)
    depth = smoothstep(gaussian_filter(inside, tumor.radius * 0.14 * size, truncate=2.5), 0.55, 0.9)
    swollen = bell(size, center, tumor.radius * rng.uniform(0.7, 1.0)) * (1 + 0.3 * noise(rng, size, 7))
    signal -= tumor.edema * smoothstep(swollen, 0.2, 0.6) * smoothstep(BRAIN - r, 0, 0.05)
    texture = 0.05 * noise(rng, size, 12) + 0.03 * noise(rng, size, 24)
    level = 0.5 + tumor.rim + (tumor.core - tumor.rim) * depth + texture
    signal += inside * (level - signal)


def _scanner(rng: np.random.Generator, signal: np.ndarray) -> np.ndarray:
    """Coil shading, resolution, Rician noise, and the window."""
    size = len(signal)
    signal = signal * (1 + rng.uniform(0.02, 0.1) * noise(rng, size, 2))
    signal = gaussian_filter(signal, rng.uniform(0.3, 0.7) * size / 128, truncate=3)
    waves = rng.uniform(0.008, 0.028) * rng.standard_normal((2, size, size), dtype=np.float32)
    waves = gaussian_filter(waves, (0, 0.4 * size / 128, 0.4 * size / 128), truncate=3)
    gray = np.clip(np.hypot(signal + waves[0], waves[1]) / rng.uniform(0.85, 1.35), 0, 1) ** rng.uniform(0.9, 1.2)
    return np.repeat(np.round(255 * gray).astype(np.uint8)[..., None], 3, axis=2)
