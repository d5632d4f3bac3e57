"""Report content: numbers, sentences and refusals."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shpeft as library
from shpeft import NOTICE
from shpeft.diagnosis import CAPTION, case_id, diagnose
from shpeft.errors import ClassMismatch, DiagnosisError, MissingExtra, RunError
from shpeft.evaluation import DecisionRules, SetRule, ThresholdRule, assess_case
from shpeft.explanation.saliency import METHODS
from shpeft.pipeline import LoadedRun, set_decision_rules
from shpeft.reports import as_pdf
from shpeft.reports.formatting import percent
from shpeft.runs import RunFolder
from shpeft.support import headless_browser
from tests.helpers.command_line import shpeft
from tests.helpers.present import present, single_label
from tests.helpers.report_pages import HOSTILE, MADE, FullReport, cells, diagnosed, parsed, said, telling


def test_the_numbers_are_those_of_the_diagnosis_and_of_the_run(
    everything: FullReport, folder: RunFolder, loaded: LoadedRun
) -> None:
    text, diagnosis, sanity, attribution, path = everything
    page, shown, judged = parsed(text), said(text), present(diagnosis.reliability)
    rows = cells(page, "Calibrated probability of each class, with the validation images behind it")
    for (name, p), row in zip(diagnosis.ranked(), rows, strict=True):
        behind = judged.evidence[diagnosis.classes.index(name)]
        assert row[0] == name
        assert row[1] == " ".join(percent(p).split())
        assert row[2].startswith(f"{behind.observed.cases} with ")
        assert row[3].startswith(f"{behind.observed.count} of {behind.observed.cases} (95 % interval ")
        assert row[4] == ("yes" if name in judged.prediction_set else "no")
    answer, ood = diagnosis.answer, present(diagnosis.ood)
    first, appendix = shown.split("Appendix")
    assert answer.headline in first
    for sentence in answer.reasons:
        assert sentence in first
    for sentence in answer.sentences:  # behind the gate, they are in the appendix alone
        assert (sentence in first) == answer.given
        assert (sentence in appendix) != answer.given
    assert ood.alarm or f"{100 * ood.percentile:.0f} % of them are less unusual" in appendix
    assert "Reader's finding" in first
    assert single_label(loaded.reliability).headline in appendix
    assert CAPTION in shown
    assert METHODS["integrated_gradients"].sentence in shown
    for sentence in sanity.sentences():
        assert sentence in shown
    assert len(cells(page, "Sanity checks of the map")) == len(sanity.numbers())
    assert f"by {attribution.change:+.3f}" in shown
    blocks = cells(page, "By block")
    assert sum(int(row[1]) for row in blocks) == attribution.delta.k
    assert sum(float(row[2]) for row in blocks) == pytest.approx(attribution.backbone, abs=1e-3)
    assert len(cells(page, "The 10 weights with the largest effect")) == 10
    fingerprints = {row[0]: row[1] for row in cells(page, "Fingerprints (SHA-256)")}
    assert fingerprints["Base weights"] == loaded.header["base"]
    assert fingerprints["Dataset"] == loaded.header["dataset"]["fingerprint"]
    assert shown.count(NOTICE) == 2
    assert shown.count(case_id(path.read_bytes())) == 3
    assert "2026-11-25 09:14 UTC+00:00" in shown


@pytest.mark.parametrize("alarm", [False, True])
def test_without_an_answer_the_first_page_names_no_class(
    everything: FullReport, folder: RunFolder, loaded: LoadedRun, alarm: bool
) -> None:
    _, diagnosis, sanity, _, path = everything
    sure = np.array([1 - 2e-12, 1e-12, 1e-12])
    case = assess_case(single_label(loaded.reliability), sure.tolist())
    ood = replace(present(diagnosis.ood), alarm=alarm, mismatches=())
    changed = replace(diagnosis, probabilities=tuple(sure.tolist()), reliability=case, ood=ood)
    text = library.report(changed, path, folder, sanity=sanity, made=MADE)
    first, appendix = said(text).split("Appendix")
    assert changed.answer.given != alarm
    assert ("No answer" in first) == alarm
    assert any(name in first for name in HOSTILE) != alarm
    assert ("It is not an answer." in appendix) == alarm
    assert (text.index("blue.") < text.index("Appendix")) != alarm  # the map explains a class


def test_the_same_diagnosis_gives_the_same_bytes(everything: FullReport, folder: RunFolder) -> None:
    text, diagnosis, sanity, attribution, path = everything
    note = "Compare <b>both</b> sides\nand follow up."
    again = library.report(diagnosis, path, folder.path, sanity=sanity, attribution=attribution, note=note, made=MADE)
    assert again == text


def test_report_states_what_is_unknown(folder: RunFolder, loaded: LoadedRun) -> None:
    image = Image.new("RGB", (20, 20))
    bare = diagnose(loaded.backbone, image, decoding=loaded.decoding, method="saliency")
    shown = said(library.report(bare, image, folder, made=MADE))
    assert "The uncalibrated probability of" in shown
    assert "This model has no check of whether an image looks like the training images" in shown
    assert "This map was not checked." in shown
    assert "(sensitivity)" not in shown
    unmapped = said(library.report(diagnosed(loaded, image, None), image, folder, made=MADE))
    assert "The calibrated probability of" in unmapped
    assert "This map" not in unmapped
    assert "Effect of the fine-tuning" not in unmapped


def test_a_map_that_fails_its_checks_is_withheld(folder: RunFolder, everything: FullReport) -> None:
    text, diagnosis, sanity, _, path = everything
    failed = replace(sanity, correlations=dict.fromkeys(sanity.correlations, 0.9))
    withheld = library.report(diagnosis, path, folder, sanity=failed)
    assert failed.withheld in said(withheld)
    assert "a model with random weights gives nearly the same map" in failed.withheld
    assert (text.count("<img"), withheld.count("<img")) == (2, 1)


def test_parts_of_different_results_are_refused(
    folder: RunFolder, loaded: LoadedRun, everything: FullReport, tmp_path: Path
) -> None:
    _, diagnosis, sanity, _, path = everything
    image = Image.new("RGB", (20, 20))
    with pytest.raises(DiagnosisError, match="Give the image that was diagnosed"):
        library.report(diagnosis, image, folder)
    with pytest.raises(ClassMismatch, match="Give the run that diagnosed"):
        library.report(replace(diagnosis, classes=("a", "b", "c")), path, folder)
    with pytest.raises(DiagnosisError, match="belong to another map"):
        library.report(diagnosis, path, folder, sanity=replace(sanity, method="occlusion"))
    with pytest.raises(RunError, match="no run folder"):
        library.report(diagnosis, path, tmp_path / "none")
    set_decision_rules(folder, DecisionRules(ThresholdRule(HOSTILE[1])))
    try:
        with pytest.raises(DiagnosisError, match="have changed since this diagnosis"):
            library.report(diagnosis, path, folder)
    finally:
        set_decision_rules(folder, DecisionRules(ThresholdRule(HOSTILE[0]), SetRule()))


def test_probabilities_are_never_certain() -> None:
    assert [percent(p).replace("\N{NO-BREAK SPACE}", " ") for p in (0, 0.0004, 0.5, 0.9994, 0.9995, 1)] == [
        "< 0.1 %", "< 0.1 %", "50.0 %", "99.9 %", "> 99.9 %", "> 99.9 %"
    ]  # fmt: skip


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_has_enough_contrast(everything: FullReport) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, on the page's white and on the warning's ground."""
    style = "".join(element.text or "" for element in parsed(everything[0]).iter("style"))
    inks = set(re.findall(r"(?<!-)\bcolor: (#[0-9a-f]{6})", style))
    grounds = {"#ffffff", *re.findall(r"background: (#fff7ed)", style)}
    assert len(inks) >= 3
    assert len(grounds) == 2
    for ink in inks:
        for ground in grounds:
            light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_the_command_line_makes_a_report_of_one_image(folder: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "DOE_JANE_1970"
    path.write_bytes(telling())
    out = tmp_path / "report.html"
    done = shpeft(
        "diagnose", folder.path, path, "--report", out, "--note", "seen", "--finding", "clear", "--saliency", "saliency"
    )
    assert NOTICE in done.stdout
    text = out.read_text()
    shown = said(text)
    for title in (
        "Reader's finding",
        "What the model computed",
        "Effect of the fine-tuning on this image",
        "The model",
        "Versions and fingerprints",
    ):
        assert title in shown
    assert "Method: Saliency, for the score of" in shown
    assert "This map passes" in shown or "No map is shown, because it fails its sanity check" in shown
    assert "Note. seen" in shown
    assert "Reader's finding clear" in shown
    assert "DOE" not in text
    several = shpeft("diagnose", folder.path, path, path, "--report", out, code=2)
    assert "A report is about one image" in several.stderr


@pytest.fixture
def fresh_browser_check() -> Iterator[None]:
    """Clear the cached check for a browser before and after the test."""
    headless_browser.unavailable_reason.cache_clear()
    yield
    headless_browser.unavailable_reason.cache_clear()


def test_pdf_requires_playwright_before_a_model_is_loaded(
    fresh_browser_check: None, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headless_browser, "find_spec", lambda name: None)
    asked = shpeft("diagnose", folder.path, tmp_path / "missing.png", "--report", tmp_path / "report.PDF", code=2)
    assert "pip install 'shpeft[pdf]'; or name the report .html" in " ".join(asked.stderr.split())


def test_a_pdf_needs_a_browser(fresh_browser_check: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless_browser, "find_browser", lambda: None)
    monkeypatch.setattr(headless_browser, "_own_build", lambda: False)
    assert "playwright install chromium" in headless_browser.unavailable_reason()
    monkeypatch.setattr(headless_browser, "find_browser", lambda: "/nowhere/chromium")
    with pytest.raises(MissingExtra, match="playwright install chromium"):
        as_pdf("<p>A page</p>")
