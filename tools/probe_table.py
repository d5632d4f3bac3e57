"""Compare linear probes of the embedded backbone, random weights, its teacher, and pixels.

Prints the balanced accuracy of logistic regression on frozen features, with its penalty chosen on validation images.
Without ``--test`` it is that of the validation images, for development; the test images are for the model card only.

    python tools/probe_table.py --teacher dinov2_vits14_224.safetensors --data scans --data slides --test
"""

import argparse

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset, Split, batches, load_dataset
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import extract_features, fit_on_features

SIZE = 112
COMPONENTS = 128
"""Number of principal components of the pixels of images at half size, 56 px."""

Features = dict[str, tuple[np.ndarray, np.ndarray]]
"""For each split, the features (N, D) and the labels (N,)."""


def of_backbone(backbone: Backbone, data: Dataset) -> Features:
    """Compute the features that the head sees."""
    return {split.name: extract_features(ForwardPass(backbone), split) for split in data.splits}


def of_pixels(backbone: Backbone, data: Dataset) -> Features:
    """Compute principal components of the training images' pixels."""

    def pixels(split: Split) -> tuple[np.ndarray, np.ndarray]:
        pairs = list(batches(split, backbone.transform, 64))
        small = [torch.nn.functional.avg_pool2d(images.float(), 2).flatten(1) for images, _ in pairs]
        return torch.cat(small).numpy(), torch.cat([labels for _, labels in pairs]).numpy()

    raw = {split.name: pixels(split) for split in data.splits}
    pca = PCA(min(COMPONENTS, len(raw["train"][0]) - 1), random_state=0).fit(raw["train"][0])
    return {name: (pca.transform(x), y) for name, (x, y) in raw.items()}


def accuracy(features: Features, classes: int, on: str) -> float:
    """Return the balanced accuracy of the probe, in percent."""
    (x, y), (x_val, y_val), (x_on, y_on) = features["train"], features["val"], features[on]
    head = fit_on_features(x, y, x_val, y_val, classes)
    logits = x_on @ head.weight.numpy().T + head.bias.numpy()
    return 100 * float(balanced_accuracy_score(y_on, logits.argmax(1)))


def table(options: argparse.Namespace) -> str:
    """Return the table; its last column is the embedded backbone's position between random weights and the teacher."""
    rows: dict[str, dict[str, float]] = {}
    on = "test" if options.test else "val"
    for source in options.data:
        data = load_dataset(source, seed=0)
        models = {
            "random weights": create_backbone("embedded", classes=data.classes, weights="random", image_size=SIZE),
            "embedded": create_backbone("embedded", classes=data.classes, weights=options.weights),
            "teacher": create_backbone(
                "vit_small_patch14_dinov2", classes=data.classes, weights=options.teacher, image_size=SIZE
            ),
        }
        accuracies = {"pixels + PCA": accuracy(of_pixels(models["embedded"], data), len(data.classes), on)}
        for name, backbone in models.items():
            accuracies[name] = accuracy(of_backbone(backbone, data), len(data.classes), on)
        rows[data.name] = accuracies
        print(data.name, {name: round(value, 1) for name, value in accuracies.items()}, flush=True)
    columns = list(next(iter(rows.values())))
    mean = {column: float(np.mean([row[column] for row in rows.values()])) for column in columns}
    lines = ["| | " + " | ".join(columns) + " | share of the teacher's gain |", "|---" * (len(columns) + 2) + "|"]
    for name, row in [*rows.items(), ("mean", mean)]:
        share = (row["embedded"] - row["random weights"]) / (row["teacher"] - row["random weights"])
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.1f}" for column in columns) + f" | {share:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="weights of vit_small_patch14_dinov2")
    parser.add_argument("--weights", default="pretrained", help="another file instead of the embedded backbone's")
    parser.add_argument("--data", action="append", required=True, metavar="SOURCE", help="may be repeated")
    parser.add_argument("--test", action="store_true", help="score the test images instead of the validation images")
    print(table(parser.parse_args()))


if __name__ == "__main__":
    main()
