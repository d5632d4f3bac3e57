"""The model card as HTML, JSON and XML: the same numbers, hostile names escaped, no foreign request."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from shpeft.errors import RunError
from shpeft.reports import CARD_FORMS, card
from shpeft.reports.cards import CHAI, UNSTATED
from shpeft.runs import RunFolder
from shpeft.runs.example import example_path
from tests.helpers.command_line import shpeft
from tests.helpers.present import present
from tests.helpers.report_pages import HOSTILE

FILES = Path(__file__).resolve().parents[2] / "docs" / "files.md"

SECTIONS = {
    "BasicInfo": ["ModelName", "ModelDeveloper", "DeveloperContact"],
    "ReleaseInfo": ["ReleaseStage", "ReleaseDate", "ReleaseVersion", "GlobalAvailability"],
    "ModelSummary": ["Summary", "Keywords"],
    "UsesAndDirections": [
        "IntendedUseAndWorkflow",
        "PrimaryIntendedUsers",
        "HowToUse",
        "TargetedPatientPopulation",
        "CautionedOutOfScopeSettings",
    ],
    "Warnings": ["KnownRisksAndLimitations", "KnownBiasesOrEthicalConsiderations", "ClinicalRiskLevel"],
    "TrustIngredients": ["AISystemFacts", "TransparencyInformation"],
    "KeyMetrics": ["UsefulnessUsabilityEfficacy", "FairnessEquity", "SafetyReliability"],
    "Resources": ["PeerReviewedPublications", "PatientConsentOrDisclosure"],
    "Bibliography": [],
}
"""Required elements of the schema, version 0.2, in its order."""

SYSTEM = [
    "OutcomesAndOutputs",
    "ModelType",
    "FoundationModels",
    "InputDataSource",
    "OutputAndInputDataTypes",
    "DevelopmentDataCharacterization",
    "BiasMitigationApproaches",
    "OngoingMaintenance",
]
METRIC = [
    "MetricGoal",
    "Results",
    "Interpretation",
    "TestType",
    "TestingDataDescription",
    "ValidationProcessAndJustification",
]


@pytest.fixture(scope="module")
def example() -> RunFolder:
    return RunFolder.open(present(example_path()))


def names(element: ElementTree.Element) -> list[str]:
    """Return the names of the elements inside, all of the card's namespace."""
    assert all(child.tag.startswith(f"{{{CHAI}}}") for child in element)
    return [child.tag.rpartition("}")[2] for child in element]


def inside(root: ElementTree.Element, path: str) -> ElementTree.Element:
    return present(root.find("/".join(f"{{{CHAI}}}{name}" for name in path.split("/"))))


def test_json_has_the_numbers_of_the_run(example: RunFolder) -> None:
    values, metrics = json.loads(card(example, "json")), present(example.metrics.read())
    assert values["format"] == "shpeft.card/1"
    assert values["results"]["finetuned"] == metrics["finetuned"]
    assert values["trained_weights"]["selected"] == 1090
    assert values["reliability"]["operating"]["threshold"] == pytest.approx(0.384, abs=1e-3)
    assert values["dataset"]["counts"]["test"] == {"healthy": 27, "haemorrhages": 27, "exudates": 26}
    assert re.fullmatch("[0-9a-f]{64}", values["fingerprints"]["delta"])
    documented = FILES.read_text(encoding="utf-8").partition("`shpeft.card/1`")[2]
    assert [key for key in values if f"`{key}`" not in documented] == []


def test_markdown_is_the_present_card(example: RunFolder) -> None:
    assert card(example, "markdown") == (example.path / "README.md").read_text(encoding="utf-8")


def test_xml_has_the_elements_of_the_schema_in_its_order(example: RunFolder) -> None:
    text = card(example, "chai")
    root = ElementTree.fromstring(text.encode())
    assert root.tag == f"{{{CHAI}}}AppliedModelCard"
    assert {name: names(inside(root, name)) for name in names(root)} == SECTIONS
    assert names(root) == list(SECTIONS)
    assert names(inside(root, "TrustIngredients/AISystemFacts")) == SYSTEM
    for kind in SECTIONS["KeyMetrics"]:
        assert names(inside(root, f"KeyMetrics/{kind}")) == METRIC
        results = inside(root, f"KeyMetrics/{kind}/Results")
        assert len(results) >= 1
        for result in results:
            assert names(result) == ["Label", "ValueJson"]
            assert json.loads(present(result[1].text))["kind"] in ("single", "estimate_ci")
    assert inside(root, "BasicInfo/ModelDeveloper").text == UNSTATED
    results = inside(root, "KeyMetrics/SafetyReliability/Results")
    values = {present(r[0].text): json.loads(present(r[1].text)) for r in results}
    assert values["Sensitivity for haemorrhages"]["estimate"] == pytest.approx(26 / 27)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_escapes_hostile_names_and_asks_for_nothing(folder: RunFolder) -> None:
    html = card(folder, "html")
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "object", "a", "form", "base"}
    assert not [
        name for _, attributes in page.tags for name in attributes if name in ("src", "href", "style", "onclick")
    ]
    assert "url(" not in html
    assert "@import" not in html
    for name in HOSTILE:
        assert name in page.text
    assert "DOE_JANE" not in html


def test_xml_and_json_of_hostile_names_can_be_parsed(folder: RunFolder) -> None:
    assert json.loads(card(folder, "json"))["classes"] == list(folder.predictions.test().classes)
    keywords = inside(ElementTree.fromstring(card(folder, "chai").encode()), "ModelSummary/Keywords")
    assert [keyword.text for keyword in keywords][-len(HOSTILE) :] == list(HOSTILE)


def test_xml_has_names_without_backslashes_and_prose_without_markup(folder: RunFolder, example: RunFolder) -> None:
    assert "\\" not in card(example, "chai")
    outputs = inside(ElementTree.fromstring(card(folder, "chai").encode()), "TrustIngredients/AISystemFacts")[0].text
    assert "\\<script>" in present(outputs)


def test_command_prints_or_writes_every_form(example: RunFolder, tmp_path: Path) -> None:
    for form, described in CARD_FORMS.items():
        out = tmp_path / f"card{described.suffix}"
        shpeft("runs", "card", example.path, "--to", form, "--out", out)
        assert out.read_text(encoding="utf-8") == card(example, form)
    assert shpeft("runs", "card", example.path).stdout == card(example, "markdown")


def test_a_run_without_a_model_has_no_card(folder: RunFolder, tmp_path: Path) -> None:
    unfinished = RunFolder.create(tmp_path / "queued", folder.config)
    for form in CARD_FORMS:
        with pytest.raises(RunError, match="needs a finished run"):
            card(unfinished, form)
