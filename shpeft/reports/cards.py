"""The model card of a run as Markdown, as one HTML page, as JSON, and in the XML of the Coalition for Health AI."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from shpeft import NOTICE
from shpeft.delta.file import read_header
from shpeft.errors import RunError
from shpeft.evaluation import AnyReliability, IntervalReliability, Proportion
from shpeft.reports import provenance_section
from shpeft.reports.html import template
from shpeft.runs import RunFolder
from shpeft.runs.model_card import LIMITS, loading_code, run_card
from shpeft.support.formatting import main_metrics, metrics_of_task, percent
from shpeft.support.image_size import height_and_width
from shpeft.support.markdown import plain

CardForm = Literal["markdown", "html", "json", "chai"]

FORMAT = "shpeft.card/1"

CHAI = "https://mc.chai.org/v0.2/schema.xsd"
"""Namespace of the applied model card, https://github.com/coalition-for-health-ai/mc-schema."""

UNSTATED = "Not stated: to be filled in by who publishes or deploys the model."

DATA_KEYS = ("name", "modality", "notice", "classes", "counts", "split_rule", "unreadable", "warnings", "fingerprint")

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have."""


@dataclass(frozen=True)
class Form:
    """A form of the card: its title and help on the page, and the suffix and type of its file."""

    title: str
    suffix: str
    mime: str
    help: str


CARD_FORMS: dict[CardForm, Form] = {
    "markdown": Form("Markdown", ".md", "text/markdown", "The card below."),
    "html": Form("HTML", ".html", "text/html", "One page without scripts or requests, to send or print."),
    "json": Form("JSON", ".json", "application/json", "The same facts and numbers for programs."),
    "chai": Form(
        "CHAI (XML)",
        ".xml",
        "application/xml",
        "The applied model card of the Coalition for Health AI, version 0.2. What shpeft cannot know says so, and a "
        "person has to fill it in.",
    ),
}


def card(run: RunFolder, form: CardForm) -> str:
    """Return the model card of a finished run.

    Args:
        run: the run.
        form: a key of :data:`CARD_FORMS`.

    Raises:
        RunError: the run is not finished, or damaged.

    Examples:
        >>> from shpeft.runs.example import example_path
        >>> json.loads(card(RunFolder.open(example_path()), "json"))["classes"]
        ['healthy', 'haemorrhages', 'exudates']
    """
    markdown, metrics = run_card(run), run.metrics.read()
    if markdown is None or metrics is None:
        raise RunError(f"The run {run.name} has no model yet. A card needs a finished run.")
    if form == "markdown":
        return markdown
    header, reliability = read_header(run.delta_path), run.reliability.read()
    if form == "html":
        return _html(run, header, metrics, reliability)
    if form == "json":
        return json.dumps(_values(run, header, metrics, reliability), indent=1, ensure_ascii=False) + "\n"
    return _chai(header, metrics, reliability)


def _name(header: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    return f"{header['backbone']} for {metrics['dataset']['name']}"


def _html(
    run: RunFolder, header: Mapping[str, Any], metrics: Mapping[str, Any], reliability: AnyReliability | None
) -> str:
    return template("card.html").render(
        notice=NOTICE,
        name=_name(header, metrics),
        model=provenance_section.model(header, metrics, reliability),
        data=provenance_section.data(metrics["dataset"]),
        provenance=provenance_section.provenance(header, run.delta_path, run.config.seed),
        loading=loading_code(run.config, header),
        limits=LIMITS,
    )


def _values(
    run: RunFolder, header: Mapping[str, Any], metrics: Mapping[str, Any], reliability: AnyReliability | None
) -> dict[str, Any]:
    """Return the card's facts and numbers as JSON types; docs/files.md describes them."""
    training, dataset = run.config.training, metrics["dataset"]
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "name": _name(header, metrics),
        "headline": "" if reliability is None else reliability.headline,
        "backbone": {key: header[key] for key in ("backbone", "weights", "image_size")},
        "task": header.get("task"),
        "classes": list(header["classes"]),
        "trained_weights": dict(metrics["weights"]),
        "training": {
            **{key: getattr(training, key) for key in ("batch_size", "lr", "head_lr", "weight_decay")},
            "epochs_planned": training.epochs,
            **{key: metrics["training"][key] for key in ("epochs", "best_epoch")},
            "averaged": metrics["training"].get("averaged", 0),
            "seed": run.config.seed,
        },
        "results": {key: metrics[key] for key in ("finetuned", "probe", "difference")},
        "reliability": None if reliability is None else reliability.to_dict(),
        "dataset": {key: dataset[key] for key in DATA_KEYS if key in dataset},
        "fingerprints": {
            "base": header["base"],
            "delta": hashlib.sha256(run.delta_path.read_bytes()).hexdigest(),
            "dataset": dataset["fingerprint"],
        },
        "versions": dict(header.get("versions", {})),
        "loading": loading_code(run.config, header),
        "limits": LIMITS,
    }


