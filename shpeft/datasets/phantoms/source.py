"""From ``fundus?n=400&size=96`` to a dataset of generated images."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from shpeft.datasets.base import Dataset, Rows, Split, make_dataset
from shpeft.datasets.phantoms import chest_xray, dermoscopy, fundus, histology, mri, nodule, ultrasound
from shpeft.datasets.phantoms.marker import RULES, Rule, Square
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError, did_you_mean
from shpeft.tasks import SINGLE_LABEL, Regression, Task

Draw = Callable[[np.random.Generator, Any, int, float], np.ndarray]
"""``draw(rng, label, size, difficulty)`` -> pixels uint8 (size, size, 3). A label of None leaves the lesion out;
the pixels that differ then are the lesion's. What is around it comes from the generator, which knows no label."""


@dataclass(frozen=True)
class Kind:
    """A modality that can be drawn.

    Attributes:
        classes: the classes; of a regression the name of its quantity.
        task: what the labels are.
        values: of a regression, the smallest and the largest number.
    """

    title: str
    modality: str
    classes: tuple[str, ...]
    draw: Draw
    task: Task = SINGLE_LABEL
    values: tuple[float, float] = (0.0, 0.0)


KINDS = {
    "fundus": Kind("Drawn color photographs of the retina", "fundus", fundus.CLASSES, fundus.draw),
    "dermoscopy": Kind("Drawn dermoscopy of pigmented lesions", "dermoscopy", dermoscopy.CLASSES, dermoscopy.draw),
    "chest_xray": Kind("Drawn chest radiographs", "chest radiograph", chest_xray.CLASSES, chest_xray.draw),
    "ultrasound": Kind("Drawn breast ultrasound", "ultrasound", ultrasound.CLASSES, ultrasound.draw),
    "mri": Kind("Drawn MRI slices of the head", "MRI", mri.CLASSES, mri.draw),
    "histology": Kind("Drawn lung tissue under the microscope", "histopathology", histology.CLASSES, histology.draw),
}
"""The phantoms with classes."""

MEASURED = {
    "nodule": Kind(
        "Drawn CT slices of a lung nodule, and its diameter",
        "CT",
        (nodule.QUANTITY,),
        nodule.draw,
        Regression(unit=nodule.UNIT),
        nodule.VALUES,
    ),
}
"""The phantoms with a number."""

EVERY = KINDS | MEASURED


@dataclass(frozen=True)
class Options:
    """What may stand after the question mark.

    Attributes:
        n: how many images in all; a third of them is the test set.
        size: side in pixels.
        difficulty: 0 is easy, 1 the default, 2 hard: fainter and fewer lesions, more look-alikes.
        shortcut: with this probability a training image carries a corner marker that gives its class away; on test
            images the marker is drawn without looking at the class.
        lesions: 0 leaves all lesions out, as a control: the labels stay, and nothing can do better than chance.
        seed: which images are drawn. The run's own seed only decides what is kept for validation.
    """

    n: int = 450
    size: int = 128
    difficulty: float = 1.0
    shortcut: float = 0.0
    lesions: int = 1
    seed: int = 0


