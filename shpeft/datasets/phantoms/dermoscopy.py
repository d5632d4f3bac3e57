"""Dermoscopy of pigmented lesions of the skin: nevus, melanoma, or seborrhoeic keratosis."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, bell, grid, noise, outline, smoothstep

CLASSES = ("nevus", "melanoma", "seborrhoeic_keratosis")

SKIN = np.array([[0.86, 0.68, 0.58], [0.90, 0.76, 0.70], [0.80, 0.62, 0.46], [0.85, 0.55, 0.50], [0.76, 0.70, 0.68]])
BROWN = np.array([[0.58, 0.38, 0.22], [0.46, 0.29, 0.17], [0.64, 0.42, 0.28], [0.36, 0.22, 0.14]])
ALARM = np.array([[0.13, 0.09, 0.09], [0.36, 0.38, 0.46], [0.70, 0.32, 0.28], [0.84, 0.76, 0.72]])
"""Black, blue-gray, red and scar-like white: the suspicious colors in a pigmented lesion."""


@dataclass(frozen=True)
class Signs:
    """Asymmetry, border, colors and structures, as a dermatologist scores them. No sign is certain."""

    center: Point
    radii: Point
    roughness: float
    edge: float  # width over which the border fades
    colors: int  # alarming colors
    patchiness: float
    network: float  # strength of the pigment network
    lean: float  # how far the pigment lies to one side
    cysts: int  # white milia-like dots and dark pores
    sheen: float


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One image, uint8 (size, size, 3). Every class has a lesion; a label of None leaves it out.

    The same generator draws the same skin, hairs and exposure for every label: only the lesion differs.
    """
    scene, lesion, camera = rng.spawn(3)
    image = _skin(scene, size)
    if label is not None:
        _lesion(lesion, image, _signs(lesion, label, difficulty))
    _hairs(scene, image)
    return _camera(camera, image)


def _signs(rng: np.random.Generator, label: int, difficulty: float) -> Signs:
    """Signs drawn from what is usual for the class, each with a chance of being another class's."""
    unsure = min(0.45, 0.1 + 0.1 * difficulty)
    like = np.where(rng.random(6) < unsure, rng.integers(3, size=6), label)
    wide = rng.uniform(0.3, 0.55) if like[0] != 1 else rng.uniform(0.4, 0.7)
    return Signs(
        center=(rng.normal(0, 0.1), rng.normal(0, 0.1)),
        radii=(wide, wide * rng.uniform(0.7, 1.0)),
        roughness=rng.uniform(0.12, 0.26) if like[1] == 1 else rng.uniform(0.03, 0.13),
        edge=rng.uniform(0.02, 0.05) if like[1] == 2 else rng.uniform(0.06, 0.16),
        colors=int(rng.integers(1, 4)) if like[2] == 1 else int(rng.random() < 0.2),
        patchiness=rng.uniform(0.15, 0.35) if like[3] == 1 else rng.uniform(0.03, 0.15),
        network=rng.uniform(0.1, 0.35) * (0.3 if like[3] == 2 else 1),
        lean=rng.uniform(0.3, 0.7) if like[4] == 1 else rng.uniform(0, 0.2),
        cysts=int(rng.integers(4, 14)) if like[5] == 2 else int(rng.poisson(0.7)),
        sheen=rng.uniform(0.1, 0.35) if like[5] == 2 else rng.uniform(0, 0.1),
    )


def _skin(rng: np.random.Generator, size: int) -> np.ndarray:
    """Skin with its furrows and freckles: float32 (size, size, 3)."""
    tone = rng.dirichlet(np.full(len(SKIN), 0.4)) @ SKIN
    light = 1 + 0.05 * noise(rng, size, 3) + 0.02 * noise(rng, size, 20)
    light -= rng.uniform(0, 0.06) * np.maximum(0, 1 - 4 * np.abs(noise(rng, size, 11)))
    image: np.ndarray = (tone * light[..., None]).astype(np.float32)
    red = rng.uniform(0, 0.07) * np.clip(noise(rng, size, 6), 0, 2)
    image -= red[..., None] * np.array([0.2, 1.0, 0.9], np.float32)
    freckles = rng.uniform(0, 0.25) * smoothstep(noise(rng, size, 12), 1.2, 2.2)
    image *= 1 - freckles[..., None] * np.array([0.3, 0.55, 0.7], np.float32)
    return image


