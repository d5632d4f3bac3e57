"""A report on one image: its numbers, words and refusals."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import shpeft as library
from shpeft import NOTICE, printing
from shpeft.diagnosis import CAPTION, case_id, diagnose
from shpeft.errors import ClassMismatch, DiagnosisError, MissingExtra, RunError
from shpeft.pipeline import choose_trust
from shpeft.reports import as_pdf
from shpeft.reports.tables import percent
from shpeft.saliency import METHODS
from shpeft.trust import Choices, SetRule, ThresholdRule
from tests.commands import shpeft
from tests.test_report import HOSTILE, MADE, cells, diagnosed, everything, folder, loaded, parsed, said, telling


def test_the_numbers_are_those_of_the_diagnosis_and_of_the_run(everything, folder, loaded):
    text, found, sanity, attribution, path = everything
    page, words, judged = parsed(text), said(text), found.judgement
    rows = cells(page, "Calibrated probability of each class, and the validation images behind it")
    for (name, p), row in zip(found.ranked(), rows, strict=True):
        behind = judged.evidence[found.classes.index(name)]
        assert row[0] == name
        assert row[1] == " ".join(percent(p).split())
        assert row[2].startswith(f"{behind.observed.cases} with ")
        assert row[3].startswith(f"{behind.observed.count} of {behind.observed.cases} (95 % interval ")
        assert row[4] == ("yes" if name in judged.members else "no")
    rates = judged.call.rates
    for told in (rates.sensitivity, rates.specificity):
        assert f"({told.count} of {told.cases}; 95 % interval" in words
    assert f"{'Positive' if judged.call.called else 'Negative'} for {HOSTILE[0]}" in words
    assert f"Cannot be ruled out: {', '.join(judged.members)}" in words
    covered = loaded.trust.test.coverage.covered
    assert f"({covered.count} of {covered.cases}; 95 % interval" in words
    assert ("The model abstains:" in words) == judged.abstains
    assert ("Warning. This image looks unlike" in words) == found.novelty.alarm
    assert f"more unusual than {100 * found.novelty.percentile:.0f} % of the validation images" in words
    assert CAPTION in words
    assert METHODS["integrated_gradients"].sentence in words
    for sentence in sanity.sentences():
        assert sentence in words
    assert len(cells(page, "Sanity checks of the map")) == len(sanity.numbers())
    assert f"by {attribution.change:+.3f}" in words
    blocks = cells(page, "By block")
    assert sum(int(row[1]) for row in blocks) == attribution.delta.k
    assert sum(float(row[2]) for row in blocks) == pytest.approx(attribution.backbone, abs=1e-3)
    assert len(cells(page, "The 10 weights that did most")) == 10
    fingerprints = {row[0]: row[1] for row in cells(page, "Fingerprints (SHA-256)")}
    assert fingerprints["Base weights"] == loaded.header["base"]
    assert fingerprints["Dataset"] == loaded.header["dataset"]["fingerprint"]
    assert words.count(NOTICE) == 2
    assert words.count(case_id(path.read_bytes())) == 3
    assert "2026-11-25 09:14 UTC+00:00" in words


def test_the_same_diagnosis_gives_the_same_bytes(everything, folder):
    text, found, sanity, attribution, path = everything
    note = "Compare <b>both</b> sides\nand follow up."
    again = library.report(found, path, folder.path, sanity=sanity, attribution=attribution, note=note, made=MADE)
    assert again == text


def test_what_is_not_known_is_said(folder, loaded):
    image = Image.new("RGB", (20, 20))
    bare = diagnose(loaded.backbone, image, decoding=loaded.decoding, saliency="saliency")
    words = said(library.report(bare, image, folder, made=MADE))
    assert "(not calibrated)" in words
    assert "Whether the image looks like the training images is not known" in words
    assert "This map was not checked." in words
    assert "sensitivity of" not in words
    unmapped = said(library.report(diagnosed(loaded, image, None), image, folder, made=MADE))
    assert "(calibrated)" in unmapped
    assert "This map" not in unmapped
    assert "What the fine-tuning did" not in unmapped


def test_parts_that_do_not_belong_together_are_refused(folder, loaded, everything, tmp_path):
    _, found, sanity, _, path = everything
    image = Image.new("RGB", (20, 20))
    with pytest.raises(DiagnosisError, match="Give the image that was diagnosed"):
        library.report(found, image, folder)
    with pytest.raises(ClassMismatch, match="Give the run that diagnosed"):
        library.report(replace(found, classes=("a", "b", "c")), path, folder)
    with pytest.raises(DiagnosisError, match="of another map"):
        library.report(found, path, folder, sanity=replace(sanity, method="occlusion"))
    with pytest.raises(RunError, match="no run folder"):
        library.report(found, path, tmp_path / "none")
    choose_trust(folder, Choices(ThresholdRule(HOSTILE[1])))
    try:
        with pytest.raises(DiagnosisError, match="have changed since this diagnosis"):
            library.report(found, path, folder)
    finally:
        choose_trust(folder, Choices(ThresholdRule(HOSTILE[0]), SetRule()))


def test_probabilities_are_never_certain():
    assert [percent(p).replace("\N{NO-BREAK SPACE}", " ") for p in (0, 0.0004, 0.5, 0.9994, 0.9995, 1)] == [
        "< 0.1 %", "< 0.1 %", "50.0 %", "99.9 %", "> 99.9 %", "> 99.9 %"
    ]  # fmt: skip


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_words_stand_out_from_their_ground(everything):
    """WCAG 2.2, 1.4.3: 4.5 to 1, on the page's white and on the warning's ground."""
    style = "".join(element.text for element in parsed(everything[0]).iter("style"))
    inks = set(re.findall(r"(?<!-)\bcolor: (#[0-9a-f]{6})", style))
    grounds = {"#ffffff", *re.findall(r"background: (#fff7ed)", style)}
    assert len(inks) >= 3
    assert len(grounds) == 2
    for ink in inks:
        for ground in grounds:
            light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_the_command_line_makes_a_report_of_one_image(folder, tmp_path):
    path = tmp_path / "DOE_JANE_1970"
    path.write_bytes(telling())
    out = tmp_path / "report.html"
    done = shpeft("diagnose", folder.path, path, "--report", out, "--note", "seen", "--saliency", "saliency")
    assert NOTICE in done.stdout
    text = out.read_text()
    words = said(text)
    for title in ("Result", "What the fine-tuning did for this image", "The model", "Versions and fingerprints"):
        assert title in words
    assert "Method: Saliency, for the score of" in words
    assert "This map passes" in words or "This map fails" in words
    assert "Note. seen" in words
    assert "DOE" not in text
    several = shpeft("diagnose", folder.path, path, path, "--report", out, code=2)
    assert "A report is about one image" in several.stderr


@pytest.fixture
def looked_anew():
    """Whether there is a browser is found out once; here before and after the test, too."""
    printing.obstacle.cache_clear()
    yield
    printing.obstacle.cache_clear()


def test_a_pdf_needs_playwright_and_says_so_before_a_model_is_loaded(looked_anew, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(printing, "find_spec", lambda name: None)
    asked = shpeft("diagnose", folder.path, tmp_path / "missing.png", "--report", tmp_path / "report.PDF", code=2)
    assert "pip install 'shpeft[pdf]'; or name the report .html" in " ".join(asked.stderr.split())


def test_a_pdf_needs_a_browser(looked_anew, monkeypatch):
    monkeypatch.setattr(printing, "_browser", lambda: None)
    monkeypatch.setattr(printing, "_own_build", lambda: False)
    assert "playwright install chromium" in printing.obstacle()
    monkeypatch.setattr(printing, "_browser", lambda: "/nowhere/chromium")
    with pytest.raises(MissingExtra, match="playwright install chromium"):
        as_pdf("<p>A page</p>")
