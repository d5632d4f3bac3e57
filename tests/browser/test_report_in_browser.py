"""The report in a browser: it asks nobody for anything, fits the window, and prints with the notice on every sheet."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import io
import re

import pytest
from pypdf import PdfReader

from shpeft import NOTICE
from shpeft.errors import ShpeftError
from shpeft.printing import in_browser
from shpeft.reports import as_pdf
from tests.browser.steps import A_WHILE, ready
from tests.commands import shpeft
from tests.test_report import everything, folder, loaded, telling

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser


def test_it_asks_for_nothing_and_fits_the_window(chromium, everything, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(everything[0])
    page, asked, broken = chromium.new_page(viewport={"width": 1200, "height": 900}), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: broken.append(message.text))
    page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert not broken  # not even a warning of the policy in the page
    assert page.locator("img").evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0)")
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_pdf_begins_and_ends_every_page_with_the_notice_and_tells_nothing_else(chromium, everything):
    made = as_pdf(everything[0])
    printed = PdfReader(io.BytesIO(made))
    assert set(printed.metadata) == {"/Title", "/Creator", "/Producer", "/CreationDate", "/ModDate"}
    assert re.fullmatch(r"Diagnosis report case-\w+", printed.metadata.title)
    assert printed.trailer["/Root"]["/MarkInfo"]["/Marked"]  # for screen readers
    assert round(float(printed.pages[0].mediabox.width) / 72 * 25.4) == 210  # A4, in mm
    assert len(printed.pages) >= 3
    for sheet in printed.pages:
        words = " ".join(sheet.extract_text().split())
        assert "DOE" not in words
        assert words.startswith(NOTICE)
        assert re.search(rf"{re.escape(NOTICE)} case-\w+, [\d-]+ [\d:]+ UTC\+00:00$", words)


def test_the_command_line_makes_a_pdf_of_one_image(chromium, folder, tmp_path):
    path, out = tmp_path / "DOE_JANE_1970", tmp_path / "report.pdf"
    path.write_bytes(telling())
    shpeft("diagnose", folder.path, path, "--report", out, "--saliency", "saliency")
    words = " ".join(" ".join(sheet.extract_text() for sheet in PdfReader(out).pages).split())
    assert "Method: Saliency, for the score of" in words


def test_the_app_gives_the_pdf_at_a_click(chromium, trained, open_page, tmp_path):
    page = open_page(f"/diagnose?run={trained}")
    page.get_by_text("A test image of this run").click()
    expect(page.get_by_text("Prediction")).to_be_visible(timeout=A_WHILE)
    ready(page)
    with page.expect_download(timeout=A_WHILE) as download:
        page.get_by_role("button", name="Report (PDF)").click()
    printed = PdfReader(download.value.path())
    assert download.value.suggested_filename.removesuffix(".pdf") == printed.metadata.title.replace(
        "Diagnosis report case-", "report_"
    )


def test_a_browser_that_fails_is_a_sentence(chromium):
    with pytest.raises(ShpeftError, match=r"The browser failed \(.*invalid URL\)\. Try again\."):
        in_browser(lambda page: page.goto("nowhere"))
