"""The model card: the results of a run with their uncertainty, in Markdown."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from shpeft import NOTICE
from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.runs.run_file import DAMAGE
from shpeft.support.formatting import class_table, interval, metrics_of_task, percent, training_result
from shpeft.support.jsonable import to_jsonable
from shpeft.support.markdown import code, plain

if TYPE_CHECKING:
    from shpeft.evaluation import AnyReliability, IntervalReliability, Reliability
    from shpeft.runs.folder import RunFolder

LIMITS = (
    "The test images come from the same source as the training images; other scanners, hospitals and patients may "
    "differ. Saliency shows where the score is sensitive, not where disease is."
)


def run_card(folder: "RunFolder") -> str | None:
    """Return the model card of a run from its results, not from the file in its folder, which anybody may have written.

    Args:
        folder: the run; unfinished ones have none.

    Raises:
        RunError: a file of the run is damaged.
    """
    from shpeft.delta.file import read_header

    metrics = folder.metrics.read()
    if metrics is None or not folder.delta_path.exists():
        return None
    try:
        return model_card(folder.config, metrics, read_header(folder.delta_path), folder.reliability.read())
    except DAMAGE as error:
        raise RunError(
            f"The run {folder.name} is damaged: it has no model card ({error}). Choose another run."
        ) from None


def model_card(
    config: RunConfig,
    metrics: Mapping[str, Any],
    header: Mapping[str, Any],
    reliability: "AnyReliability | None" = None,
) -> str:
    """Write the ``README.md`` of a run folder.

    Args:
        config: the configuration of the run.
        metrics: the content of ``metrics.json``.
        header: the metadata of the delta file.
        reliability: what the validation images say about the probabilities.
    """
    weights, dataset = metrics["weights"], metrics["dataset"]
    sections = [
        f"# {plain(header['backbone'])} for {plain(dataset['name'])}",
        f"**{NOTICE}** The numbers below hold for the test images described here and for nothing else.",
        *([] if reliability is None else [f"**{plain(reliability.headline)}**"]),
        f"Backbone {code(header['backbone'])} ({plain(header['weights'])}, {header['image_size']} px): "
        f"{weights['selected']:,} of {weights['backbone']:,} weights were trained, backbone "
        f"{percent(weights['share'])}, with head {percent(weights['share_with_head'])}. They were selected by "
        f"*{plain(weights['score'])}* among {weights['eligible']:,} eligible ones. "
        f"{'Quantity' if 'unit' in metrics['finetuned'] else 'Classes'}: {plain(', '.join(header['classes']))}.",
        _results(metrics),
        *([] if reliability is None else [_reliability(name, part) for name, part in reliability.parts.items()]),
        *([_interval(reliability)] if _is_interval(reliability) else []),
        _data(dataset),
        _training(config, metrics),
        _loading(config, header),
        f"## Limits\n\n{LIMITS}",
    ]
    return "\n\n".join(sections) + "\n"


def _results(metrics: Mapping[str, Any]) -> str:
    rows = [
        f"| {title} | {interval(metrics['finetuned'][name])} | {interval(metrics['probe'][name])} "
        f"| {interval(metrics['difference'][name], sign=True)} |"
        for name, title in metrics_of_task(metrics["finetuned"]).items()
    ]
    classes = class_table(metrics["finetuned"].get("per_class", ()))
    unit = metrics["finetuned"].get("unit")
    return "\n".join(
        [
            f"## Results on {metrics['finetuned']['cases']} test images",
            "",
            "| | fine-tuned | linear probe | difference |",
            "|---|---|---|---|",
            *rows,
            "",
            "With 95 % bootstrap intervals; the difference is paired. Where its interval holds 0, take it as a tie."
            + (f" Errors are in {plain(unit)}." if unit else ""),
            *(["", f"| {' | '.join(classes[0])} |", f"|{'---|' * len(classes[0])}"] if classes else []),
            *(f"| {' | '.join(map(plain, row.values()))} |" for row in classes),
        ]
    )


def _is_interval(reliability: "AnyReliability | None") -> "TypeGuard[IntervalReliability]":
    from shpeft.evaluation import IntervalReliability

    return isinstance(reliability, IntervalReliability)


def _interval(reliability: "IntervalReliability") -> str:
    """Return the section on the prediction interval, as fitted on validation images and as tested."""
    low, high = reliability.expected
    lines = [f"## Prediction interval, on {reliability.cases} validation images", ""]
    if reliability.half_width is not None:
        lines.append(
            f"- The prediction {plain(reliability.shown_width)}, for {reliability.rules.coverage:.0%} of cases; with "
            f"as many validation images the coverage is between {low:.0%} and {high:.0%} in 95 % of draws."
        )
    if reliability.test is not None and reliability.half_width is not None:
        lines.append(f"- On the test images: {reliability.test.covered.counts} intervals hold the true value.")
    if reliability.test is not None and reliability.test.gate is not None:
        lines += [f"- On the test images: {plain(sentence)}" for sentence in reliability.test.gate.sentences]
    lines += [f"- Caution: {plain(caution)}" for caution in reliability.cautions]
    return "\n".join(lines)


def _reliability(name: str, reliability: "Reliability") -> str:
    """Return the section on calibration and decision rules, as fitted on validation images and as tested."""
    fitted, test = reliability.calibration, reliability.test
    low, high = fitted.interval
    lines = [
        f"## Calibration{f' of {name}' if name else ''}, on {fitted.cases} validation images",
        "",
        f"- Temperature {fitted.temperature:.2f} [{low:.2f}, {high:.2f}]: logits are divided by it "
        "before they become probabilities.",
    ]
    if test is not None:
        before, after = (
            interval(to_jsonable(test.calibration.ece_before)),
            interval(to_jsonable(test.calibration.ece_after)),
        )
        lines.append(f"- Calibration error on the test images {before} before, {after} after.")
    if reliability.operating is not None:
        rates, rule = reliability.operating.validation, reliability.operating.rule
        lines.append(
            f"- Threshold for {plain(rule.positive)}: {reliability.operating.threshold:.3f} ({plain(rule.rule)}); "
            f"validation sensitivity {rates.sensitivity}, specificity {rates.specificity}."
        )
    if test is not None and test.operating is not None:
        rates = test.operating
        lines.append(f"- On the test images: sensitivity {rates.sensitivity}, specificity {rates.specificity}.")
    if reliability.operating is not None and reliability.operating.bound is not None:
        lines.append(f"- {plain(reliability.operating.bound.sentence)}")
    if test is not None:
        set_rule = reliability.sets.rule
        counts = "; ".join(f"{plain(name)}: {share.counts}" for name, share in test.coverage.by_class.items())
        lines.append(
            f"- Still possible: prediction sets ({set_rule.method.upper()}) at a coverage of {set_rule.coverage:.0%}. "
            f"Test images whose set held their true class: {counts}."
        )
    if test is not None and test.gate is not None:
        lines += [f"- On the test images: {plain(sentence)}" for sentence in test.gate.sentences]
    lines += [f"- Caution: {plain(caution)}" for caution in reliability.sets.cautions]
    return "\n".join(lines)


def _data(dataset: Mapping[str, Any]) -> str:
    names = list(dataset["classes"])
    lines = [
        f"## Data: {plain(dataset['name'])}",
        "",
        f"| split | {' | '.join(map(plain, names))} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {plain(split)} | {' | '.join(str(counts.get(name, 0)) for name in names)} |"
            for split, counts in dataset["counts"].items()
        ),
        "",
        *(
            f"- {label}: {plain(dataset[key])}"
            for key, label in (("modality", "Modality"), ("notice", "Notice"))
            if dataset.get(key)
        ),
        f"- Split: {plain(dataset['split_rule'])}",
        f"- Damaged images left out: {plain(dataset['unreadable'])}",
        *(f"- Warning: {plain(warning)}" for warning in dataset["warnings"]),
        f"- Fingerprint: {code(dataset['fingerprint'][:16])}",
    ]
    return "\n".join(lines)


def _training(config: RunConfig, metrics: Mapping[str, Any]) -> str:
    chosen, result = config.training, training_result(metrics["training"])
    done = metrics["training"]["epochs"]
    stopped = f" (stopped; {chosen.epochs} were planned)" if done < chosen.epochs else ""
    return (
        f"## Training\n\nThe head began as the linear probe. {done} epochs{stopped}, batches of "
        f"{chosen.batch_size}, learning rates {chosen.lr:g} (weights) and {chosen.head_lr:g} (head), weight decay "
        f"{chosen.weight_decay:g}, seed {config.seed}; {result}. `config.yaml` has the whole configuration, "
        "`environment.json` the versions."
    )


def _loading(config: RunConfig, header: Mapping[str, Any]) -> str:
    return (
        f"## How to load\n\n```python\n{loading_code(config, header)}\n```\n\n"
        "Or `shpeft diagnose RUN_FOLDER image.png`."
    )


def loading_code(config: RunConfig, header: Mapping[str, Any]) -> str:
    """Return Python code that loads a run's delta and diagnoses an image."""
    backbone = config.portable().backbone
    given = f", image_size={json.dumps(header['image_size'])}"
    given += f", weights={json.dumps(backbone.weights)}" if backbone.weights != "pretrained" else ""
    given += f", model_args={list(backbone.model_args)!r}" if backbone.model_args else ""
    given += "".join(f", {name}={getattr(backbone, name)!r}" for name in ("mean", "std") if getattr(backbone, name))
    given += f", task=shpeft.tasks.read_task({header['task']!r})" if "task" in header else ""
    return f"""import shpeft

model = shpeft.create_backbone(
    {json.dumps(header["backbone"])}, classes={tuple(header["classes"])!r}{given}
)
delta = shpeft.load_delta("delta.safetensors", base=model)  # refuses another base
with delta.applied(model):  # restored bit for bit afterwards
    print(shpeft.diagnose(model, "image.png").ranked())"""