Fields = dict[str, Any]
"""Elements by name in their order: a text, elements inside, keywords, or results as labels with a value in JSON."""


def _chai(header: Mapping[str, Any], metrics: Mapping[str, Any], reliability: AnyReliability | None) -> str:
    root = ElementTree.Element("AppliedModelCard", xmlns=CHAI)
    _add(root, _chai_fields(header, metrics, reliability))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add(parent: ElementTree.Element, fields: Fields) -> None:
    for name, value in fields.items():
        element = ElementTree.SubElement(parent, name)
        if isinstance(value, str):
            element.text = NOT_XML.sub("", value)
        elif isinstance(value, dict):
            _add(element, value)
        else:
            for each in value:
                _add(element, {"Keyword": each} if isinstance(each, str) else {"MetricResult": _result(*each)})


def _result(label: str, value: str) -> "Fields":
    return {"Label": label, "ValueJson": value}


def _chai_fields(header: Mapping[str, Any], metrics: Mapping[str, Any], reliability: AnyReliability | None) -> Fields:
    """Return the card's fields in the order of the schema: names as they are, and prose."""
    weights, dataset, tested = metrics["weights"], metrics["dataset"], metrics["finetuned"]
    classes, modality = _prose(", ".join(header["classes"])), str(dataset.get("modality") or "")
    counts = "; ".join(f"{split}: {sum(row.values()):,}" for split, row in dataset["counts"].items())
    rows, columns = height_and_width(header["image_size"])
    number = "unit" in tested
    images = f"{_prose(dataset['name'])}. Images: {_prose(counts)}. Split: {_prose(dataset['split_rule'])}"
    held_out = {
        "TestType": "Internal: held-out images of the same source as the training images, used once.",
        "TestingDataDescription": images,
        "ValidationProcessAndJustification": "95 % intervals, by bootstrap over the test images or for "
        "counts those of Wilson. Thresholds and calibration are fitted on the validation images alone.",
    }
    headline = "" if reliability is None else _prose(reliability.headline)
    cautions = [_prose(warning) for warning in dataset["warnings"]]
    outputs = f"A number, {classes}" if number else f"A probability for each of: {classes}; an answer, or no answer"
    return {
        "BasicInfo": {
            "ModelName": _name(header, metrics),
            "ModelDeveloper": UNSTATED,
            "DeveloperContact": UNSTATED,
        },
        "ReleaseInfo": {
            "ReleaseStage": NOTICE,
            "ReleaseDate": UNSTATED,
            "ReleaseVersion": f"Dataset {dataset['fingerprint'][:16]}, base weights {header['base'][:16]}",
            "GlobalAvailability": UNSTATED,
        },
        "ModelSummary": {
            "Summary": f"{weights['selected']:,} of {weights['backbone']:,} weights ({percent(weights['share'])}) of "
            f"the image model {_prose(header['backbone'])} were trained on {_prose(dataset['name'])}. "
            f"{headline}".strip(),
            "Keywords": [word for word in (modality, *header["classes"]) if word],
        },
        "UsesAndDirections": {
            "IntendedUseAndWorkflow": NOTICE,
            "PrimaryIntendedUsers": UNSTATED,
            "HowToUse": "shpeft diagnose RUN IMAGE. A qualified reader decides.",
            "TargetedPatientPopulation": UNSTATED,
            "CautionedOutOfScopeSettings": "Diagnosis and treatment of patients; images of another modality, body "
            "part, scanner or hospital than the training images.",
        },
        "Warnings": {
            "KnownRisksAndLimitations": " ".join([_prose(LIMITS), *cautions]),
            "KnownBiasesOrEthicalConsiderations": "Not examined: the card has no results by age, sex or origin.",
            "ClinicalRiskLevel": UNSTATED,
        },
        "TrustIngredients": {
            "AISystemFacts": {
                "OutcomesAndOutputs": outputs,
                "ModelType": "A pretrained image model with a linear head, sparsely fine-tuned.",
                "FoundationModels": f"{_prose(header['backbone'])} ({_prose(header['weights'])})",
                "InputDataSource": images,
                "OutputAndInputDataTypes": f"Input: one image{f' ({_prose(modality)})' * bool(modality)}, resized to "
                f"{columns} × {rows} pixels. Output: {outputs}.",
                "DevelopmentDataCharacterization": images,
                "BiasMitigationApproaches": "None beyond the split by group where groups are given.",
                "OngoingMaintenance": UNSTATED,
            },
            "TransparencyInformation": {"FundingSource": UNSTATED, "StakeholdersConsulted": UNSTATED},
        },
        "KeyMetrics": {
            "UsefulnessUsabilityEfficacy": {
                "MetricGoal": "To beat the linear probe: the unchanged backbone with a trained classifier.",
                "Results": list(_measures(metrics)),
                "Interpretation": headline or "See the results.",
                **held_out,
            },
            "FairnessEquity": {
                "MetricGoal": UNSTATED,
                "Results": [("Subgroups compared", json.dumps({"kind": "single", "value": 0}))],
                "Interpretation": "Not examined.",
                **held_out,
            },
            "SafetyReliability": {
                "MetricGoal": "Few misses and false alarms at the operating point, and probabilities that hold.",
                "Results": list(_safety(metrics, reliability)),
                "Interpretation": headline or "See the results.",
                **held_out,
            },
        },
        "Resources": {"PeerReviewedPublications": "arXiv 2405.17877 (method)", "PatientConsentOrDisclosure": UNSTATED},
        "Bibliography": "",
    }


