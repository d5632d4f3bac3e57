"""Chest radiographs, front view: normal, with a pneumonia-like opacity, or with a pleural effusion."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shpeft.datasets.phantoms.texture import Canvas, Point, bell, grid, grow, noise, rounded, smoothstep

CLASSES = ("normal", "pneumonia", "effusion")

RIGHT, LEFT = 0, 1
"""The patient's sides: the right one is on the left of the picture."""


@dataclass(frozen=True)
class Chest:
    """The geometry of a chest; u runs across it and v down it, with 0 at the middle of the lungs."""

    center: Point
    scale: Point
    tilt: float
    domes: Point  # v of the two domes of the diaphragm
    heart: float  # width of its left border
    narrow: float  # how narrow the apices are

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Convert u, v to x, y in the image: (..., 2)."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        u, v = points[..., 0] * self.scale[0], points[..., 1] * self.scale[1]
        return np.stack([self.center[0] + u * cos - v * sin, self.center[1] + u * sin + v * cos], axis=-1)

    def coordinates(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return u and v of each pixel, float32 (size, size)."""
        x, y = grid(size)
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        x, y = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        return (x * cos + y * sin) / np.float32(self.scale[0]), (y * cos - x * sin) / np.float32(self.scale[1])

    def lung(self, side: int) -> np.ndarray:
        """Return the outline (corners, 2) of a lung in u, v."""
        dome, bulge = self.domes[side], self.heart if side == LEFT else 0.15
        points = [
            (0.30, -0.86), (0.46, -0.76), (0.58 - self.narrow, -0.52), (0.70, -0.1), (0.76, 0.3), (0.79, dome + 0.26),
            (0.70, dome + 0.12), (0.52, dome - 0.02), (0.34, dome - 0.03), (0.2, dome + 0.06), (bulge, dome + 0.04),
            (bulge, dome - 0.18), (0.13, -0.1), (0.14, -0.45), (0.18, -0.74),
        ]  # fmt: skip
        return np.array(points) * (1 if side == LEFT else -1, 1)


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One radiograph, uint8 (size, size, 3) of equal channels; a label of None leaves the disease out.

    The same generator draws the same chest and the same exposure for every label: only the disease differs. What is
    summed up is how much of the beam is absorbed.
    """
    scene, disease, exposure = rng.spawn(3)
    chest = _anatomy(scene)
    lungs = [_filled(chest, size, chest.lung(side), 0.012) for side in (RIGHT, LEFT)]
    absorbed = _soft_tissue(scene, chest, lungs, size)
    absorbed += _bones(scene, chest, size)
    absorbed += _vessels(scene, chest, size) * (lungs[RIGHT] + lungs[LEFT])
    absorbed += _lookalikes(scene, chest, size, difficulty)
    if label == 1:
        absorbed += _opacity(disease, chest, lungs, difficulty)
    elif label == 2:
        absorbed += _effusion(disease, chest, lungs, difficulty)
    return _detector(exposure, absorbed)


def _anatomy(rng: np.random.Generator) -> Chest:
    wide = rng.uniform(0.82, 1.08)
    low = rng.uniform(0.34, 0.5)
    return Chest(
        center=(rng.normal(0, 0.04), rng.normal(-0.05, 0.06)),
        scale=(wide, wide * rng.uniform(0.88, 1.08)),
        tilt=rng.normal(0, 0.03),
        domes=(low - rng.uniform(0.0, 0.08), low),
        heart=rng.uniform(0.28, 0.46),
        narrow=rng.uniform(0, 0.08),
    )


def _filled(chest: Chest, size: int, corners: np.ndarray, blur: float) -> np.ndarray:
    """Return the share of each pixel that a rounded shape covers."""
    canvas = Canvas(size)
    canvas.polygon(chest.inside(rounded(corners)))
    coverage: np.ndarray = gaussian_filter(canvas.coverage(), blur * size / 2, truncate=3)
    return coverage


def _soft_tissue(rng: np.random.Generator, chest: Chest, lungs: list[np.ndarray], size: int) -> np.ndarray:
    """The trunk with its two lungs full of air, the heart and great vessels, and what lies below the diaphragm."""
    u, v = chest.coordinates(size)
    half = np.array([(0.2, -1.6), (0.22, -1.06), (0.4, -0.98), (0.9, -0.86), (1.2, -0.55), (1.3, 0.0), (1.35, 1.6)])
    trunk = _filled(chest, size, np.concatenate([half, half[::-1] * (-1, 1)]), 0.01)
    gap = rng.uniform(0.93, 1.15)  # the arms hang away from the trunk
    trunk *= 1 - smoothstep(np.abs(u), gap, gap + 0.05) * smoothstep(v, -0.3, -0.1) * (rng.random() < 0.5)
    absorbed = trunk * (rng.uniform(0.75, 0.95) + 0.03 * noise(rng, size, 4) - 0.1 * np.abs(u))
    absorbed += 0.2 * smoothstep(v, 0.1, 0.9) * trunk
    air = rng.uniform(0.34, 0.54)
    for lung in lungs:
        absorbed -= lung * (air + 0.03 * noise(rng, size, 6) - 0.12 * smoothstep(v, -0.2, 0.6))
    middle = 1 - smoothstep(np.abs(u), 0.1, 0.2)
    absorbed += rng.uniform(0.05, 0.14) * middle * trunk
    heart = np.hypot((u - 0.3 * chest.heart) / (0.75 * chest.heart + 0.08), (v - chest.domes[1] + 0.14) / 0.36)
    absorbed += rng.uniform(0.06, 0.16) * (1 - smoothstep(heart, 0.75, 1.15))
    absorbed += 0.12 * smoothstep(bell(size, _at(chest, 0.15, -0.38), 0.07), 0.3, 0.8)  # the aortic knob
    absorbed -= 0.16 * (1 - smoothstep(np.abs(u + 0.01), 0.015, 0.05)) * (1 - smoothstep(v, -0.5, -0.35)) * trunk
    bubble = bell(size, _at(chest, rng.uniform(0.3, 0.45), chest.domes[1] + 0.2), rng.uniform(0.05, 0.12))
    absorbed -= rng.uniform(0, 0.25) * (rng.random() < 0.5) * smoothstep(bubble, 0.3, 0.7)
    return np.asarray(absorbed, np.float32)


def _at(chest: Chest, u: float, v: float) -> Point:
    """Convert a point in the chest to image coordinates."""
    x, y = chest.inside(np.array([u, v]))
    return float(x), float(y)


def _bones(rng: np.random.Generator, chest: Chest, size: int) -> np.ndarray:
    """Ribs behind and in front, spine, clavicles and shoulder blades."""
    u, v = chest.coordinates(size)
    out = np.abs(u) / 0.8
    cage = 1 - smoothstep(np.hypot(out, (v + 0.05) / 0.95), 0.93, 1.05)
    spacing, phase_0 = rng.uniform(0.165, 0.2), rng.uniform(0, 1)
    behind = (v + 0.17 * np.sin(np.pi * np.clip(out, 0, 1) ** 0.8) - 0.2 * out**2) / spacing + phase_0
    before = (v - 0.42 * (1 - out) + 0.1 * out**2) / spacing + phase_0
    bones = np.zeros((size, size), np.float32)
    for phase, strength in ((behind, rng.uniform(0.07, 0.15)), (before, rng.uniform(0.03, 0.07))):
        wave = np.cos(2 * np.pi * phase)
        bones += strength * (smoothstep(wave, 0.1, 0.5) - 0.35 * smoothstep(wave, 0.55, 0.95))
    bones *= cage * smoothstep(np.abs(u), 0.08, 0.14)
    spine = 1 - smoothstep(np.abs(u), 0.07, 0.1)
    bones += spine * (0.07 + 0.03 * smoothstep(np.cos(2 * np.pi * v / rng.uniform(0.1, 0.13)), -0.2, 0.6))
    canvas, rise = Canvas(size), rng.uniform(-0.02, 0.14)
    for sign in (-1, 1):
        along = np.linspace(0.07, 0.8, 12)
        path = np.stack([sign * along, -0.68 - rise * along + 0.05 * np.sin(6 * along)], axis=1)
        canvas.line(chest.inside(path), 0.05 * chest.scale[0])
    bones += rng.uniform(0.08, 0.14) * canvas.coverage()
    blade = Canvas(size)
    for sign in (-1, 1):
        corners = np.array([(0.72, -0.62), (1.0, -0.55), (0.86, -0.05), (0.76, 0.0)]) + rng.normal(0, 0.03, 2)
        blade.polygon(chest.inside(rounded(corners * (sign, 1))))
    return np.asarray(bones + rng.uniform(0.02, 0.09) * blade.coverage(), np.float32)


def _vessels(rng: np.random.Generator, chest: Chest, size: int) -> np.ndarray:
    """Both hila, and the arteries that fan out from them and branch twice."""
    canvas = Canvas(size)
    hila = np.repeat([(-0.17, -0.12), (0.19, -0.15)], 7, axis=0) + rng.normal(0, 0.03, (14, 2))
    fan = np.concatenate([np.pi + np.linspace(-1.2, 1.2, 7), np.linspace(-1.2, 1.2, 7)])
    lengths = rng.uniform(0.35, 0.7, 14)
    widths = rng.uniform(0.014, 0.024, 14)
    paths, headings = grow(rng, hila, fan + rng.normal(0, 0.15, 14), rng.normal(0, 0.6, 14), lengths)
    canvas.trace(chest.inside(paths), widths, pieces=3)
    for _ in range(2):
        twigs = np.repeat(np.arange(len(paths)), 2)
        at = rng.integers(2, paths.shape[1] - 4, len(twigs))
        turns = rng.choice((-1, 1), len(twigs)) * rng.uniform(0.3, 0.8, len(twigs))
        lengths, widths = lengths[twigs] * rng.uniform(0.4, 0.65, len(twigs)), widths[twigs] * 0.62
        paths, headings = grow(rng, paths[twigs, at], headings[twigs, at] + turns, -0.6 * turns, lengths)
        canvas.trace(chest.inside(paths), widths, pieces=1)
    lines = gaussian_filter(canvas.coverage(), 0.5 * size / 128)
    hilum = sum(smoothstep(bell(size, _at(chest, *spot), 0.08), 0.2, 0.9) for spot in ((-0.16, -0.1), (0.18, -0.14)))
    return np.asarray(rng.uniform(0.12, 0.22) * lines + rng.uniform(0.06, 0.16) * hilum, np.float32)


def _lookalikes(rng: np.random.Generator, chest: Chest, size: int, difficulty: float) -> np.ndarray:
    """Draw absorption without disease: breasts, dense patches of the chest wall, scars, leads and a letter."""
    shadow = np.zeros((size, size), np.float32)
    breasts = rng.uniform(0, 0.16) * (rng.random() < 0.5)
    for sign in (-1, 1):
        breast = bell(size, _at(chest, sign * rng.uniform(0.4, 0.5), rng.uniform(0.15, 0.3)), 0.26)
        shadow += breasts * smoothstep(breast, 0.25, 0.6)
    for _ in range(rng.poisson(0.8 * difficulty)):
        patch = bell(size, _at(chest, *rng.uniform(-0.6, 0.6, 2)), rng.uniform(0.1, 0.25))
        shadow += rng.uniform(0.02, 0.08) * smoothstep(patch, 0.1, 0.9)
    lines = Canvas(size)
    for _ in range(rng.poisson(0.5)):
        origin = rng.uniform(-1, 1, 2)
        path, _ = grow(rng, origin[None], rng.uniform(0, 6.3, 1), rng.normal(0, 1.5, 1), rng.uniform(0.5, 1.6, 1))
        lines.line(path[0], 0.012)
    if rng.random() < 0.6:
        corner = np.array([rng.choice((-0.88, 0.82)), rng.uniform(-0.9, -0.6)])
        lines.line(corner + np.array([(0, 0), (0, 0.1), (0.06, 0.1)]), 0.022)  # the letter L
    return np.asarray(shadow + rng.uniform(0.2, 0.5) * lines.coverage(), np.float32)


def _opacity(rng: np.random.Generator, chest: Chest, lungs: list[np.ndarray], difficulty: float) -> np.ndarray:
    """One to three patches of lung in which fluid has taken the place of air; their middles are densest."""
    size = len(lungs[0])
    side = int(rng.integers(2))
    added = np.zeros((size, size), np.float32)
    strength = rng.uniform(0.28, 0.46) / (1 + 0.3 * difficulty)
    for _ in range(rng.integers(1, 4)):
        sign = 1 if side == LEFT else -1
        center = _at(chest, sign * rng.uniform(0.25, 0.62), rng.uniform(-0.5, chest.domes[side] - 0.05))
        cloud = bell(size, center, rng.uniform(0.1, 0.22))
        cloud = smoothstep(cloud * (1 + 0.28 * noise(rng, size, 7) + 0.2 * noise(rng, size, 16)), 0.25, 1.0)
        added += cloud * lungs[side] * (1 - added / strength) * strength
        side = side if rng.random() < 0.7 else 1 - side
    return added


def _effusion(rng: np.random.Generator, chest: Chest, lungs: list[np.ndarray], difficulty: float) -> np.ndarray:
    """Fluid that fills the angle between diaphragm and chest wall, and creeps up along the wall."""
    size = len(lungs[0])
    side = int(rng.integers(2))
    u, v = chest.coordinates(size)
    level = chest.domes[side] + 0.16 - rng.uniform(0.06, 0.46) / (1 + 0.4 * difficulty)
    meniscus = rng.uniform(0.2, 0.45) * np.clip(np.abs(u) / 0.78, 0, 1.1) ** 3
    wet = smoothstep(v + meniscus + 0.01 * noise(rng, size, 6), level + 0.05, level + 0.16)
    return np.asarray(rng.uniform(0.3, 0.45) / (1 + 0.2 * difficulty) * wet * lungs[side], np.float32)


def _detector(rng: np.random.Generator, absorbed: np.ndarray) -> np.ndarray:
    """Focus, exposure, the film's curve, quantum noise, and the collimator's edge on one image in six."""
    size = len(absorbed)
    x, y = grid(size)
    absorbed = gaussian_filter(absorbed, rng.uniform(0.3, 0.7) * size / 128, truncate=3)
    absorbed += rng.uniform(0.006, 0.02) * rng.standard_normal((size, size), dtype=np.float32)
    low, high = rng.uniform(0.05, 0.25), rng.uniform(1.15, 1.45)
    gray = np.clip((absorbed - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.25)
    if rng.random() < 1 / 6:
        edges = rng.uniform(0.82, 1.0, 4)
        field = (x > -edges[0]) & (x < edges[1]) & (y > -edges[2]) & (y < edges[3])
        gray = np.where(field, gray, rng.choice((0.02, 0.95)))
    return np.repeat(np.round(255 * gray).astype(np.uint8)[..., None], 3, axis=2)