def _lesion(rng: np.random.Generator, image: np.ndarray, signs: Signs) -> None:
    """Paint the lesion over the skin."""
    size = len(image)
    x, y = grid(size)
    shape = Canvas(size)
    tilt = rng.uniform(0, np.pi)
    shape.polygon(outline(rng, signs.center, signs.radii, tilt, signs.roughness, 48))
    covered = shape.coverage()
    inside = gaussian_filter(covered, signs.edge * size / 2)
    inside = smoothstep(inside + 0.06 * noise(rng, size, 14) * inside * (1 - inside) * 4, 0.25, 0.85)
    color = (rng.dirichlet(np.full(len(BROWN), 0.5)) @ BROWN).astype(np.float32)
    pigment = (
        color
        * (
            1
            + signs.patchiness * (0.8 * noise(rng, size, 6) + 0.5 * noise(rng, size, 13))
            + 0.05 * noise(rng, size, 24)
        )[..., None]
    )
    for alarm in rng.permutation(len(ALARM))[: signs.colors]:
        where = rng.uniform(0.3, 0.75) * np.array(signs.radii) * rng.choice((-1, 1), 2)
        spot = bell(size, (signs.center[0] + where[0], signs.center[1] + where[1]), rng.uniform(0.1, 0.22))
        share = smoothstep(spot + 0.18 * noise(rng, size, 8), 0.35, 0.8)[..., None]
        pigment += rng.uniform(0.6, 0.95) * share * (ALARM[alarm].astype(np.float32) - pigment)
    mesh = np.maximum(0, 1 - 2.5 * np.abs(noise(rng, size, rng.uniform(16, 24))))
    pigment *= 1 - signs.network * mesh[..., None]
    pigment += signs.sheen * (np.array([0.62, 0.52, 0.44], np.float32) - pigment)
    side = rng.uniform(0, 2 * np.pi)
    tilted = (x - signs.center[0]) * np.cos(side) + (y - signs.center[1]) * np.sin(side)
    depth = rng.uniform(0.65, 0.95) * inside * (1 - signs.lean * smoothstep(tilted, -0.25, 0.35))
    image += depth[..., None] * (pigment - image)
    _cysts(rng, image, signs)


def _cysts(rng: np.random.Generator, image: np.ndarray, signs: Signs) -> None:
    """Milia-like cysts (white) and plugged pores (dark brown)."""
    for tint in ((0.90, 0.84, 0.72), (0.20, 0.13, 0.08)):
        canvas = Canvas(len(image))
        for _ in range(rng.integers(signs.cysts + 1)):
            angle, reach = rng.uniform(0, 6.3), 0.8 * np.sqrt(rng.random())
            spot = (
                signs.center[0] + reach * signs.radii[0] * np.cos(angle),
                signs.center[1] + reach * signs.radii[1] * np.sin(angle),
            )
            radius = rng.uniform(0.012, 0.035)
            canvas.polygon(outline(rng, spot, (radius, radius), 0, 0.1, 12))
        image += rng.uniform(0.5, 0.85) * canvas.coverage()[..., None] * (np.array(tint, np.float32) - image)


def _hairs(rng: np.random.Generator, image: np.ndarray) -> None:
    """Bent dark hairs, on one image in three."""
    if rng.random() > 0.35:
        return
    canvas = Canvas(len(image))
    for _ in range(rng.integers(2, 14)):
        origin, heading, bend = rng.uniform(-1, 1, 2), rng.uniform(0, 6.3), rng.normal(0, 0.8)
        along = np.linspace(0, rng.uniform(0.3, 1.2), 14)
        angles = heading + bend * along
        path = origin + np.stack([np.cos(angles), np.sin(angles)], axis=1).cumsum(axis=0) * along[1]
        canvas.line(path, rng.uniform(0.008, 0.018))
    image *= 1 - rng.uniform(0.5, 0.85) * canvas.coverage()[..., None]


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """White balance, focus, noise, and the round edge of the dermatoscope on one image in five."""
    size = len(image)
    x, y = grid(size)
    image = gaussian_filter(image, (*(rng.uniform(0.2, 0.8) * size / 128,) * 2, 0), truncate=3)
    image = image * (rng.uniform(0.85, 1.08) * rng.normal(1, 0.04, 3)).astype(np.float32)
    image += rng.uniform(0.004, 0.02) * rng.standard_normal(image.shape, dtype=np.float32)
    distance = np.hypot(x, y)
    image *= (1 - rng.uniform(0, 0.25) * distance**2)[..., None]
    if rng.random() < 0.2:
        image *= (1 - smoothstep(distance, *(rng.uniform(0.95, 1.2) + np.array([0, 0.06]))))[..., None]
    return np.asarray(np.round(255 * np.clip(image, 0, 1)), dtype=np.uint8)
