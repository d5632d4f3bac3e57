"""Lung tissue under the microscope, hematoxylin and eosin: benign, an adenocarcinoma, or a squamous carcinoma."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from shpeft.datasets.phantoms.texture import Canvas, grid, noise, outline, smoothstep

CLASSES = ("benign", "adenocarcinoma", "squamous_cell_carcinoma")

HEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
EOSIN = np.array([0.10, 0.95, 0.28], np.float32)
"""How strongly each stain absorbs red, green and blue (Ruifrok and Johnston 2001)."""

UNIT = 0.085
"""A nucleus's radius, in units of half the picture."""


@dataclass
class Slide:
    """How much of each stain is where: float32 (size, size), 0 in empty glass, hematoxylin about 1 in a nucleus."""

    hematoxylin: np.ndarray
    eosin: np.ndarray

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.eosin)

    def cover(self, share: np.ndarray, hematoxylin: np.ndarray | float, eosin: np.ndarray | float) -> None:
        """Replace what is there by other amounts of stain, as far as ``share`` (0..1) says."""
        self.hematoxylin += share * (hematoxylin - self.hematoxylin)
        self.eosin += share * (eosin - self.eosin)


@dataclass(frozen=True)
class Nuclei:
    """Where nuclei lie and how they look: centers (N, 2), radii across and along (N, 2), tilts (N,)."""

    centers: np.ndarray
    radii: np.ndarray
    tilts: np.ndarray

    def stain(self, rng: np.random.Generator, slide: Slide, within: np.ndarray | float, pale: float) -> None:
        """Dark ovals; the more ``pale``, the more their chromatin lies at the rim, with a nucleolus in the middle."""
        canvas = Canvas(slide.size)
        canvas.ellipses(self.centers, self.radii, self.tilts)
        if pale:
            canvas.ellipses(self.centers, 0.66 * self.radii, self.tilts, 1 - pale)
            shift = self.centers + 0.3 * self.radii * rng.uniform(-1, 1, self.centers.shape)
            canvas.ellipses(shift, np.repeat(0.2 * self.radii[:, :1], 2, axis=1), self.tilts)
        chromatin = canvas.coverage() * within * (1 + 0.18 * noise(rng, slide.size, 40))
        np.maximum(slide.hematoxylin, chromatin, out=slide.hematoxylin)


def draw(rng: np.random.Generator, label: int | None, size: int, difficulty: float) -> np.ndarray:
    """One field of view, uint8 (size, size, 3); a label of None leaves the tumor out.

    The same generator draws the same lung, stain and focus for every label: only the tumor differs.
    """
    scene, disease, microscope = rng.spawn(3)
    slide = _lung(scene, size, difficulty)
    if label:
        _tumor(disease, slide, label, difficulty)
    return _microscope(microscope, slide)


def _scatter(rng: np.random.Generator, apart: float) -> np.ndarray:
    """Points (N, 2) about ``apart`` from each other, on a shaken hexagonal lattice that reaches over the edges."""
    across = np.arange(-1.1, 1.1 + apart, apart)
    x, y = np.meshgrid(across, np.arange(-1.1, 1.1 + apart, 0.87 * apart))
    x = x + np.where(np.arange(len(x)) % 2, apart / 2, 0)[:, None]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.normal(0, 0.2 * apart, points.shape)


def _cells(points: np.ndarray, size: int, step: int) -> np.ndarray:
    """Of each pixel how much further the second nearest point is than the nearest: 0 on the walls between cells.

    Worley (1996). Measured at one pixel in ``step``, since distances are smooth.
    """
    coarse = -(-size // step)
    x, y = grid(coarse)
    distances, _ = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], axis=1), k=2)
    gap = (distances[:, 1] - distances[:, 0]).astype(np.float32).reshape(coarse, coarse)
    return np.asarray(Image.fromarray(gap).resize((size, size), Image.Resampling.BILINEAR))


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The values of a field (size, size) at points (N, 2); those outside take the edge's."""
    size = len(field)
    column, row = np.clip(((points + 1) * size / 2).astype(int), 0, size - 1).T
    return np.asarray(field[row, column])


def _lung(rng: np.random.Generator, size: int, difficulty: float) -> Slide:
    """Air spaces between walls with capillaries; red cells and macrophages in them; here and there inflammation."""
    slide = Slide(np.zeros((size, size), np.float32), np.full((size, size), 0.02, np.float32))
    alveoli = _scatter(rng, rng.uniform(0.6, 1.2))
    gap = _cells(alveoli, size, 4)
    thick = rng.uniform(0.1, 0.24) * (1 + 0.45 * noise(rng, size, 3))
    wall = 1 - smoothstep(gap + 0.05 * noise(rng, size, 9) - thick, -0.03, 0.03)
    fibers = np.maximum(0, 1 - 2 * np.abs(noise(rng, size, 9, 15)))
    slide.cover(wall, 0.1 + 0.06 * noise(rng, size, 20), 0.38 + 0.12 * noise(rng, size, 7) + 0.15 * fibers)
    spots = _scatter(rng, rng.uniform(0.17, 0.24))
    spots = spots[_at(wall, spots) > 0.7]
    long = UNIT * rng.uniform(0.6, 1.0, len(spots))
    radii = np.stack([long, long * rng.uniform(0.4, 0.8, len(spots))], axis=1)
    Nuclei(spots, radii, rng.uniform(0, 3.1, len(spots))).stain(rng, slide, 1.0, 0.0)
    _blood(rng, slide)
    _macrophages(rng, slide, wall)
    _inflammation(rng, slide, difficulty)
    return slide


