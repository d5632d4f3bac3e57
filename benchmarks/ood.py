"""Which distance tells images that a model was not made for: AUROC against held-out images of the same set.

Each set in turn is the known one; of each only the training images are read. They are divided several times into
training, validation and held-out images, whole groups (patients) on one side. The validation images say where alarms
begin. How often held-out images raise one tells whether the promised share is kept. Unknown are the other sets,
generated phantoms, natural images, and held-out images with 4 × 4 tiles shuffled or with their grey values inverted.
The features are the pretrained backbone's.

    python benchmarks/novelty.py --data SET --data SET [--natural FOLDER --backbone NAME --weights FILE]
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import arguments, publish, table
from PIL import Image
from scipy.stats import t as student
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import load_dataset
from shpeft.datasets.splitting import split_off
from shpeft.trust import fit_novelty, novelty
from shpeft.trust.novelty import ALARM, alarm_limit

VALIDATION, HELD_OUT = 0.2, 0.3
"""Shares of a set's training images; the others are trained on."""

UNKNOWN, SPOILED = 150, 150
"""Images of each other set and of each way to spoil, at most."""

Array = np.ndarray
Distance = Callable[[Array], Array]
Maker = Callable[[Array, Array], Distance]


def features(backbone: Backbone, images: list[Image.Image]) -> Array:
    """What the head sees, (N, D)."""
    rows = []
    for start in range(0, len(images), 32):
        inputs = torch.cat([backbone.transform(image) for image in images[start : start + 32]])
        with torch.no_grad():
            rows.append(backbone.features(inputs).float().numpy())
    return np.concatenate(rows)


def some(count: int, of: int) -> list[int]:
    """A seeded choice of positions."""
    return np.random.default_rng(0).permutation(of)[:count].tolist()