def _prose(text: object) -> str:
    """Return text for the card's prose, where the schema allows Markdown: what would be markup there is escaped.

    Icons and formulas, which Streamlit alone knows, and entities, which only stand for a character, need no escapes.

    Examples:
        >>> print(_prose("phantom:fundus?n=9&size=4, <img src=x>"))
        phantom:fundus?n=9&size=4, \\<img src=x>
    """
    escaped = plain(text)
    for harmless in ":$&":
        escaped = escaped.replace(f"\\{harmless}", harmless)
    return escaped


def _measures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the metrics that stand for a task, of the model and of the linear probe."""
    titles, unit = metrics_of_task(metrics["finetuned"]), metrics["finetuned"].get("unit") or ""
    for name in main_metrics(metrics["finetuned"]):
        for kind, label in (("finetuned", titles[name]), ("probe", f"{titles[name]} of the linear probe")):
            yield label, _estimate(metrics[kind][name], unit if name in ("mae", "rmse") else "")


def _safety(metrics: Mapping[str, Any], reliability: AnyReliability | None) -> Iterator[tuple[str, str]]:
    """Yield what decisions achieve on the test images, and at least their number."""
    yield "Test images", json.dumps({"kind": "single", "value": metrics["finetuned"]["cases"]})
    for name in ("ece", "brier"):
        if name in metrics["finetuned"]:
            yield metrics_of_task(metrics["finetuned"])[name], _estimate(metrics["finetuned"][name])
    for finding, part in ({} if reliability is None else reliability.parts).items():
        if part.operating is None or part.test is None or part.test.operating is None:
            continue
        about = part.operating.rule.positive or finding
        yield f"Sensitivity for {about}", _proportion(part.test.operating.sensitivity)
        yield f"Specificity for {about}", _proportion(part.test.operating.specificity)
    if isinstance(reliability, IntervalReliability) and reliability.test is not None:
        yield "Intervals that hold the true value", _proportion(reliability.test.covered)


def _proportion(share: Proportion) -> str:
    if not share.cases:
        return json.dumps({"kind": "single", "value": None})
    low, high = share.interval
    return _estimate({"value": share.value, "low": low, "high": high})


def _estimate(estimate: Mapping[str, Any], unit: str = "") -> str:
    """Return an estimate with its 95 % interval as the schema's JSON."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if None in (low, high):
        return json.dumps({"kind": "single", "value": value})
    return json.dumps(
        {"kind": "estimate_ci", "estimate": value, "lower": low, "upper": high, "level": 95, "unit": unit}
    )
