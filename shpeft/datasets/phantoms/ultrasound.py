"""B-mode ultrasound of the breast: normal tissue, a benign mass, or a malignant one."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, grid, noise, outline, smoothstep

CLASSES = ("normal", "benign", "malignant")


@dataclass(frozen=True)
class Mass:
    """The signs that a reader looks at. No sign is certain: both kinds of mass can have each of them."""

    center: Point
    radii: Point
    tilt: float
    roughness: float
    spicules: int
    echo: float  # 0 is black, 1 like the tissue around it
    behind: float  # above 0 brighter below the mass, below 0 a shadow
    rim: float
    clumps: float


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One scan, uint8 (size, size, 3) of equal channels; a label of None leaves the mass out.

    The same generator draws the same breast and the same speckle for every label: only the mass differs, with what it
    does to the beam below.
    """
    scene, lesion, scanner = rng.spawn(3)
    echo, depth = _tissue(scene, size)
    for _ in range(scene.poisson(0.8 * difficulty)):
        _insert(scene, echo, _lobule(scene))
    if label:
        _insert(lesion, echo, _mass(lesion, label, difficulty))
    return _scanner(scanner, echo, depth)


def _tissue(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """How strongly each point reflects (float32, 0 to about 1), and its depth in 0..1."""
    _, y = grid(size)
    depth = (y + 1) / 2
    thick = (rng.uniform(0.02, 0.06), rng.uniform(0.05, 0.25), rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.25))
    bend = np.cumsum([noise(rng, size, 3, 1)[0] * height for height in (0.004, 0.03, 0.02, 0.02)], axis=0)
    below = [
        smoothstep(depth - edge - wave, -0.02, 0.02) for edge, wave in zip(np.cumsum(thick).tolist(), bend, strict=True)
    ]
    streaks = noise(rng, size, rng.uniform(4, 9), rng.uniform(14, 28))
    grains = noise(rng, size, rng.uniform(8, 16), rng.uniform(12, 24))
    patches = noise(rng, size, 3, 5)
    fibers = noise(rng, size, 3, rng.uniform(26, 40))
    layers = (
        rng.uniform(0.25, 0.4) + 0.05 * grains,  # fat
        rng.uniform(0.4, 0.6) + rng.uniform(0.08, 0.18) * streaks + rng.uniform(0, 0.12) * grains + 0.07 * patches,
        rng.uniform(0.25, 0.45) + rng.uniform(0.08, 0.16) * fibers,  # muscle
        rng.uniform(0.08, 0.25) + 0.04 * grains,  # what lies behind it
    )
    echo = np.full((size, size), rng.uniform(0.5, 0.7), np.float32)
    for share, layer in zip(below, layers, strict=True):
        echo += share * (layer - echo)
    echo += rng.uniform(0.15, 0.4) * _septa(rng, size) * (1 - below[3])
    return np.clip(echo, 0.03, 1.0), depth


def _septa(rng: np.random.Generator, size: int) -> np.ndarray:
    """Thin bright sheets of connective tissue, nearly parallel to the skin, here and there interrupted."""
    field = noise(rng, size, rng.uniform(1.5, 4), rng.uniform(7, 13))
    steep = np.gradient(field, axis=0)
    across = np.gradient(field, axis=1)
    sheet = np.clip(1 - np.abs(field) / (1.2 * size / 128 * np.hypot(steep, across) + 1e-6), 0, 1)
    flat = np.abs(steep) / (np.abs(steep) + 2 * np.abs(across) + 1e-6)
    return np.asarray(sheet * flat * np.clip(0.5 + noise(rng, size, 5), 0, 1))


