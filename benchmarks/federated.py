"""Train one model across six sites, against all images in one place and each site alone, with the bytes both ways.

The training images of each dataset are shared out twice: by class, so that each site has a different mix of classes and
lacks some, and by patient, as hospitals have them. Every arm chooses its epoch on the same validation images and is
tested on the same test images. Nothing is timed.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from harness import arguments, publish, table

from shpeft.config.federation import Federation
from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.evaluation.by_task import replicates_of
from shpeft.evaluation.predict import Predictions, predict
from shpeft.pipeline.federated import LocalSites, Site, coordinate
from shpeft.pipeline.setup import forward_pass_for, set_up
from shpeft.pipeline.weight_selection import score_and_select
from shpeft.pipeline.weight_training import finetune_as
from shpeft.runs import temporary_run

SITES = 6

SKEW = 0.5
"""Of the Dirichlet distribution from which each class is shared out: the smaller, the more sites lack a class."""

FEWEST = 8
"""Training images of the smallest site, which has at least two of each of two classes."""


def by_class(split: Split, rng: np.random.Generator) -> list[list[int]]:
    """Share out the cases of each class by shares of its own; drawn again until every site can be trained on."""
    labels = np.array(split.labels)
    while True:
        sites: list[list[int]] = [[] for _ in range(SITES)]
        for label in range(len(split.classes)):
            rows = rng.permutation(np.flatnonzero(labels == label))
            cuts = (np.cumsum(rng.dirichlet([SKEW] * SITES))[:-1] * len(rows)).astype(int)
            for site, part in zip(sites, np.split(rows, cuts), strict=True):
                site.extend(part.tolist())
        if all(usable(labels[site]) for site in sites):
            return sites


def by_patient(split: Split, rng: np.random.Generator) -> list[list[int]]:
    """Share out whole patients, to sites of sizes from 1 to 3."""
    labels, groups = np.array(split.labels), np.array(split.groups)
    sizes = np.linspace(1, 3, SITES)
    while True:
        names = np.unique(groups)
        owner = dict(zip(names, rng.choice(SITES, len(names), p=sizes / sizes.sum()), strict=True))
        sites = [[row for row, group in enumerate(groups) if owner[group] == site] for site in range(SITES)]
        if all(usable(labels[site]) for site in sites):
            return sites


def usable(labels: np.ndarray) -> bool:
    """Return whether a site can train on these labels."""
    counts = np.bincount(labels) if len(labels) else np.zeros(1)
    return len(labels) >= FEWEST and int((counts >= 2).sum()) >= 2


def limited(split: Split, per_class: int, rng: np.random.Generator) -> Split:
    """Return at most so many cases of each class."""
    labels = np.array(split.labels)
    rows = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(len(split.classes))]
    return split.subset(sorted(np.concatenate(rows).tolist()))


def alone(config: RunConfig, data: Dataset) -> Predictions:
    """Return the test predictions of ordinary training on the training images."""
    setup = set_up(config, data=data)
    support = score_and_select(config, setup).supports["hybrid"]
    delta = SparseDelta.zeros(setup.backbone, support, setup.probe)
    forward_pass = forward_pass_for(config, setup.backbone, support.indices, None, setup.forward_pass)
    for _ in finetune_as(config, setup, delta, forward_pass):
        pass
    with delta.applied(setup.backbone):
        return predict(setup.backbone, data.test, forward_pass=forward_pass)


def across(
    config: RunConfig, data: Dataset, parts: Sequence[Sequence[int]], personal: bool
) -> tuple[Predictions, int, int]:
    """Return the test predictions of the coordinator's model, and the bytes to and from all sites.

    With personal heads, its head is a linear probe on all training images under the common values.
    """
    sites = LocalSites(
        {f"site {n}": Site(config, data=replace(data, train=data.train.subset(part))) for n, part in enumerate(parts)}
    )
    with temporary_run(config) as folder:
        federation = Federation(personal_heads=personal)
        report = coordinate(config, federation, folder, sites, data=data)["federated"]
        predictions = folder.predictions.test()
    rows = report["sites"].values()
    assert not report["left_out"], report["left_out"]
    return predictions, sum(row["sent"] for row in rows), sum(row["received"] for row in rows)


def numbers(results: Sequence[Predictions]) -> tuple[str, str]:
    """Return the mean log loss and balanced accuracy over models, of a hundred."""
    metrics = [replicates_of(predictions, np.ones((1, len(predictions.ids))), auroc=False) for predictions in results]
    loss, accuracy = (100 * np.mean([row[name] for row in metrics]) for name in ("log_loss", "balanced_accuracy"))
    return f"{loss:.1f}", f"{accuracy:.1f}"


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="a dataset; repeat for more")
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--scope", default="last:4")
    parser.add_argument("--budget", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--per-class", type=int, default=40, help="training images of each class, of all sites")
    parser.add_argument("--tested", type=int, default=50, help="test images of each class")
    options = parser.parse_args()
    rows = []
    for source in options.data:
        config = RunConfig.parse(
            {
                "backbone": {
                    "name": options.backbone,
                    "weights": options.weights,
                    "image_size": options.image_size,
                },
                "dataset": {"source": source},
                "selection": {"scope": options.scope, "budget": options.budget},
                "training": {"epochs": options.epochs, "lr": options.lr},
                "device": "cpu",
            }
        )
        rng = np.random.default_rng(0)
        whole = load_dataset(source, seed=0)
        data = replace(
            whole,
            train=limited(whole.train, options.per_class, rng),
            val=limited(whole.val, options.per_class // 2, rng),
            test=limited(whole.test, options.tested, rng),
        )
        rows.append((whole.name, "all images in one place", *numbers([alone(config, data)]), "", ""))
        for name, rule in (("class", by_class), ("patient", by_patient)):
            parts = rule(data.train, rng)
            sizes = ", ".join(str(len(part)) for part in parts)
            lacking = sum(len(set(np.array(data.train.labels)[part])) < len(data.classes) for part in parts)
            for personal in (False, True):
                predictions, sent, received = across(config, data, parts, personal)
                what = f"six sites by {name}{', a head for each' if personal else ''}"
                rows.append((whole.name, what, *numbers([predictions]), f"{sent / 6e3:,.0f}", f"{received / 6e3:,.0f}"))
            each = [alone(config, replace(data, train=data.train.subset(part))) for part in parts]
            rows.append((whole.name, f"each site by {name} alone, mean", *numbers(each), "", ""))
            rows[-1] = (*rows[-1][:1], f"{rows[-1][1]} ({sizes} images; {lacking} lack a class)", *rows[-1][2:])
            print(*rows[-3:], sep="\n", flush=True)
    header = ("dataset", "training", "log loss", "balanced accuracy", "KB to a site", "KB from a site")
    body = (
        f"{options.backbone} at {options.image_size} px, scope {options.scope}, {options.epochs} epochs, "
        f"{options.per_class} training and at most {options.tested} test images of each class, one seed. Log loss and "
        "accuracy in points of a hundred. KB a site in the whole training, without what the transport adds."
    )
    publish("Across hospitals", f"{body}\n\n{table(header, rows)}", options.write)


if __name__ == "__main__":
    main()
