"""Compare distances that detect out-of-distribution images: AUROC against held-out images of the same dataset.

Each dataset in turn is in distribution; only its training images are read. They are divided several times into
training, validation and held-out images, with whole groups (patients) on one side. The validation images set the
threshold of the alarm, and the held-out images show whether the false alarm rate is as promised. Out of distribution
are the other datasets, generated phantoms, natural images, and held-out images with 4 × 4 tiles shuffled or with
inverted gray values. The features are those of three blocks of the pretrained backbone, or the input of its head.

    python benchmarks/ood.py --data SET --data SET [--natural FOLDER --backbone NAME --weights FILE]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from harness import arguments, publish, table
from PIL import Image
from scipy.stats import t as student
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import load_dataset
from shpeft.datasets.splitting import split_off
from shpeft.evaluation import fit_ood_detector, ood
from shpeft.evaluation.ood import ALARM, alarm_limit
from shpeft.evaluation.ood_features import detector_blocks, image_features

VALIDATION, HELD_OUT = 0.2, 0.3
"""Shares of a dataset's training images; the rest is trained on."""

OTHERS, CORRUPTED = 150, 150
"""The largest number of images of each other dataset, and of each corruption."""

Array = np.ndarray
Distance = Callable[[Array], Array]
Maker = Callable[[Array, Array], Distance]


def features(backbone: Backbone, images: list[Image.Image], of_head: bool = False) -> Array:
    """Compute the library's features of three blocks, or those that the head sees, (N, D)."""
    return image_features(backbone, images, () if of_head else detector_blocks(backbone))


def some(count: int, of: int) -> list[int]:
    """Draw positions with a fixed seed."""
    return np.random.default_rng(0).permutation(of)[:count].tolist()


