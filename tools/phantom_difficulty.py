"""Difficulty of the phantoms: test accuracy of a linear probe, by difficulty and without lesions.

    python tools/phantom_difficulty.py --weights dinov2_vits14_224.safetensors
    python tools/phantom_difficulty.py --backbone embedded mri histology

Prints for each phantom the probe's balanced accuracy in percent, the mean and standard deviation over ``--seeds``
datasets of the default size. Without lesions it must be at chance: then only the lesion distinguishes the classes.
"""

import argparse
import time
from statistics import mean, stdev

import torch

from shpeft.backbones import create_backbone
from shpeft.datasets import load_dataset
from shpeft.datasets.phantoms.source import KINDS
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import predict
from shpeft.linear_probe import fit_linear_probe

SIZE = 112


def accuracy(source: str, backbone: str, weights: str) -> float:
    """Return the balanced accuracy of the linear probe on the test images, in percent."""
    data = load_dataset(source, seed=0)
    model = create_backbone(backbone, classes=data.classes, weights=weights, image_size=SIZE)
    fit_linear_probe(model, data.train, data.val).write(model)
    return 100 * evaluate(predict(model, data.test), resamples=0).balanced_accuracy.value


def row(kind: str, options: argparse.Namespace) -> list[str]:
    """Return a phantom's cells: each difficulty, without lesions, and the milliseconds to draw one image."""
    variants = [f"difficulty={level:g}" for level in options.difficulties] + ["lesions=0"]
    cells = []
    for variant in variants:
        sources = [f"phantom:{kind}?{variant}&seed={seed}" for seed in range(options.seeds)]
        accuracies = [accuracy(source, options.backbone, options.weights) for source in sources]
        spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
        cells.append(f"{mean(accuracies):.1f} ± {spread:.1f}")
    split = load_dataset(f"phantom:{kind}").test
    began = time.process_time()
    for index in range(len(split)):
        split.image(index)
    return [*cells, f"{1000 * (time.process_time() - began) / len(split):.1f}"]


def main() -> None:
    """Read the options and print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all when none is named")
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2")
    parser.add_argument("--weights", default="pretrained", help="a file with the backbone's weights")
    parser.add_argument("--difficulties", type=float, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    titles = [f"difficulty {level:g}" for level in options.difficulties]
    print("| phantom | " + " | ".join([*titles, "no lesions", "ms an image"]) + " |")
    print("|---" * (len(titles) + 3) + "|")
    for kind in options.kinds or KINDS:
        print(f"| {kind} | " + " | ".join(row(kind, options)) + " |", flush=True)


if __name__ == "__main__":
    main()
