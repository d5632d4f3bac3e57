"""The model card: what a run is, how good it is and how sure that is, in Markdown for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft import NOTICE
from shpeft.config import RunConfig
from shpeft.runs.formats import plain

if TYPE_CHECKING:
    from shpeft.trust import Trust

METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_auroc": "Macro AUROC",
    "macro_f1": "Macro F1",
    "mcc": "Matthews correlation",
    "ece": "Calibration error (lower is better)",
    "brier": "Brier score (lower is better)",
}


def interval(found: Mapping[str, float | None], sign: bool = False) -> str:
    """``0.842 [0.781, 0.893]``; with ``sign`` a difference, ``+0.031 [-0.002, +0.060]``."""
    value, low, high = (
        "n/a" if found[key] is None else f"{found[key]:{'+' if sign else ''}.3f}" for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def percent(share: float) -> str:
    """A share of weights: ``0.010 %``; more digits where it is small."""
    return f"{100 * share:.3f} %" if share >= 5e-6 else f"{100 * share:.2g} %"


def model_card(
    config: RunConfig, metrics: Mapping[str, Any], header: Mapping[str, Any], trust: "Trust | None" = None
) -> str:
    """The ``README.md`` of a run folder.

    Args:
        metrics: what ``metrics.json`` holds.
        header: the delta file's metadata.
        trust: what the validation images say about the probabilities.
    """
    weights, dataset = metrics["weights"], metrics["dataset"]
    sections = [
        f"# {header['backbone']} for {dataset['name']}",
        f"**{NOTICE}** The numbers below hold for the test images described here and for nothing else.",
        f"Backbone `{header['backbone']}` ({header['weights']}, {header['image_size']} px): {weights['selected']:,} of "
        f"{weights['backbone']:,} weights were trained, backbone {percent(weights['share'])}, with head "
        f"{percent(weights['share_with_head'])}. They were chosen by *{weights['score']}* among "
        f"{weights['eligible']:,} eligible ones. It tells apart: {', '.join(header['classes'])}.",
        _results(metrics),
        *([] if trust is None else [_trust(trust)]),
        _data(dataset),
        _training(config, metrics),
        _loading(config, header),
        "## Limits\n\nThe test images come from the same source as the training images; other scanners, hospitals and "
        "patients may differ. Saliency shows where the score is sensitive, not where disease is.",
    ]
    return "\n\n".join(sections) + "\n"


def _results(metrics: Mapping[str, Any]) -> str:
    rows = [
        f"| {title} | {interval(metrics['finetuned'][name])} | {interval(metrics['probe'][name])} "
        f"| {interval(metrics['difference'][name], sign=True)} |"
        for name, title in METRICS.items()
    ]
    classes = [
        f"| {row['name']} | {row['cases']} | {interval(row['recall'])} | {interval(row['auroc'])} |"
        for row in metrics["finetuned"]["per_class"]
    ]
    return "\n".join(
        [
            f"## Results on {metrics['finetuned']['cases']} test images",
            "",
            "| | fine-tuned | linear probe | difference |",
            "|---|---|---|---|",
            *rows,
            "",
            "With 95 % bootstrap intervals; the difference is paired. Where its interval holds 0, take it as a tie.",
            "",
            "| class | cases | recall | AUROC |",
            "|---|---|---|---|",
            *classes,
        ]
    )


def _trust(trust: "Trust") -> str:
    """Calibration, and what was chosen on the validation images, with what became of it on the test images."""
    fitted, test = trust.calibration, trust.test
    low, high = fitted.interval
    lines = [
        f"## Calibration, on {fitted.cases} validation images",
        "",
        f"- Temperature {fitted.temperature:.2f} [{low:.2f}, {high:.2f}]: logits are divided by it "
        "before they become probabilities.",
    ]
    if test is not None:
        before, after = interval(plain(test.calibration.ece_before)), interval(plain(test.calibration.ece_after))
        lines.append(f"- Calibration error on the test images {before} before, {after} after.")
    if trust.operating is not None:
        rates, rule = trust.operating.validation, trust.operating.rule
        lines.append(
            f"- Threshold for {rule.positive}: {trust.operating.threshold:.3f} ({rule.rule}); validation sensitivity "
            f"{rates.sensitivity}, specificity {rates.specificity}."
        )
    if test is not None and test.operating is not None:
        rates = test.operating
        lines.append(f"- On the test images: sensitivity {rates.sensitivity}, specificity {rates.specificity}.")
    if test is not None:
        wanted = f"- Prediction sets ({trust.sets.rule.method.upper()}) at a coverage of {trust.sets.rule.coverage:.0%}"
        lines.append(f"{wanted} hold the true class of the test images in {test.coverage.covered}.")
    lines += [f"- Caution: {caution}" for caution in trust.sets.cautions]
    return "\n".join(lines)


def _data(dataset: Mapping[str, Any]) -> str:
    names = list(dataset["classes"])
    lines = [
        f"## Data: {dataset['name']}",
        "",
        f"| split | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {split} | {' | '.join(str(counts.get(name, 0)) for name in names)} |"
            for split, counts in dataset["counts"].items()
        ),
        "",
        *(
            f"- {label}: {dataset[key]}"
            for key, label in (("modality", "Modality"), ("notice", "Notice"))
            if dataset.get(key)
        ),
        f"- Split: {dataset['split_rule']}",
        f"- Damaged images left out: {dataset['unreadable']}",
        *(f"- Warning: {warning}" for warning in dataset["warnings"]),
        f"- Fingerprint: `{dataset['fingerprint'][:16]}`",
    ]
    return "\n".join(lines)


def _training(config: RunConfig, metrics: Mapping[str, Any]) -> str:
    chosen, best = config.training, metrics["training"]["best_epoch"]
    kept = (
        "no epoch was better than the start" if best is None else f"epoch {best} was the best on the validation images"
    )
    done = metrics["training"]["epochs"]
    stopped = f" (stopped; {chosen.epochs} were planned)" if done < chosen.epochs else ""
    return (
        f"## Training\n\nThe head began as the linear probe. {done} epochs{stopped}, batches of "
        f"{chosen.batch_size}, learning rates {chosen.lr:g} (weights) and {chosen.head_lr:g} (head), weight decay "
        f"{chosen.weight_decay:g}, seed {config.seed}; {kept}. `config.yaml` has the whole configuration, "
        "`environment.json` the versions."
    )


def _loading(config: RunConfig, header: Mapping[str, Any]) -> str:
    weights = config.backbone.weights
    given = f', weights="{Path(weights).name}"' if weights != "pretrained" else ""
    return f"""## How to load

```python
import shpeft

model = shpeft.create_backbone(
    "{header["backbone"]}", classes={tuple(header["classes"])!r}, image_size={header["image_size"]}{given}
)
delta = shpeft.load_delta("delta.safetensors", base=model)  # refuses another base
with delta.applied(model):  # restored bit for bit afterwards
    print(shpeft.diagnose(model, "image.png").ranked())
```

Or `shpeft diagnose RUN_FOLDER image.png`."""