def shuffled(image: Image.Image, seed: int) -> Image.Image:
    """Shuffle the 4 × 4 tiles of an image."""
    tiles = (
        np.asarray(image.resize((224, 224))).reshape(4, 56, 4, 56, 3).transpose(0, 2, 1, 3, 4).reshape(16, 56, 56, 3)
    )
    mixed = tiles[np.random.default_rng(seed).permutation(16)].reshape(4, 4, 56, 56, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(mixed.reshape(224, 224, 3))


def inverted(image: Image.Image) -> Image.Image:
    """Invert the gray values of an image."""
    return Image.fromarray(255 - np.asarray(image))


def unit(x: Array) -> Array:
    """Scale rows to length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def of_library(x: Array, y: Array, directions: int) -> Distance:
    """Fit the library's detector with a number of directions."""
    ood.DIRECTIONS = directions
    return fit_ood_detector(x, x[:2]).distances


def of_classes(x: Array, y: Array) -> Distance:
    """Fit Mahalanobis to the nearest class mean, with one shrunk covariance within classes."""
    means = [unit(x)[y == c].mean(0) for c in np.unique(y)]
    within = np.concatenate([unit(x)[y == c] - mean for c, mean in zip(np.unique(y), means, strict=True)])
    fitted = LedoitWolf(assume_centered=True).fit(within.astype(np.float64))
    return lambda z: np.sqrt(np.min([fitted.mahalanobis(unit(z) - mean) for mean in means], axis=0))


def of_neighbors(x: Array, y: Array) -> Distance:
    """Fit the distance to the fifth nearest training image."""
    fitted = NearestNeighbors(n_neighbors=5).fit(unit(x))
    return lambda z: fitted.kneighbors(unit(z))[0][:, -1]


LIBRARY = "Mahalanobis, 64 directions (the library's)"
DETECTORS: dict[str, Maker] = {
    "Mahalanobis, whole covariance": lambda x, y: of_library(x, y, 100_000),
    LIBRARY: lambda x, y: of_library(x, y, 64),
    "Mahalanobis, 16 directions": lambda x, y: of_library(x, y, 16),
    "Mahalanobis to the nearest class": of_classes,
    "fifth nearest neighbor": of_neighbors,
}


@dataclass(frozen=True)
class InDistribution:
    """Features of a dataset's training images; ``corrupted`` are features of those at ``rows`` with a corruption."""

    x: Array
    labels: tuple[int, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Array
    corrupted: dict[str, Array]


def read(source: str, compute: Callable[[list[Image.Image]], Array]) -> InDistribution:
    """Compute the features of a dataset's training images."""
    data = load_dataset(source, seed=0)
    images, labels, groups = [], (), ()
    for split in (data.train, data.val):  # data.test is not used
        images += [split.image(row) for row in range(len(split))]
        labels, groups = labels + split.labels, groups + split.groups
    rows = some(CORRUPTED, len(images))
    corrupted = {
        "tiles shuffled": compute([shuffled(images[row], row) for row in rows]),
        "inverted": compute([inverted(images[row]) for row in rows]),
    }
    return InDistribution(compute(images), labels, groups, data.classes, np.array(rows), corrupted)


def natural_images(folder: Path) -> list[Image.Image]:
    """Draw images below a folder with a fixed seed."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [Image.open(files[at]).convert("RGB") for at in some(2 * OTHERS, len(files))]


def evaluate(
    make: Maker, known: InDistribution, odd: dict[str, Array], division: int
) -> dict[str, tuple[float, float]]:
    """Return, for each kind of images, the AUROC against held-out ones and the share that raises an alarm."""
    rest, held = split_off(known.labels, known.groups, HELD_OUT, division, known.classes)
    labels, groups = ([values[row] for row in rest] for values in (known.labels, known.groups))
    fit, validation = split_off(labels, groups, VALIDATION / (1 - HELD_OUT), division, known.classes)
    train = np.array(rest)[fit]
    distance = make(known.x[train], np.asarray(known.labels)[train])
    usual, limit = distance(known.x[held]), alarm_limit(distance(known.x[np.array(rest)[validation]]))
    own = np.isin(known.rows, held)
    results = {"held out": (0.5, float((usual > limit).mean()))}
    for name, x in (odd | {name: x[own] for name, x in known.corrupted.items()}).items():
        far = distance(x)
        truth = np.repeat([0, 1], [len(usual), len(far)])
        results[name] = (roc_auc_score(truth, np.concatenate([usual, far])), float((far > limit).mean()))
    return results


def interval(values: Array) -> str:
    """Format a mean in percent with Student's 95 % interval."""
    n, mean = len(values), 100 * np.mean(values)
    half = 100 * student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return f"{mean:.1f} % [{mean - half:.1f}, {mean + half:.1f}]"


def measure(
    compute: Callable[[list[Image.Image]], Array], sources: list[str], natural: Path | None, repeats: int
) -> str:
    """Return the section's text: means over datasets and divisions, and the library's distance by dataset."""
    known = {Path(source).name: read(source, compute) for source in sources}
    names = ("fundus", "ultrasound", "dermoscopy")
    phantoms = [load_dataset(f"phantom:{name}?n=150&size=112", seed=0).train for name in names]
    drawn = [split.image(row) for split in phantoms for row in range(len(split))]
    always = {"phantoms": compute(drawn)}
    if natural is not None:
        always["natural"] = compute(natural_images(natural))
    results: dict[str, dict[str, dict[str, Array]]] = {}  # by detector, dataset and kind of images: (repeats, 2)
    for name, make in DETECTORS.items():
        results[name] = {}
        for own, dataset in known.items():
            others = [known[other].x[some(OTHERS, len(known[other].x))] for other in known if other != own]
            odd = {"other datasets": np.concatenate(others), **always}
            of_divisions = [evaluate(make, dataset, odd, division) for division in range(repeats)]
            results[name][own] = {kind: np.array([each[kind] for each in of_divisions]) for kind in of_divisions[0]}
    kinds = [kind for kind in next(iter(results[LIBRARY].values())) if kind != "held out"]

    def shares(name: str, kind: str, of: int = 1) -> Array:
        return np.array([of_set[kind][:, of].mean() for of_set in results[name].values()])

    rows = [
        [name, interval(shares(name, "held out"))]
        + [f"{shares(name, kind, 0).mean():.3f} / {100 * shares(name, kind).mean():.0f} %" for kind in kinds]
        for name in DETECTORS
    ]
    each = [
        [own, *(f"{100 * of_set[kind][:, 1].mean():.1f} %" for kind in ("held out", *kinds))]
        for own, of_set in results[LIBRARY].items()
    ]
    return (
        f"Means over {len(sources)} datasets and {repeats} divisions of each dataset's training images; no test image "
        f"is used. False alarms: the share of held-out images that raise an alarm, {100 * ALARM:g} % by design (in "
        "brackets Student's interval over datasets). For out-of-distribution images: the AUROC against held-out ones, "
        f"and the share that raises an alarm.\n\n{table(('distance', 'false alarms', *kinds), rows)}\n\nThe share "
        f"that raises an alarm with the library's distance, by dataset:\n\n"
        f"{table(('dataset', 'held out', *kinds), each)}"
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="a dataset; at least two")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--natural", type=Path, help="a folder of natural images")
    parser.add_argument("--head", action="store_true", help="features that the head sees, not those of three blocks")
    options = parser.parse_args()
    backbone = create_backbone(
        options.backbone, classes=("a", "b"), weights=options.weights, image_size=options.image_size
    )
    body = measure(partial(features, backbone, of_head=options.head), options.data, options.natural, options.repeats)
    of_head = ", input of the head" if options.head else ""
    publish(f"Out-of-distribution images, {options.backbone}{of_head}", body, options.write)


if __name__ == "__main__":
    main()