def shuffled(image: Image.Image, seed: int) -> Image.Image:
    """4 × 4 tiles in another order."""
    tiles = (
        np.asarray(image.resize((224, 224))).reshape(4, 56, 4, 56, 3).transpose(0, 2, 1, 3, 4).reshape(16, 56, 56, 3)
    )
    mixed = tiles[np.random.default_rng(seed).permutation(16)].reshape(4, 4, 56, 56, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(mixed.reshape(224, 224, 3))


def inverted(image: Image.Image) -> Image.Image:
    """The negative."""
    return Image.fromarray(255 - np.asarray(image))


def unit(x: Array) -> Array:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def of_library(x: Array, y: Array, directions: int) -> Distance:
    """The library's, with so many directions."""
    novelty.DIRECTIONS = directions
    return fit_novelty(x, x[:2]).distances


def of_classes(x: Array, y: Array) -> Distance:
    """Mahalanobis to the nearest class's mean, under one shrunk covariance within classes."""
    means = [unit(x)[y == c].mean(0) for c in np.unique(y)]
    within = np.concatenate([unit(x)[y == c] - mean for c, mean in zip(np.unique(y), means, strict=True)])
    fitted = LedoitWolf(assume_centered=True).fit(within.astype(np.float64))
    return lambda z: np.sqrt(np.min([fitted.mahalanobis(unit(z) - mean) for mean in means], axis=0))


def of_neighbours(x: Array, y: Array) -> Distance:
    """To the fifth nearest training image."""
    fitted = NearestNeighbors(n_neighbors=5).fit(unit(x))
    return lambda z: fitted.kneighbors(unit(z))[0][:, -1]


LIBRARY = "Mahalanobis, 64 directions (the library's)"
DETECTORS: dict[str, Maker] = {
    "Mahalanobis, whole covariance": lambda x, y: of_library(x, y, 100_000),
    LIBRARY: lambda x, y: of_library(x, y, 64),
    "Mahalanobis, 16 directions": lambda x, y: of_library(x, y, 16),
    "Mahalanobis to the nearest class": of_classes,
    "fifth nearest neighbour": of_neighbours,
}


@dataclass(frozen=True)
class Known:
    """A set's training images as the backbone sees them; ``spoiled`` are features of those at ``rows``."""

    x: Array
    labels: tuple[int, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Array
    spoiled: dict[str, Array]


def look(backbone: Backbone, source: str) -> Known:
    """See every training image once."""
    data = load_dataset(source, seed=0)
    images, labels, groups = [], (), ()
    for split in (data.train, data.val):  # data.test is left alone
        images += [split.image(row) for row in range(len(split))]
        labels, groups = labels + split.labels, groups + split.groups
    rows = some(SPOILED, len(images))
    spoiled = {
        "tiles shuffled": features(backbone, [shuffled(images[row], row) for row in rows]),
        "inverted": features(backbone, [inverted(images[row]) for row in rows]),
    }
    return Known(features(backbone, images), labels, groups, data.classes, np.array(rows), spoiled)


def natural_images(folder: Path) -> list[Image.Image]:
    """A seeded choice of the images below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [Image.open(files[at]).convert("RGB") for at in some(2 * UNKNOWN, len(files))]


def tried(make: Maker, known: Known, odd: dict[str, Array], division: int) -> dict[str, tuple[float, float]]:
    """Of each kind of images the AUROC against held-out ones and the share that raises an alarm."""
    rest, held = split_off(known.labels, known.groups, HELD_OUT, division, known.classes)
    labels, groups = ([values[row] for row in rest] for values in (known.labels, known.groups))
    fit, validation = split_off(labels, groups, VALIDATION / (1 - HELD_OUT), division, known.classes)
    train = np.array(rest)[fit]
    distance = make(known.x[train], np.asarray(known.labels)[train])
    usual, limit = distance(known.x[held]), alarm_limit(distance(known.x[np.array(rest)[validation]]))
    own = np.isin(known.rows, held)
    found = {"held out": (0.5, float((usual > limit).mean()))}
    for name, x in (odd | {name: x[own] for name, x in known.spoiled.items()}).items():
        far = distance(x)
        truth = np.repeat([0, 1], [len(usual), len(far)])
        found[name] = (roc_auc_score(truth, np.concatenate([usual, far])), float((far > limit).mean()))
    return found


def interval(values: Array) -> str:
    """A mean in per cent with Student's interval of 95 %."""
    n, mean = len(values), 100 * np.mean(values)
    half = 100 * student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return f"{mean:.1f} % [{mean - half:.1f}, {mean + half:.1f}]"


def measure(backbone: Backbone, sources: list[str], natural: Path | None, repeats: int) -> str:
    """The tables: means over sets and divisions, and the library's distance set by set."""
    known = {Path(source).name: look(backbone, source) for source in sources}
    names = ("fundus", "ultrasound", "dermoscopy")
    phantoms = [load_dataset(f"phantom:{name}?n=150&size=112", seed=0).train for name in names]
    drawn = [split.image(row) for split in phantoms for row in range(len(split))]
    always = {"phantoms": features(backbone, drawn)}
    if natural is not None:
        always["natural"] = features(backbone, natural_images(natural))
    found: dict[str, dict[str, dict[str, Array]]] = {}  # by detector, set and kind of images: (repeats, 2)
    for name, make in DETECTORS.items():
        found[name] = {}
        for own, one in known.items():
            others = [known[other].x[some(UNKNOWN, len(known[other].x))] for other in known if other != own]
            odd = {"other sets": np.concatenate(others), **always}
            of_divisions = [tried(make, one, odd, division) for division in range(repeats)]
            found[name][own] = {kind: np.array([each[kind] for each in of_divisions]) for kind in of_divisions[0]}
    kinds = [kind for kind in next(iter(found[LIBRARY].values())) if kind != "held out"]

    def shares(name: str, kind: str, of: int = 1) -> Array:
        return np.array([one[kind][:, of].mean() for one in found[name].values()])

    rows = [
        [name, interval(shares(name, "held out"))]
        + [f"{shares(name, kind, 0).mean():.3f} / {100 * shares(name, kind).mean():.0f} %" for kind in kinds]
        for name in DETECTORS
    ]
    each = [
        [own, *(f"{100 * one[kind][:, 1].mean():.1f} %" for kind in ("held out", *kinds))]
        for own, one in found[LIBRARY].items()
    ]
    return (
        f"Means over {len(sources)} sets and {repeats} divisions of each set's training images; test images are not "
        f"touched. False alarms are the share of held-out images that raise one, promised are {100 * ALARM:g} % (in "
        "brackets Student's interval over sets); of unknown images the AUROC against them, and the share that raises "
        f"an alarm.\n\n{table(('distance', 'false alarms', *kinds), rows)}\n\nThe library's, the share that "
        f"raises one set by set:\n\n{table(('set', 'held out', *kinds), each)}"
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="a dataset; at least two")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--natural", type=Path, help="a folder of natural images")
    options = parser.parse_args()
    backbone = create_backbone(
        options.backbone, classes=("a", "b"), weights=options.weights, image_size=options.image_size
    )
    body = measure(backbone, options.data, options.natural, options.repeats)
    publish(f"Images unlike the training images, {options.backbone}", body, options.write)


if __name__ == "__main__":
    main()