def _blood(rng: np.random.Generator, slide: Slide) -> None:
    """Red cells in heaps."""
    canvas = Canvas(slide.size)
    for _ in range(rng.poisson(1.5)):
        spots = rng.uniform(-1, 1, 2) + rng.normal(0, rng.uniform(0.08, 0.3), (rng.integers(4, 30), 2))
        round_ = 0.55 * UNIT * rng.uniform(0.7, 1.1, (len(spots), 2))
        canvas.ellipses(spots, round_, rng.uniform(0, 3.1, len(spots)))
    slide.cover(canvas.coverage() * 0.92, 0.04, rng.uniform(0.9, 1.3))


def _macrophages(rng: np.random.Generator, slide: Slide, wall: np.ndarray) -> None:
    """Large pale cells that lie free in the air spaces."""
    spots = rng.uniform(-1, 1, (rng.poisson(4), 2))
    spots = spots[_at(wall, spots) < 0.3]
    if not len(spots):
        return
    canvas = Canvas(slide.size)
    radii = 1.7 * UNIT * rng.uniform(0.8, 1.2, (len(spots), 2))
    canvas.ellipses(spots, radii, np.zeros(len(spots)))
    slide.cover(canvas.coverage() * 0.85, 0.22 + 0.08 * noise(rng, slide.size, 40), 0.35)
    Nuclei(spots + 0.3 * radii, 0.5 * radii, np.zeros(len(spots))).stain(rng, slide, 1.0, 0.3)


def _inflammation(rng: np.random.Generator, slide: Slide, difficulty: float) -> None:
    """What looks like tumor and is none: swollen solid tissue, crowds of lymphocytes, scars."""
    size = slide.size
    for _ in range(rng.poisson(0.6 * difficulty)):
        canvas = Canvas(size)
        wide = rng.uniform(0.25, 0.6)
        canvas.polygon(outline(rng, tuple(rng.uniform(-0.9, 0.9, 2)), (wide, wide * 0.7), rng.uniform(0, 3), 0.15))
        solid = gaussian_filter(canvas.coverage(), 0.012 * size)
        fibers = np.maximum(0, 1 - 2 * np.abs(noise(rng, size, 5, 12)))
        slide.cover(solid, 0.1 + 0.05 * noise(rng, size, 14), 0.42 + 0.18 * fibers + 0.08 * noise(rng, size, 6))
        crowd = _scatter(rng, rng.uniform(0.11, 0.2))
        crowd = crowd[_at(solid, crowd) > 0.6]
        radii = UNIT * rng.uniform(0.45, 0.85, (len(crowd), 2))
        Nuclei(crowd, radii, rng.uniform(0, 3.1, len(crowd))).stain(rng, slide, solid, rng.uniform(0.1, 0.3))


@dataclass(frozen=True)
class Growth:
    """The signs that a pathologist looks at. No sign is certain: both carcinomas can have each of them."""

    glands: float  # share of the nests that have a lumen
    borders: float  # how clearly the cells' edges stand out
    keratin: float  # how pink the cells are, and whether pearls lie among them
    oval: float  # length of a nucleus over its width
    pale: float


def _growth(rng: np.random.Generator, label: int, difficulty: float) -> Growth:
    """Signs drawn from what is usual for the class; ``difficulty`` makes the kinds overlap."""
    odd = rng.random(4) < min(0.45, 0.02 + 0.06 * difficulty)  # each sign may be that of the other kind
    squamous = np.full(4, label == 2) != odd
    return Growth(
        glands=rng.uniform(0.0, 0.15) if squamous[0] else rng.uniform(0.5, 1.0),
        borders=rng.uniform(0.6, 1.0) if squamous[1] else rng.uniform(0.0, 0.3),
        keratin=rng.uniform(0.45, 0.9) if squamous[2] else rng.uniform(0.0, 0.25),
        oval=rng.uniform(1.0, 1.35) if squamous[3] else rng.uniform(1.5, 2.2),
        pale=rng.uniform(0.25, 0.6),
    )


