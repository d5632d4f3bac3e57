"""Accuracy of the fast preset compared with the thorough one, on the same datasets with equal settings.

Runs are stored in ``--runs``; finished ones are not repeated.
"""

from pathlib import Path
from statistics import mean

from harness import arguments, publish, table

from shpeft import pipeline
from shpeft.config import PRESETS, RunConfig
from shpeft.runs import RunFolder


def finished_run(config: RunConfig, path: Path) -> RunFolder:
    """Return the finished run of a folder; run it first if there is none."""
    if not (path / "metrics.json").exists():
        folder = RunFolder.create(path, config, overwrite=path.exists())
        pipeline.run(config, folder, progress=lambda stage, done, total: None)
    return RunFolder.open(path)


def measure(config: RunConfig, sources: list[str], runs: Path) -> str:
    """Return the section's text."""
    rows, accuracies = [], {name: [] for name in (*PRESETS, "probe")}
    for source in sources:
        metrics = {}
        for preset in PRESETS:
            raw = config.with_preset(preset).model_dump()
            raw["dataset"]["source"] = source
            run = finished_run(RunConfig.parse(raw), runs / f"{Path(source).name}-{preset}")
            metrics[preset] = run.metrics.read()
        scores = {preset: m["finetuned"]["balanced_accuracy"]["value"] for preset, m in metrics.items()}
        scores["probe"] = metrics["fast"]["probe"]["balanced_accuracy"]["value"]
        for name, value in scores.items():
            accuracies[name].append(100 * value)
        rows.append([Path(source).name, *(f"{accuracies[name][-1]:.1f}" for name in ("probe", "thorough", "fast"))])
    means = {name: mean(values) for name, values in accuracies.items()}
    rows.append(["mean", *(f"{means[name]:.1f}" for name in ("probe", "thorough", "fast"))])
    difference = means["fast"] - means["thorough"]
    return (
        f"Balanced accuracy on the test images in percent: one seed, {config.training.epochs} epochs, "
        f"{100 * config.selection.budget:g} % of {config.backbone.name} at {config.backbone.image_size} px, untuned "
        f"defaults. On average fast differs from thorough by {difference:+.1f} points; a single dataset shows nothing, "
        "its interval is about ten points wide.\n\n" + table(("dataset", "linear probe", "thorough", "fast"), rows)
    )


def main() -> None:
    """Read the options, run what is missing, and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", action="append", required=True, metavar="SOURCE", help="may be repeated")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    options = parser.parse_args()
    backbone = {"name": options.backbone, "weights": options.weights, "image_size": options.image_size}
    config = RunConfig.parse({"backbone": backbone, "training": {"epochs": options.epochs}})
    publish("The presets", measure(config, options.data, options.runs), options.write)


if __name__ == "__main__":
    main()
