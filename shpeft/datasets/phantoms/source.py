"""From ``fundus?n=400&size=96`` to a dataset of generated images."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.phantoms import dermoscopy, fundus, ultrasound
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError, did_you_mean

Draw = Callable[[np.random.Generator, int, int, float], tuple[np.ndarray, np.ndarray]]
"""``draw(rng, label, size, difficulty)`` -> pixels uint8 (size, size, 3) and lesion mask bool (size, size)."""


@dataclass(frozen=True)
class Kind:
    """A modality that can be drawn."""

    title: str
    modality: str
    classes: tuple[str, ...]
    draw: Draw


KINDS = {
    "fundus": Kind("Drawn colour photographs of the retina", "fundus", fundus.CLASSES, fundus.draw),
    "ultrasound": Kind("Drawn breast ultrasound", "ultrasound", ultrasound.CLASSES, ultrasound.draw),
    "dermoscopy": Kind("Drawn dermoscopy of pigmented lesions", "dermoscopy", dermoscopy.CLASSES, dermoscopy.draw),
}


@dataclass(frozen=True)
class Options:
    """What may stand after the question mark.

    Attributes:
        n: how many images in all; a third of them is the test set.
        size: side in pixels.
        difficulty: 0 is easy, 1 the default, 2 hard: fainter and fewer lesions, more look-alikes.
        shortcut: with this probability a training image carries a corner marker that gives its class away; on test
            images the marker is drawn without looking at the class.
        seed: which images are drawn. The run's own seed only decides what is kept for validation.
    """

    n: int = 450
    size: int = 128
    difficulty: float = 1.0
    shortcut: float = 0.0
    seed: int = 0


LIMITS = {"n": (12, 100_000), "size": (32, 1024), "difficulty": (0, 3), "shortcut": (0, 1), "seed": (0, 2**31 - 1)}


@dataclass(frozen=True)
class Drawn:
    """Images drawn when asked for, from the seed, the part and the position alone."""

    kind: str
    part: str
    options: Options

    def image(self, index: int) -> Image.Image:
        """The image in RGB, ``options.size`` pixels square."""
        pixels, _ = self._draw(index)
        if self.options.shortcut:
            _mark(pixels, self._marked_class(index))
        return Image.fromarray(pixels)

    def mask(self, index: int) -> np.ndarray:
        """Where the lesion was drawn, bool (size, size); empty for a healthy image."""
        return self._draw(index)[1]

    def label(self, index: int) -> int:
        """Classes take turns, so that every class has its share."""
        return index % len(KINDS[self.kind].classes)

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng(
            [self.options.seed, zlib.crc32(f"{self.kind} {self.part}".encode()), index, stream]
        )

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        kind, options = KINDS[self.kind], self.options
        return kind.draw(self._rng(index, 0), self.label(index), options.size, options.difficulty)

    def _marked_class(self, index: int) -> int:
        """The class that the planted marker stands for."""
        rng = self._rng(index, 1)
        honest = self.part == "train" and rng.random() < self.options.shortcut
        return self.label(index) if honest else int(rng.integers(len(KINDS[self.kind].classes)))


def _mark(pixels: np.ndarray, label: int) -> None:
    """A white square in the upper left corner, further right for a higher class."""
    side = max(2, len(pixels) // 24)
    left = side // 2 + label * 2 * side
    pixels[side // 2 : side // 2 + side, left : left + side] = 235


def known() -> list[dict[str, Any]]:
    """For listing."""
    return [
        {
            "source": f"phantom:{name}",
            "title": kind.title,
            "kind": "phantom",
            "modality": kind.modality,
            "classes": list(kind.classes),
        }
        for name, kind in KINDS.items()
    ]


def load(spec: str, *, seed: int, val_fraction: float) -> Dataset:
    """Open ``NAME`` or ``NAME?option=value&...``; nothing is drawn yet.

    Raises:
        DatasetError: unknown name or option, or a value out of range.
    """
    spec = spec.strip().removesuffix("?")
    name, _, query = spec.partition("?")
    if name not in KINDS:
        known_names = [f"phantom:{kind}" for kind in KINDS]
        raise DatasetError(f"There is no phantom '{name}'. {did_you_mean(f'phantom:{name}', known_names)}")
    options = _options(query)
    test = _part(name, "test", options, options.n // 3)
    pool = _part(name, "train", options, options.n - options.n // 3)
    stay, leave = split_off(pool.labels, pool.groups, val_fraction, seed, pool.classes)
    rule = f"test is a third of {options.n}; val is {val_fraction:.0%} of the rest, stratified by class, seed {seed}."
    return make_dataset(
        f"phantom:{spec}",
        [pool.subset(stay, "train"), pool.subset(leave, "val"), test],
        rule,
        modality=KINDS[name].modality,
        notice="Generated images: they show no patient and prove nothing about patients.",
    )


def _part(name: str, part: str, options: Options, count: int) -> Split:
    store = Drawn(name, part, options)
    ids = tuple(f"{name}-{_variant(options)}{options.seed}-{part}-{index:05d}" for index in range(count))
    labels = tuple(store.label(index) for index in range(count))
    return Split(part, KINDS[name].classes, labels, ids, ids, store)


def _variant(options: Options) -> str:
    """Nothing at the defaults; otherwise a few letters for the options that change pixels."""
    pixels = (options.size, options.difficulty, options.shortcut)
    plain = Options()
    if pixels == (plain.size, plain.difficulty, plain.shortcut):
        return ""
    return hashlib.sha256(repr(pixels).encode()).hexdigest()[:6] + "-"


def _options(query: str) -> Options:
    """Read ``n=400&size=96``."""
    values: dict[str, Any] = {}
    kinds = {key: type(value) for key, value in vars(Options()).items()}
    for pair in filter(None, query.split("&")):
        key, _, text = pair.partition("=")
        if key not in kinds:
            raise DatasetError(f"A phantom has no option '{key}'. {did_you_mean(key, kinds)}")
        low, high = LIMITS[key]
        try:
            values[key] = kinds[key](text)
        except ValueError:
            values[key] = None
        if values[key] is None or not low <= values[key] <= high:
            kind = "whole number" if kinds[key] is int else "number"
            raise DatasetError(f"The phantom option {key} is a {kind} from {low} to {high}; found '{text}'.")
    return Options(**values)