def _tumor(rng: np.random.Generator, slide: Slide, label: int, difficulty: float) -> None:
    """Nests of carcinoma in a fibrous bed, which take the place of a part of the lung."""
    size, growth = slide.size, _growth(rng, label, difficulty)
    canvas = Canvas(size)
    wide = rng.uniform(0.65, 1.1) / (1 + 0.15 * difficulty)
    center = tuple(rng.uniform(-0.6, 0.6, 2).tolist())
    canvas.polygon(outline(rng, center, (wide, wide * rng.uniform(0.65, 1.0)), rng.uniform(0, 3.1), 0.12))
    bed = gaussian_filter(canvas.coverage(), 0.008 * size, truncate=3)
    fibers = np.maximum(0, 1 - 2 * np.abs(noise(rng, size, 6, 13)))
    slide.cover(bed, 0.12 + 0.05 * noise(rng, size, 14), 0.36 + 0.2 * fibers)
    nests = _scatter(rng, rng.uniform(0.45, 0.7))
    gap = _cells(nests, size, 4)
    inside = smoothstep(gap + 0.04 * noise(rng, size, 8), 0.05, 0.1) * bed
    open_ = rng.random(len(nests)) < growth.glands
    hollow = np.where(open_, rng.uniform(0.1, 0.2, len(nests)), 0.0)
    lumen = _lumina(rng, nests, hollow, size) * inside
    cells = _scatter(rng, rng.uniform(0.16, 0.21))
    between = _cells(cells, size, 2)
    border = growth.borders * (1 - smoothstep(between, 0.012, 0.04))
    pink = 0.26 + 0.62 * growth.keratin + 0.06 * noise(rng, size, 8)
    slide.cover(inside, 0.3 - 0.25 * growth.keratin + 0.08 * noise(rng, size, 10), pink)
    slide.cover(inside * border, 0.12, 0.1 + 0.5 * growth.keratin)
    keep = (_at(inside, cells) > 0.5) & (_at(lumen, cells) < 0.3)
    cells = cells[keep]
    short = UNIT * rng.uniform(0.75, 1.1, len(cells))
    radii = np.stack([short * growth.oval**0.5, short / growth.oval**0.5], axis=1)
    Nuclei(cells, radii, _turned(cells, nests) + rng.normal(0, 0.3, len(cells))).stain(rng, slide, bed, growth.pale)
    _pearls(rng, slide, nests, inside, growth.keratin)
    slide.cover(lumen, 0.05, 0.05 + 0.05 * np.abs(noise(rng, size, 9)))


def _lumina(rng: np.random.Generator, nests: np.ndarray, hollow: np.ndarray, size: int) -> np.ndarray:
    """The open middles of glands."""
    canvas = Canvas(size)
    for nest, radius in zip(nests, hollow, strict=True):
        if radius:
            canvas.polygon(outline(rng, tuple(nest), (radius, radius * rng.uniform(0.5, 1)), rng.uniform(0, 3), 0.2))
    return canvas.coverage()


def _turned(cells: np.ndarray, nests: np.ndarray) -> np.ndarray:
    """The direction (N,) from each cell to the middle of its nest: the cells of a gland stand around its lumen."""
    _, own = cKDTree(nests).query(cells)
    x, y = (nests[own] - cells).T
    return np.asarray(np.arctan2(y, x))


def _pearls(rng: np.random.Generator, slide: Slide, nests: np.ndarray, inside: np.ndarray, keratin: float) -> None:
    """Whorls of keratin, deep pink, in the middle of some nests."""
    pearls = nests[rng.random(len(nests)) < keratin - 0.2]
    radii = rng.uniform(0.08, 0.16, (len(pearls), 1)) * rng.uniform(0.75, 1.2, (len(pearls), 2))
    tilts = rng.uniform(0, 3.1, len(pearls))
    canvas = Canvas(slide.size)
    for ring, level in ((1.0, 1.0), (0.75, 0.7), (0.6, 1.0), (0.4, 0.75), (0.25, 1.0)):
        canvas.ellipses(pearls, ring * radii, tilts, level)
    whorl = canvas.coverage()
    slide.cover(smoothstep(whorl, 0.1, 0.6) * inside, 0.05, 0.9 * whorl)


def _microscope(rng: np.random.Generator, slide: Slide) -> np.ndarray:
    """Stain strengths and hues of the laboratory, section thickness, lamp, focus and sensor noise (Beer-Lambert)."""
    size = slide.size
    hue = rng.normal(0, 0.05, (2, 3)).astype(np.float32)
    strengths = rng.uniform((0.8, 0.5), (1.25, 1.05)).tolist()
    thick = (1 + 0.05 * noise(rng, size, 3))[..., None]
    density = strengths[0] * slide.hematoxylin[..., None] * (HEMATOXYLIN + hue[0])
    density += strengths[1] * slide.eosin[..., None] * (EOSIN + hue[1])
    lamp = np.array([0.93, 0.9, 0.9]) + rng.uniform(-1, 1) * np.array([0.03, 0.0, -0.07]) + rng.normal(0, 0.01, 3)
    image = lamp.astype(np.float32) * np.exp(-np.clip(density, 0, None) * thick)
    image = gaussian_filter(image, (*(rng.uniform(0.25, 0.75) * size / 128,) * 2, 0), truncate=3)
    image += rng.uniform(0.004, 0.015) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.round(255 * np.clip(image, 0, 1)), dtype=np.uint8)
