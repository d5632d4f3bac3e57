"""Which distance tells images that a model was not made for: AUROC against held-out images of the same set.

Each set in turn is the known one. Unknown are the other sets, generated phantoms, and the set's own test images with
4 × 4 tiles shuffled or with their grey values inverted. The features are the pretrained backbone's.

    python benchmarks/novelty.py --data SET --data SET [--backbone NAME --weights FILE --image-size 112]
"""

from collections.abc import Callable

import numpy as np
import torch
from harness import arguments, publish, table
from PIL import Image
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Split, load_dataset
from shpeft.trust import fit_novelty, novelty

TRAIN, HELD_OUT, SPOILED = 400, 150, 100
"""Images of a set, at most."""

Array = np.ndarray
Distance = Callable[[Array], Array]


def features(backbone: Backbone, images: list[Image.Image]) -> Array:
    """What the head sees, (N, D)."""
    rows = []
    for start in range(0, len(images), 32):
        inputs = torch.cat([backbone.transform(image) for image in images[start : start + 32]])
        with torch.no_grad():
            rows.append(backbone.features(inputs).float().numpy())
    return np.concatenate(rows)


def some(split: Split, count: int, seed: int = 0) -> tuple[list[Image.Image], Array]:
    """A seeded choice of images, and their labels."""
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    return [split.image(int(row)) for row in rows], np.array([split.labels[row] for row in rows])


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


DETECTORS: dict[str, Callable[[Array, Array], Distance]] = {
    "Mahalanobis, whole covariance": lambda x, y: of_library(x, y, 100_000),
    "Mahalanobis, 64 directions (the library's)": lambda x, y: of_library(x, y, 64),
    "Mahalanobis, 16 directions": lambda x, y: of_library(x, y, 16),
    "Mahalanobis to the nearest class": of_classes,
    "fifth nearest neighbour": of_neighbours,
}


def measure(backbone: Backbone, sources: list[str]) -> str:
    """The table: means over the sets, AUROC and the share that raises an alarm."""
    known, spoiled = {}, {}
    for source in sources:
        data = load_dataset(source, seed=0)
        test, _ = some(data.test, HELD_OUT)
        train, labels = some(data.train, TRAIN)
        parts = (train, some(data.val, HELD_OUT)[0], test)
        known[source] = (*(features(backbone, images) for images in parts), labels)
        spoiled[source] = {
            "shuffled": features(backbone, [shuffled(image, n) for n, image in enumerate(test[:SPOILED])]),
            "inverted": features(backbone, [inverted(image) for image in test[:SPOILED]]),
        }
    names = ("fundus", "ultrasound", "dermoscopy")
    phantoms = [load_dataset(f"phantom:{name}?n=150&size=112", seed=0).test for name in names]
    drawn = np.concatenate([features(backbone, some(split, HELD_OUT)[0]) for split in phantoms])
    rows = []
    for name, make in DETECTORS.items():
        found = []
        for source, (train, val, test, labels) in known.items():
            distance = make(train, labels)
            others = np.concatenate([own[2] for other, own in known.items() if other != source])
            usual, limit = distance(test), np.quantile(distance(val), 1 - novelty.ALARM, method="higher")
            cells = []
            for odd in (others, drawn, spoiled[source]["shuffled"], spoiled[source]["inverted"]):
                far = distance(odd)
                truth = np.repeat([0, 1], [len(usual), len(far)])
                cells += [roc_auc_score(truth, np.concatenate([usual, far])), (far > limit).mean()]
            found.append([*cells, (usual > limit).mean()])
        *cells, false = np.mean(found, axis=0)
        pairs = [f"{area:.3f} / {100 * share:.0f} %" for area, share in zip(cells[::2], cells[1::2], strict=True)]
        rows.append([name, *pairs, f"{100 * false:.0f} %"])
    return (
        f"AUROC, and the share of images that raise an alarm; means over {len(sources)} sets, features of up to "
        f"{TRAIN} training images.\n\n"
        + table(("distance", "other sets", "phantoms", "tiles shuffled", "inverted", "false alarms"), rows)
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="a dataset; at least two")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    options = parser.parse_args()
    backbone = create_backbone(
        options.backbone, classes=("a", "b"), weights=options.weights, image_size=options.image_size
    )
    publish(f"Images unlike the training images, {options.backbone}", measure(backbone, options.data), options.write)


if __name__ == "__main__":
    main()
