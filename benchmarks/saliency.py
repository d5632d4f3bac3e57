"""Compare saliency methods: whether their maps find lesions, and whether they pass the sanity checks.

Each dataset gets a run with default settings, stored in ``--runs`` and not repeated. Where the images have lesion
masks, maps of the true class of test images are compared with them. Maps of the predicted class are checked as in the
app. Nothing is timed.
"""

import json
from pathlib import Path
from statistics import mean

import numpy as np
from harness import arguments, publish, table
from presets import finished_run

from shpeft.backbones import Backbone
from shpeft.config.schema import RunConfig
from shpeft.datasets import Split, load_dataset
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import METHODS, check_saliency, explain, localize
from shpeft.pipeline import load_run

Scores = dict[str, float | None]


def with_lesion(split: Split, count: int) -> list[int]:
    """Draw cases that have a lesion mask, with a fixed seed."""
    order = np.random.default_rng(0).permutation(len(split)).tolist()
    masked = (row for row in order if (mask := split.mask(row)) is not None and mask.any())
    return [row for _, row in zip(range(count), masked, strict=False)]


def checks(backbone: Backbone, split: Split, rows: list[int], method: str) -> Scores:
    """Return the shares of maps that pass each check, and the mean rank correlation with the map of random weights."""
    follows, marks, likeness = [], [], []
    for row in rows:
        image = backbone.transform(split.image(row))
        target = int(backbone(image)[0].argmax())
        try:
            checked = check_saliency(backbone, image, explain(backbone, image, target, method))
        except DiagnosisError:  # an empty map
            follows.append(False)
            marks.append(False)
            continue
        follows.append(checked.follows_the_weights)
        marks.append(checked.marks_what_counts)
        likeness.append(checked.likeness)
    return {"follows": mean(follows), "marks": mean(marks), "likeness": mean(likeness) if likeness else None}


def measure_one(config: RunConfig, path: Path, images: int, checked: int) -> dict[str, Scores]:
    """Measure every method on one dataset; the result is stored beside the run."""
    name = f"saliency-{images}-{checked}.json"
    if (path / name).exists():
        return json.loads((path / name).read_text())
    folder = finished_run(config, path)
    backbone = load_run(folder, "cpu").backbone
    test = load_dataset(**config.dataset.model_dump(), seed=config.seed).test
    lesions = with_lesion(test, images)
    order = np.random.default_rng(1).permutation(len(test)).tolist()[:checked]
    scores = {}
    for method in METHODS:
        scores[method] = checks(backbone, test, order, method)
        if lesions:
            located = localize(backbone, test, method, rows=lesions)
            scores[method] |= {"mass": located.mass / located.chance, "pointing": located.pointing}
        print(path.name, method, scores[method], flush=True)
    (path / name).write_text(json.dumps(scores, indent=1))
    return scores


def measure(backbone: dict[str, object], sources: list[str], runs: Path, images: int, checked: int) -> str:
    """Return the section's text."""
    datasets = {}
    for source in sources:
        config = RunConfig.parse({"backbone": backbone, "dataset": {"source": source}})
        path = runs / "".join(letter if letter.isalnum() else "-" for letter in Path(source).name)
        datasets[Path(source).name] = measure_one(config, path, images, checked)
    masked = [name for name, methods in datasets.items() if "mass" in next(iter(methods.values()))]
    rows = []
    for method in METHODS:
        of_all = [methods[method] for methods in datasets.values()]
        cells = [f"{100 * mean(scores[key] for scores in of_all):.0f} %" for key in ("follows", "marks")]
        alike = [scores["likeness"] for scores in of_all if scores["likeness"] is not None]
        cells.append(f"{mean(alike):.2f}" if alike else "")
        for key, shown in (("mass", "{:.2f}"), ("pointing", "{:.2f}")):
            cells.append(shown.format(mean(datasets[name][method][key] for name in masked)) if masked else "")
        rows.append([METHODS[method].title, *cells])
    each = [
        [METHODS[method].title, *(f"{100 * methods[method]['follows']:.0f} %" for methods in datasets.values())]
        for method in METHODS
    ]
    location = [
        [
            METHODS[method].title,
            *(f"{datasets[name][method]['mass']:.2f} / {datasets[name][method]['pointing']:.2f}" for name in masked),
        ]
        for method in METHODS
    ]
    text = (
        f"Means over {len(datasets)} datasets of {checked} checked test images each; the last two columns over the "
        f"{len(masked)} of them with lesion masks, with up to {images} test images with a lesion. *Mass* is the share "
        "of the map inside the lesion divided by the lesion's share of the image; a uniform map has 1. *Pointing* is "
        "how often the map's maximum is inside the lesion. *Likeness* is the rank correlation with the map of a model "
        "with random weights; the randomization check requires less than 0.5.\n\n"
        + table(("method", "passes randomization", "passes deletion", "likeness", "mass", "pointing"), rows)
        + "\n\nThe share that passes the randomization check, by dataset:\n\n"
        + table(("method", *datasets), each)
    )
    if masked:
        text += "\n\nMass / pointing, by dataset:\n\n" + table(("method", *masked), location)
    return text


def main() -> None:
    """Read the options, run what is missing, and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--data", action="append", required=True, metavar="SOURCE", help="may be repeated")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--images", type=int, default=24, help="test images with a lesion, of each dataset")
    parser.add_argument("--checked", type=int, default=4, help="test images whose maps are checked, of each dataset")
    options = parser.parse_args()
    backbone = {"name": options.backbone, "weights": options.weights, "image_size": options.image_size}
    text = measure(backbone, options.data, options.runs, options.images, options.checked)
    publish(f"Saliency methods, {options.backbone}", text, options.write)


if __name__ == "__main__":
    main()
