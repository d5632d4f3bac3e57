"""What a report says of the model, of its data, and of how all of it was made."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shpeft.reports.findings import Section
from shpeft.reports.tables import rate, table, whole
from shpeft.runs.card import METRICS, interval
from shpeft.runs.card import percent as share
from shpeft.runs.formats import environment, plain
from shpeft.trust import Trust


def model(header: Mapping[str, Any], metrics: Mapping[str, Any], trust: Trust | None) -> Section:
    """The model card."""
    weights, training = metrics["weights"], metrics["training"]
    best = "no epoch was better than the start" if training["best_epoch"] is None else f"epoch {training['best_epoch']}"
    facts = [
        ("Backbone", f"{header['backbone']} ({header['weights']}), input {header['image_size']} pixels square"),
        ("Tells apart", ", ".join(header["classes"])),
        (
            "Trained weights",
            f"{weights['selected']:,} of {weights['backbone']:,}: backbone {share(weights['share'])}, with head "
            f"{share(weights['share_with_head'])}; chosen by {weights['score']}",
        ),
        ("Training", f"{training['epochs']} epochs; kept: {best}"),
    ]
    results = [
        (
            title,
            interval(metrics["finetuned"][name]),
            interval(metrics["probe"][name]),
            interval(metrics["difference"][name], sign=True),
        )
        for name, title in METRICS.items()
    ]
    classes = [
        (row["name"], row["cases"], interval(row["recall"]), interval(row["auroc"]))
        for row in metrics["finetuned"]["per_class"]
    ]
    cases = metrics["finetuned"]["cases"]
    return Section(
        (),
        (
            f"Results on {cases} test images, with 95 % bootstrap intervals. The numbers hold for the test images "
            "described below and for nothing else.",
        ),
        (
            table("Model", (), facts),
            table("Results", ("Measure", "Fine-tuned", "Linear probe", "Paired difference"), results),
            table("Results of each class", ("Class", "Test images", "Recall", "AUROC"), classes),
            *([] if trust is None else [table("Chosen on the validation images", (), _chosen(trust))]),
        ),
    )


def _chosen(trust: Trust) -> list[tuple[str, str]]:
    fitted, test = trust.calibration, trust.test
    low, high = fitted.interval
    rows = [
        (
            "Temperature",
            f"{fitted.temperature:.2f} [{low:.2f}, {high:.2f}], from {fitted.cases} validation images: logits are "
            "divided by it before they become probabilities",
        )
    ]
    if test is not None:
        before, after = (interval(plain(e)) for e in (test.calibration.ece_before, test.calibration.ece_after))
        rows.append(("Calibration error on the test images", f"{before} before, {after} after"))
    if trust.operating is not None:
        rule, rates = trust.operating.rule, trust.operating.validation
        rows.append((f"Threshold for {rule.positive}", f"{trust.operating.threshold:.3f}, by the rule {rule.rule}"))
        rows += [
            ("Sensitivity, validation images", rate(rates.sensitivity)),
            ("Specificity, validation images", rate(rates.specificity)),
        ]
    if test is not None and test.operating is not None:
        rows += [
            ("Sensitivity, test images", rate(test.operating.sensitivity)),
            ("Specificity, test images", rate(test.operating.specificity)),
        ]
    sets = trust.sets
    rows.append(
        (
            "Prediction sets",
            f"{sets.rule.method.upper()}{', by class' * sets.rule.by_class}, made for a coverage of "
            f"{whole(sets.rule.coverage)}; with these validation images it lies between {whole(sets.expected[0])} and "
            f"{whole(sets.expected[1])}",
        )
    )
    rows += [("Caution", caution) for caution in sets.cautions]
    if test is not None and test.abstention is not None:
        rows.append(("Answered, test images", rate(test.abstention.coverage)))
        rows.append(("Wrong among those", rate(test.abstention.risk)))
    return rows


def data(dataset: Mapping[str, Any]) -> Section:
    """The dataset card."""
    names = list(dataset["classes"])
    counts = [(split, *(f"{found.get(name, 0):,}" for name in names)) for split, found in dataset["counts"].items()]
    facts = [("Name", dataset["name"])]
    facts += [
        (label, dataset[key]) for key, label in (("modality", "Modality"), ("notice", "Notice")) if dataset.get(key)
    ]
    facts += [("Split", dataset["split_rule"]), ("Damaged images left out", dataset["unreadable"])]
    facts += [("Warning", warning) for warning in dataset["warnings"]]
    return Section(tables=(table("Dataset", (), facts), table("Images", ("Split", *names), counts)))


def making(header: Mapping[str, Any], delta: Path, seed: int) -> Section:
    """Versions and fingerprints."""
    now, then = environment()["libraries"], header.get("versions", {})
    versions = [(name, then.get(name) or "not known", version or "none") for name, version in now.items()]
    fingerprints = [
        ("Base weights", header["base"]),
        ("Delta file (what training changed)", hashlib.sha256(delta.read_bytes()).hexdigest()),
        ("Dataset", header.get("dataset", {}).get("fingerprint", "not known")),
        ("Seed of the run", seed),
    ]
    return Section(
        (),
        (),
        (
            table("Fingerprints (SHA-256)", (), fingerprints),
            table("Versions", ("Library", "When the model was trained", "When this report was made"), versions),
        ),
    )