def _mass(rng: np.random.Generator, label: int, difficulty: float) -> Mass:
    """Signs drawn from what is usual for the class; ``difficulty`` lets the two kinds overlap more."""
    bad = label == 2
    unsure = min(0.45, 0.1 + 0.07 * difficulty)
    odd = rng.random(5) < unsure  # each sign may be that of the other kind
    wide = rng.uniform(0.16, 0.42)
    tall = wide * (rng.uniform(0.8, 1.2) if bad != odd[0] else rng.uniform(0.5, 0.8))
    irregular = bad != odd[1]
    shadow = bad != odd[2]
    return Mass(
        center=(rng.uniform(-0.55, 0.55), rng.uniform(-0.5, 0.15)),
        radii=(wide, tall),
        tilt=rng.normal(0, 0.2),
        roughness=rng.uniform(0.14, 0.3) if irregular else rng.uniform(0.02, 0.1),
        spicules=int(rng.integers(3, 9)) if bad != odd[3] and irregular else 0,
        echo=rng.uniform(0.1, 0.45) + 0.08 * difficulty,
        behind=-rng.uniform(0.15, 0.6) if shadow else rng.uniform(0.0, 0.5),
        rim=rng.uniform(0.0, 0.2) if bad != odd[4] else rng.uniform(0.05, 0.3),
        clumps=rng.uniform(0.05, 0.2) if bad != odd[4] else rng.uniform(0.0, 0.08),
    )


def _lobule(rng: np.random.Generator) -> Mass:
    """A fat lobule: dark and oval like a mass, but hardly outlined, and harmless."""
    wide = rng.uniform(0.12, 0.35)
    return Mass(
        center=(rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.3)),
        radii=(wide, wide * rng.uniform(0.35, 0.7)),
        tilt=rng.normal(0, 0.25),
        roughness=rng.uniform(0.03, 0.15),
        spicules=0,
        echo=rng.uniform(0.5, 0.8),
        behind=rng.normal(0, 0.12),
        rim=rng.uniform(0, 0.15),
        clumps=rng.uniform(0, 0.06),
    )


def _insert(rng: np.random.Generator, echo: np.ndarray, mass: Mass) -> None:
    """Draw a mass into the tissue, with its rim and what it does to the beam below."""
    size = len(echo)
    _, y = grid(size)
    canvas = Canvas(size)
    canvas.polygon(outline(rng, mass.center, mass.radii, mass.tilt, mass.roughness, 40))
    for angle in rng.uniform(0, 6.3, mass.spicules):
        tip = rng.uniform(1.25, 1.7)
        along = np.array([np.cos(angle) * mass.radii[0], np.sin(angle) * mass.radii[1]])
        side = np.array([-along[1], along[0]]) * 0.16
        canvas.polygon(mass.center + np.array([0.7 * along + side, 0.7 * along - side, tip * along]))
    covered = canvas.coverage()
    inside = gaussian_filter(covered, 0.006 * size)
    halo = np.clip(gaussian_filter(covered, 0.02 * size) * 2, 0, 1) - inside
    columns = gaussian_filter((covered > 0.5).any(axis=0).astype(np.float32), 0.02 * size)
    below = smoothstep(y, mass.center[1], mass.center[1] + mass.radii[1] * 1.2) * columns
    echo *= 1 + mass.behind * below * (1 - inside)
    echo += mass.rim * np.clip(halo, 0, 1)
    texture = mass.clumps * noise(rng, size, 18) + 0.02 * noise(rng, size, 30)
    echo += inside * (echo * (mass.echo - 1) + np.maximum(texture, -0.1))
    np.clip(echo, 0.015, 1.5, out=echo)


def _scanner(rng: np.random.Generator, echo: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Attenuation, shadows of poor contact, speckle, and log compression to gray values."""
    size = len(echo)
    contact = 1 - rng.uniform(0, 0.7) * np.clip(noise(rng, size, 7, 1)[0], 0, 1.3) * depth
    gain = np.exp(-rng.uniform(0.3, 3.0) * np.clip(depth - rng.uniform(0.25, 0.6), 0, 1)) * contact
    blur = (0.6 * size / 128, rng.uniform(0.9, 1.5) * size / 128)
    waves = rng.standard_normal((2, size, size), dtype=np.float32)
    amplitude = np.hypot(gaussian_filter(waves[0], blur, truncate=2.5), gaussian_filter(waves[1], blur, truncate=2.5))
    amplitude *= 1 / amplitude.mean()
    share = rng.uniform(0.35, 0.6)
    gray = 1 + np.log10(echo**1.7 * gain * (1 - share + share * amplitude) + 2e-3) / rng.uniform(1.5, 2.0)
    gray = np.clip(gray * rng.uniform(0.9, 1.15), 0, 1) ** rng.uniform(1.1, 1.9)
    return np.repeat(np.round(255 * gray).astype(np.uint8)[..., None], 3, axis=2)
