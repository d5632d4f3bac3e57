"""Report sections about the model, its data, versions and fingerprints."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shpeft.evaluation import AnyReliability, IntervalReliability, Reliability
from shpeft.reports.formatting import rate, table, whole
from shpeft.reports.image_section import Section
from shpeft.support.bounded_files import parse_json, read_regular_file
from shpeft.support.environment import environment, threads
from shpeft.support.formatting import class_table, interval, metrics_of_task, training_result
from shpeft.support.formatting import percent as share
from shpeft.support.jsonable import to_jsonable
from shpeft.support.limits import DOCUMENT_BYTES


def model(header: Mapping[str, Any], metrics: Mapping[str, Any], reliability: AnyReliability | None) -> Section:
    """Return the model card."""
    weights, training = metrics["weights"], metrics["training"]
    size = header["image_size"]
    shape = f"{size} pixels square" if isinstance(size, int) else f"{size} pixels (height x width)"
    facts = [
        ("Backbone", f"{header['backbone']} ({header['weights']}), input {shape}"),
        ("Quantity" if "unit" in metrics["finetuned"] else "Classes", ", ".join(header["classes"])),
        (
            "Trained weights",
            f"{weights['selected']:,} of {weights['backbone']:,}: backbone {share(weights['share'])}, with head "
            f"{share(weights['share_with_head'])}; selected by {weights['score']}",
        ),
        (
            "Training",
            f"{training['epochs']} epochs; {training_result(training)}",
        ),
    ]
    results = [
        (
            title,
            interval(metrics["finetuned"][name]),
            interval(metrics["probe"][name]),
            interval(metrics["difference"][name], sign=True),
        )
        for name, title in metrics_of_task(metrics["finetuned"]).items()
    ]
    classes = class_table(metrics["finetuned"].get("per_class", ()))
    titles = tuple(title[:1].upper() + title[1:] for title in (classes[0] if classes else ()))
    unit = metrics["finetuned"].get("unit")
    cases = metrics["finetuned"]["cases"]
    headline = () if reliability is None else (reliability.headline,)
    return Section(
        (),
        (
            *headline,
            f"Results on {cases} test images, with 95 % bootstrap intervals. They hold for the test images described "
            f"below and may not transfer to others.{f' Errors are in {unit}.' if unit else ''}",
        ),
        (
            table("Model", (), facts),
            table("Results", ("Measure", "Fine-tuned", "Linear probe", "Paired difference"), results),
            *([table("Results by class", titles, [tuple(row.values()) for row in classes])] if classes else []),
            *(
                table(f"Calibration and decision rules{f': {name}' if name else ''}", (), _decision_rules(part))
                for name, part in ({} if reliability is None else reliability.parts).items()
            ),
            *(
                [table("Prediction interval", (), _interval(reliability))]
                if isinstance(reliability, IntervalReliability)
                else []
            ),
        ),
    )


def _decision_rules(reliability: Reliability) -> list[tuple[str, str]]:
    fitted, test = reliability.calibration, reliability.test
    low, high = fitted.interval
    rows = [
        (
            "Temperature",
            f"{fitted.temperature:.2f} [{low:.2f}, {high:.2f}], fitted on {fitted.cases} validation images. Logits are "
            "divided by it before the softmax",
        )
    ]
    if test is not None:
        before, after = (interval(to_jsonable(e)) for e in (test.calibration.ece_before, test.calibration.ece_after))
        rows.append(("Calibration error on the test images", f"{before} before calibration, {after} after"))
    if reliability.operating is not None:
        rule, rates = reliability.operating.rule, reliability.operating.validation
        rows.append(
            (f"Threshold for {rule.positive}", f"{reliability.operating.threshold:.3f}, by the rule {rule.rule}")
        )
        rows += [
            ("Sensitivity, validation images", rate(rates.sensitivity)),
            ("Specificity, validation images", rate(rates.specificity)),
        ]
    if test is not None and test.operating is not None:
        rows += [
            ("Sensitivity, test images", rate(test.operating.sensitivity)),
            ("Specificity, test images", rate(test.operating.specificity)),
        ]
    sets = reliability.sets
    for_each = ", for each class" if sets.rule.by_class else ""
    rows.append(
        ("Prediction sets", f"{sets.rule.method.upper()}{for_each}, for a coverage of {whole(sets.rule.coverage)}")
    )
    if test is not None:
        counts = "; ".join(f"{name}: {share.counts}" for name, share in test.coverage.by_class.items())
        rows.append(("Test images whose set held their true class", counts))
    rows += [("Caution", caution) for caution in sets.cautions]
    if test is not None and test.gate is not None:
        rows += [("Gate, test images", sentence) for sentence in test.gate.sentences]
    return rows


def _interval(reliability: IntervalReliability) -> list[tuple[str, str]]:
    rows = [("Interval", f"{reliability.shown_width}, fitted on {reliability.cases:,} validation images")]
    if reliability.half_width is not None:
        rows.append(("Coverage", f"for {whole(reliability.rules.coverage)} of cases"))
    if reliability.test is not None and reliability.half_width is not None:
        rows.append(("Test images whose interval holds the true value", rate(reliability.test.covered)))
    rows += [("Caution", caution) for caution in reliability.cautions]
    if reliability.test is not None and reliability.test.gate is not None:
        rows += [("Gate, test images", sentence) for sentence in reliability.test.gate.sentences]
    return rows


def data(dataset: Mapping[str, Any]) -> Section:
    """Return the dataset card."""
    names = list(dataset["classes"])
    counts = [(split, *(f"{row.get(name, 0):,}" for name in names)) for split, row in dataset["counts"].items()]
    facts = [("Name", dataset["name"])]
    facts += [
        (label, dataset[key]) for key, label in (("modality", "Modality"), ("notice", "Notice")) if dataset.get(key)
    ]
    facts += [("Split", dataset["split_rule"]), ("Damaged images, left out", dataset["unreadable"])]
    facts += [("Warning", warning) for warning in dataset["warnings"]]
    return Section(tables=(table("Dataset", (), facts), table("Images", ("Split", *names), counts)))


def provenance(header: Mapping[str, Any], delta: Path, seed: int) -> Section:
    """Return the fingerprints and the library versions."""
    current, trained = environment()["libraries"], header.get("versions", {})
    versions = [(name, trained.get(name) or "unknown", version or "none") for name, version in current.items()]
    fingerprints = [
        ("Base weights", header["base"]),
        ("Delta file (the trained weights)", hashlib.sha256(delta.read_bytes()).hexdigest()),
        ("Dataset", header.get("dataset", {}).get("fingerprint", "unknown")),
        ("Seed of the run", seed),
    ]
    if sentence := _other_threads(delta.parent):
        fingerprints.append(("Threads", sentence))
    return Section(
        (),
        (),
        (
            table("Fingerprints (SHA-256)", (), fingerprints),
            table("Versions", ("Library", "At training", "At reporting"), versions),
        ),
    )


def _other_threads(folder: Path) -> str:
    """Say that a run was trained with another number of threads than this report; empty if not, or if it is unknown."""
    try:
        then = parse_json(read_regular_file(folder / "environment.json", DOCUMENT_BYTES)).get("threads")
    except (OSError, ValueError, AttributeError):
        return ""
    now = threads()
    if not isinstance(then, int) or now is None or then == now:
        return ""
    return f"{then} at training, {now} at reporting: the last digits of numbers may differ"