LIMITS = {
    "n": (12, 100_000),
    "size": (32, 1024),
    "difficulty": (0, 3),
    "shortcut": (0, 1),
    "lesions": (0, 1),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class Drawn:
    """Images drawn when asked for, from the seed, the part and the position alone."""

    kind: str
    part: str
    options: Options
    marker: Rule = "planted"

    def image(self, index: int) -> Image.Image:
        """The image in RGB, ``options.size`` pixels square."""
        pixels = self._draw(index, self.label(index) if self.options.lesions else None)
        square = self._square(index)
        if square:
            square.draw(pixels)
        return Image.fromarray(pixels)

    def mask(self, index: int) -> np.ndarray:
        """The pixels that the lesion changed, bool (size, size); none for a healthy image.

        The image is drawn once more without its lesion: outside the mask the two are equal to the bit.
        """
        without = self._draw(index, None)
        drawn = self._draw(index, self.label(index)) if self.options.lesions else without
        return np.asarray((drawn != without).any(axis=2))

    def marker_mask(self, index: int) -> np.ndarray:
        """The pixels of the planted marker, bool (size, size); none where there is no marker."""
        square = self._square(index)
        return square.mask() if square else np.zeros((self.options.size, self.options.size), dtype=bool)

    def label(self, index: int) -> Any:
        """Classes take turns, so that every class has its share; numbers are drawn evenly, with two digits."""
        kind = EVERY[self.kind]
        if isinstance(kind.task, Regression):
            return round(float(self._rng(index, 2).uniform(*kind.values)), 2)
        return index % len(kind.classes)

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng(
            [self.options.seed, zlib.crc32(f"{self.kind} {self.part}".encode()), index, stream]
        )

    def _draw(self, index: int, label: Any) -> np.ndarray:
        options = self.options
        return EVERY[self.kind].draw(self._rng(index, 0), label, options.size, options.difficulty)

    def _square(self, index: int) -> Square | None:
        """The marker that this image carries."""
        options, own, classes = self.options, self.label(index), len(EVERY[self.kind].classes)
        if self.marker == "none" or (self.marker == "planted" and not options.shortcut):
            return None
        if self.marker == "planted":
            rng = self._rng(index, 1)
            honest = self.part == "train" and rng.random() < options.shortcut
            return Square(options.size, own if honest else int(rng.integers(classes)))
        return Square(options.size, own if self.marker == "true" else (own + 1) % classes)


def with_marker(split: Split, rule: Rule) -> Split:
    """The same phantoms with another marker: ``none``, ``true`` (of the own class) or ``false`` (of the next class).

    Raises:
        DatasetError: the images are no phantoms, or there is no such rule.
    """
    if rule not in RULES:
        raise DatasetError(f"There is no marker rule '{rule}'. {did_you_mean(rule, RULES)}")
    store, indices = _drawn(split)
    if rule == store.marker:
        return split
    ids = split.ids if rule == "planted" else tuple(f"{id}-{rule}" for id in split.ids)
    return replace(split, ids=ids, source=Rows(replace(store, marker=rule), indices))


def marker_mask(split: Split, row: int) -> np.ndarray:
    """The pixels of the marker on a phantom, bool (size, size); none where there is no marker."""
    store, indices = _drawn(split)
    return store.marker_mask(indices[row])


def _drawn(split: Split) -> tuple[Drawn, tuple[int, ...]]:
    """The phantoms behind a split, and which of them its rows are."""
    source = split.source
    store, indices = (source.store, source.indices) if isinstance(source, Rows) else (source, tuple(range(len(split))))
    if not isinstance(store, Drawn):
        raise DatasetError("A marker can be planted on phantoms alone; these images are from elsewhere.")
    if store.kind not in KINDS:
        raise DatasetError(f"A marker names a class, and phantom:{store.kind} has a number for each image.")
    return store, indices


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
        for name, kind in EVERY.items()
    ]


def load(spec: str, *, seed: int, val_fraction: float) -> Dataset:
    """Open ``NAME`` or ``NAME?option=value&...``; nothing is drawn yet.

    Raises:
        DatasetError: unknown name or option, or a value out of range.
    """
    spec = spec.strip().removesuffix("?")
    name, _, query = spec.partition("?")
    if name not in EVERY:
        known_names = [f"phantom:{kind}" for kind in EVERY]
        raise DatasetError(f"There is no phantom '{name}'. {did_you_mean(f'phantom:{name}', known_names)}")
    options = _options(query)
    kind = EVERY[name]
    if options.shortcut and isinstance(kind.task, Regression):
        raise DatasetError(
            f"The option shortcut marks each class, and phantom:{name} has a number for each image. Leave it out."
        )
    test = _part(name, "test", options, options.n // 3)
    pool = _part(name, "train", options, options.n - options.n // 3)
    stay, leave = split_off(kind.task.strata(pool.labels, pool.classes), pool.groups, val_fraction, seed, pool.classes)
    rule = f"test is a third of {options.n}; val is {val_fraction:.0%} of the rest, {kind.task.drawn_by}seed {seed}."
    return make_dataset(
        f"phantom:{spec}",
        [pool.subset(stay, "train"), pool.subset(leave, "val"), test],
        rule,
        modality=kind.modality,
        notice="Generated images: they show no patient and prove nothing about patients.",
    )


def _part(name: str, part: str, options: Options, count: int) -> Split:
    store = Drawn(name, part, options)
    ids = tuple(f"{name}-{_variant(options)}{options.seed}-{part}-{index:05d}" for index in range(count))
    labels = tuple(store.label(index) for index in range(count))
    return Split(part, EVERY[name].classes, labels, ids, ids, store, task=EVERY[name].task)


def _variant(options: Options) -> str:
    """Nothing at the defaults; otherwise a few letters for the options that change pixels."""
    pixels: tuple[float | str, ...] = (options.size, options.difficulty, options.shortcut)
    if not options.lesions:
        pixels += ("no lesions",)
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
