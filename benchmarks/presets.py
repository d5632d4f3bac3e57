"""What the fast preset costs in accuracy: both presets on the same datasets, equal settings, against each other.

Runs are kept in ``--runs``; one that is finished is not carried out again.
"""

from pathlib import Path
from statistics import mean

from harness import arguments, publish, table

from shpeft import pipeline
from shpeft.config import PRESETS, RunConfig
from shpeft.runs import RunFolder


def carried_out(config: RunConfig, place: Path) -> RunFolder:
    """The finished run of this folder, carried out now if there is none."""
    if not (place / "metrics.json").exists():
        folder = RunFolder.create(place, config, overwrite=place.exists())
        pipeline.run(config, folder, progress=lambda stage, done, total: None)
    return RunFolder.open(place)


def measure(config: RunConfig, sources: list[str], runs: Path) -> str:
    """The section's text."""
    rows, found = [], {name: [] for name in (*PRESETS, "probe")}
    for source in sources:
        metrics = {}
        for preset in PRESETS:
            raw = config.with_preset(preset).model_dump()
            raw["dataset"]["source"] = source
            metrics[preset] = carried_out(RunConfig.parse(raw), runs / f"{Path(source).name}-{preset}").metrics()
        scores = {preset: m["finetuned"]["balanced_accuracy"]["value"] for preset, m in metrics.items()}
        scores["probe"] = metrics["fast"]["probe"]["balanced_accuracy"]["value"]
        for name, value in scores.items():
            found[name].append(100 * value)
        rows.append([Path(source).name, *(f"{found[name][-1]:.1f}" for name in ("probe", "thorough", "fast"))])
    means = {name: mean(values) for name, values in found.items()}
    rows.append(["mean", *(f"{means[name]:.1f}" for name in ("probe", "thorough", "fast"))])
    difference = means["fast"] - means["thorough"]
    return (
        f"Balanced accuracy on the test images, per cent: one seed, {config.training.epochs} epochs, "
        f"{100 * config.selection.budget:g} % of {config.backbone.name} at {config.backbone.image_size} px, untuned "
        f"defaults. As a mean fast lies {difference:+.1f} points from thorough; one set alone tells nothing, its "
        "interval is some ten points wide.\n\n" + table(("dataset", "linear probe", "thorough", "fast"), rows)
    )


def main() -> None:
    """Read the options, run what is missing, print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", action="append", required=True, metavar="SOURCE", help="may be repeated")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    options = parser.parse_args()
    backbone = {"name": options.backbone, "weights": options.weights, "image_size": options.image_size}
    config = RunConfig.parse({"backbone": backbone, "training": {"epochs": options.epochs}})
    publish("The presets", measure(config, options.data, options.runs), options.write)


if __name__ == "__main__":
    main()
