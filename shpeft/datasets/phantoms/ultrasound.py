"""B-mode ultrasound of the breast: normal tissue, a benign mass, or a malignant one."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, grid, noise, outline, smoothstep

CLASSES = ("normal", "benign", "malignant")


@dataclass(frozen=True)
class Mass:
    """The signs that a reader looks at. No sign is certain: both kinds of mass can have each of them."""

    centre: Point
    radii: Point
    tilt: float
    roughness: float
    spicules: int
    echo: float  # 0 is black, 1 like the tissue around it
    behind: float  # above 0 brighter below the mass, below 0 a shadow
    rim: float
    clumps: float


def draw(rng: np.random.Generator, label: int, size: int, difficulty: float) -> tuple[np.ndarray, np.ndarray]:
    """One scan, uint8 (size, size, 3) of equal channels, and where its mass is, bool (size, size)."""
    echo, depth = _tissue(rng, size)
    mask = np.zeros((size, size), dtype=bool)
    for _ in range(rng.poisson(0.8 * difficulty)):
        _insert(rng, echo, _lobule(rng))
    if label:
        mask = _insert(rng, echo, _mass(rng, label, difficulty))
    return _scanner(rng, echo, depth), mask


def _tissue(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """How strongly each point reflects (float32, 0 to about 1), and its depth in 0..1."""
    _, y = grid(size)
    depth = (y + 1) / 2
    wave = np.cumsum([np.zeros(size), *(noise(rng, size, 3, 1)[0] * 0.03 for _ in range(3))], axis=0)
    edges = np.cumsum(
        [rng.uniform(0.03, 0.07), rng.uniform(0.08, 0.25), rng.uniform(0.25, 0.45), rng.uniform(0.1, 0.25)]
    )
    skin, fat, gland, muscle = (
        smoothstep(depth - edge - bend, -0.015, 0.015) for edge, bend in zip(edges, wave, strict=True)
    )
    streaks = noise(rng, size, rng.uniform(4, 9), rng.uniform(16, 34))
    grains = noise(rng, size, rng.uniform(10, 22), rng.uniform(14, 30))
    fibres = noise(rng, size, 3, rng.uniform(30, 50))
    echo = np.full((size, size), rng.uniform(0.6, 0.85), np.float32)
    echo += skin * (rng.uniform(0.3, 0.42) + 0.05 * grains - echo)
    echo += fat * (rng.uniform(0.45, 0.65) + rng.uniform(0.06, 0.14) * streaks + rng.uniform(0.02, 0.1) * grains - echo)
    echo += gland * (rng.uniform(0.3, 0.45) + rng.uniform(0.06, 0.14) * fibres - echo)
    echo += muscle * (rng.uniform(0.1, 0.3) + 0.04 * grains - echo)
    septa = np.maximum(0, 1 - np.abs(noise(rng, size, rng.uniform(2, 5), rng.uniform(5, 10))) * 9)
    echo += rng.uniform(0.1, 0.3) * septa * (1 - muscle)
    return np.clip(echo, 0.02, 1.2), depth


def _mass(rng: np.random.Generator, label: int, difficulty: float) -> Mass:
    """Signs drawn from what is usual for the class; ``difficulty`` lets the two kinds overlap more."""
    bad = label == 2
    unsure = min(0.45, 0.12 + 0.1 * difficulty)
    odd = rng.random(5) < unsure  # each sign may be that of the other kind
    wide = rng.uniform(0.16, 0.42)
    tall = wide * (rng.uniform(0.8, 1.2) if bad != odd[0] else rng.uniform(0.5, 0.8))
    irregular = bad != odd[1]
    shadow = bad != odd[2]
    return Mass(
        centre=(rng.uniform(-0.55, 0.55), rng.uniform(-0.5, 0.15)),
        radii=(wide, tall),
        tilt=rng.normal(0, 0.2),
        roughness=rng.uniform(0.14, 0.3) if irregular else rng.uniform(0.02, 0.1),
        spicules=int(rng.integers(3, 9)) if bad != odd[3] and irregular else 0,
        echo=rng.uniform(0.1, 0.45) + 0.12 * difficulty,
        behind=-rng.uniform(0.15, 0.6) if shadow else rng.uniform(0.0, 0.5),
        rim=rng.uniform(0.0, 0.2) if bad != odd[4] else rng.uniform(0.05, 0.3),
        clumps=rng.uniform(0.05, 0.2) if bad != odd[4] else rng.uniform(0.0, 0.08),
    )


def _lobule(rng: np.random.Generator) -> Mass:
    """A fat lobule: dark and oval like a mass, but hardly outlined, and harmless."""
    wide = rng.uniform(0.12, 0.35)
    return Mass(
        centre=(rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.3)),
        radii=(wide, wide * rng.uniform(0.35, 0.7)),
        tilt=rng.normal(0, 0.25),
        roughness=rng.uniform(0.03, 0.15),
        spicules=0,
        echo=rng.uniform(0.5, 0.8),
        behind=rng.normal(0, 0.12),
        rim=rng.uniform(0, 0.15),
        clumps=rng.uniform(0, 0.06),
    )


def _insert(rng: np.random.Generator, echo: np.ndarray, mass: Mass) -> np.ndarray:
    """Draw a mass into the tissue, with its rim and what it does to the beam below; its area is returned."""
    size = len(echo)
    _, y = grid(size)
    canvas = Canvas(size)
    canvas.polygon(outline(rng, mass.centre, mass.radii, mass.tilt, mass.roughness, 40))
    for angle in rng.uniform(0, 6.3, mass.spicules):
        tip = rng.uniform(1.25, 1.7)
        along = np.array([np.cos(angle) * mass.radii[0], np.sin(angle) * mass.radii[1]])
        side = np.array([-along[1], along[0]]) * 0.16
        corners = (0.7 * along + side, 0.7 * along - side, tip * along)
        canvas.polygon([(mass.centre[0] + dx, mass.centre[1] + dy) for dx, dy in corners])
    covered = canvas.coverage()
    inside = gaussian_filter(covered, 0.006 * size)
    halo = np.clip(gaussian_filter(covered, 0.02 * size) * 2, 0, 1) - inside
    columns = gaussian_filter((covered > 0.5).any(axis=0).astype(np.float32), 0.02 * size)
    below = smoothstep(y, mass.centre[1], mass.centre[1] + mass.radii[1] * 1.2) * columns
    echo *= 1 + mass.behind * below * (1 - inside)
    echo += mass.rim * np.clip(halo, 0, 1)
    texture = mass.clumps * noise(rng, size, 18) + 0.02 * noise(rng, size, 30)
    echo += inside * (echo * (mass.echo - 1) + np.maximum(texture, -0.1))
    np.clip(echo, 0.015, 1.5, out=echo)
    return covered > 0.5


def _scanner(rng: np.random.Generator, echo: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Attenuation, shadows of poor contact, speckle, and log compression to grey values."""
    size = len(echo)
    contact = 1 - rng.uniform(0, 0.5) * np.clip(noise(rng, size, 7, 1)[0], 0, 1.5) * depth
    gain = np.exp(-rng.uniform(0.2, 1.6) * np.clip(depth - rng.uniform(0.2, 0.6), 0, 1)) * contact
    blur = (0.55 * size / 128, rng.uniform(0.8, 1.3) * size / 128)
    waves = rng.standard_normal((2, size, size), dtype=np.float32)
    amplitude = np.hypot(gaussian_filter(waves[0], blur), gaussian_filter(waves[1], blur))
    amplitude /= amplitude.mean()
    decibel = 20 * np.log10(echo**1.6 * gain * (0.35 + 0.65 * amplitude) + 1e-3)
    grey = 1 + (decibel + rng.uniform(0, 4)) / rng.uniform(32, 46)
    grey = np.clip(grey, 0, 1) ** rng.uniform(1.0, 1.6)
    return np.repeat(np.round(255 * grey).astype(np.uint8)[..., None], 3, axis=2)
