"""Which saliency method to begin with: whether its maps find the lesion, and whether they pass the checks of sanity.

For each dataset a run with default settings is carried out (kept in ``--runs``, and not carried out again). Where the
images have lesion masks, maps of the true class of test images are held against them. Maps of the predicted class are
checked as the app checks them. No time is taken.
"""

import json
from pathlib import Path
from statistics import mean

import numpy as np
from harness import arguments, publish, table
from presets import carried_out

from shpeft.backbones import Backbone
from shpeft.config import RunConfig
from shpeft.datasets import Split, load_dataset
from shpeft.errors import DiagnosisError
from shpeft.pipeline import load_run
from shpeft.saliency import METHODS, check_saliency, explain, localise

Found = dict[str, float | None]


def with_lesion(split: Split, count: int) -> list[int]:
    """A seeded choice of the cases that have a lesion mask."""
    order = np.random.default_rng(0).permutation(len(split)).tolist()
    masked = (row for row in order if (mask := split.mask(row)) is not None and mask.any())
    return [row for _, row in zip(range(count), masked, strict=False)]


def checks(backbone: Backbone, split: Split, rows: list[int], method: str) -> Found:
    """Shares of maps that pass, and the mean rank correlation with the map of random weights."""
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


def measure_one(config: RunConfig, place: Path, images: int, checked: int) -> dict[str, Found]:
    """Every method on one dataset; kept beside the run."""
    name = f"saliency-{images}-{checked}.json"
    if (place / name).exists():
        return json.loads((place / name).read_text())
    folder = carried_out(config, place)
    backbone = load_run(folder, "cpu").backbone
    test = load_dataset(**config.dataset.model_dump(), seed=config.seed).test
    lesions = with_lesion(test, images)
    order = np.random.default_rng(1).permutation(len(test)).tolist()[:checked]
    found = {}
    for method in METHODS:
        found[method] = checks(backbone, test, order, method)
        if lesions:
            located = localise(backbone, test, method, rows=lesions)
            found[method] |= {"mass": located.mass / located.chance, "pointing": located.pointing}
        print(place.name, method, found[method], flush=True)
    (place / name).write_text(json.dumps(found, indent=1))
    return found


def measure(backbone: dict[str, object], sources: list[str], runs: Path, images: int, checked: int) -> str:
    """The section's text."""
    found = {}
    for source in sources:
        config = RunConfig.parse({"backbone": backbone, "dataset": {"source": source}})
        place = runs / "".join(letter if letter.isalnum() else "-" for letter in Path(source).name)
        found[Path(source).name] = measure_one(config, place, images, checked)
    masked = [name for name, methods in found.items() if "mass" in next(iter(methods.values()))]
    rows = []
    for method in METHODS:
        of_all = [methods[method] for methods in found.values()]
        cells = [f"{100 * mean(one[key] for one in of_all):.0f} %" for key in ("follows", "marks")]
        alike = [one["likeness"] for one in of_all if one["likeness"] is not None]
        cells.append(f"{mean(alike):.2f}" if alike else "")
        for key, shown in (("mass", "{:.2f}"), ("pointing", "{:.2f}")):
            cells.append(shown.format(mean(found[name][method][key] for name in masked)) if masked else "")
        rows.append([METHODS[method].title, *cells])
    each = [
        [METHODS[method].title, *(f"{100 * methods[method]['follows']:.0f} %" for methods in found.values())]
        for method in METHODS
    ]
    where = [
        [
            METHODS[method].title,
            *(f"{found[name][method]['mass']:.2f} / {found[name][method]['pointing']:.2f}" for name in masked),
        ]
        for method in METHODS
    ]
    text = (
        f"Means over {len(found)} datasets of {checked} checked test images each; of the last two columns over the "
        f"{len(masked)} of them with lesion masks, of up to {images} test images with a lesion. *Mass* is the share of "
        "the map that lies in the lesion over the share that the lesion has of the image: a blind map reaches 1. "
        "*Pointing* is how often the map's maximum lies in it. *Likeness* is the rank correlation with the map of a "
        "model with random weights; the randomisation check asks for less than 0.5.\n\n"
        + table(("method", "passes randomisation", "passes deletion", "likeness", "mass", "pointing"), rows)
        + "\n\nThe share that passes the randomisation check, dataset by dataset:\n\n"
        + table(("method", *found), each)
    )
    if masked:
        text += "\n\nMass / pointing, dataset by dataset:\n\n" + table(("method", *masked), where)
    return text


def main() -> None:
    """Read the options, run what is missing, print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--data", action="append", required=True, metavar="SOURCE", help="may be repeated")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--images", type=int, default=24, help="test images with a lesion, of each dataset")
    parser.add_argument("--checked", type=int, default=4, help="test images whose maps are checked, of each dataset")
    options = parser.parse_args()
    backbone = {"name": options.backbone, "weights": options.weights, "image_size": options.image_size}
    text = measure(backbone, options.data, options.runs, options.images, options.checked)
    publish(f"Saliency methods, {options.backbone}", text, options.write)


if __name__ == "__main__":
    main()
