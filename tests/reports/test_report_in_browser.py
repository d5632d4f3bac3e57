"""The report in a browser: it makes no requests, fits the window, and prints the notice on every page."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader

from shpeft import NOTICE
from shpeft.errors import ShpeftError
from shpeft.pipeline import LoadedRun
from shpeft.reports import as_pdf, report
from shpeft.runs import RunFolder
from shpeft.support.headless_browser import run_in_browser
from tests.helpers.command_line import shpeft
from tests.helpers.report_pages import FullReport, diagnosed, telling

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_it_makes_no_requests_and_fits_the_window(chromium: Browser, everything: FullReport, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(everything[0])
    page, requests, messages = chromium.new_page(viewport={"width": 1200, "height": 900}), list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.goto(file.as_uri())
    assert requests == [file.as_uri()]
    assert not messages  # not even a warning of the content policy
    assert page.locator("img").evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0)")
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_every_page_of_the_pdf_has_the_notice_and_no_name(chromium: Browser, everything: FullReport) -> None:
    made = as_pdf(everything[0])
    printed: Any = PdfReader(io.BytesIO(made))
    assert set(printed.metadata) == {"/Title", "/Creator", "/Producer", "/CreationDate", "/ModDate"}
    assert re.fullmatch(r"Diagnosis report case-\w+", printed.metadata.title)
    assert printed.trailer["/Root"]["/MarkInfo"]["/Marked"]  # for screen readers
    assert round(float(printed.pages[0].mediabox.width) / 72 * 25.4) == 210  # A4, in mm
    assert len(printed.pages) >= 3
    first, second = (" ".join(sheet.extract_text().split()) for sheet in printed.pages[:2])
    assert "Name, date and signature" in first  # answer, pictures and the reader's finding fit on one page
    assert "Appendix" in second
    assert "Appendix" not in first
    for sheet in printed.pages:
        text = " ".join(sheet.extract_text().split())
        assert "DOE" not in text
        assert text.startswith(NOTICE)
        assert re.search(rf"{re.escape(NOTICE)} case-\w+, [\d-]+ [\d:]+ UTC\+00:00$", text)


def test_the_command_line_makes_a_pdf_of_one_image(chromium: Browser, folder: RunFolder, tmp_path: Path) -> None:
    path, out = tmp_path / "DOE_JANE_1970", tmp_path / "report.pdf"
    path.write_bytes(telling())
    shpeft("diagnose", folder.path, path, "--report", out, "--saliency", "saliency")
    text = " ".join(" ".join(sheet.extract_text() for sheet in PdfReader(out).pages).split())
    assert "Method: Saliency, for the score of" in text


@pytest.mark.parametrize("size", [(400, 1600), (1600, 400), (800, 800)])
def test_any_image_leaves_the_first_part_on_one_page(
    chromium: Browser, folder: RunFolder, loaded: LoadedRun, size: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, "gray")
    printed = PdfReader(io.BytesIO(as_pdf(report(diagnosed(loaded, image), image, folder, note="A note.\n" * 3))))
    first, second = (sheet.extract_text() for sheet in printed.pages[:2])
    assert "signature" in first
    assert "Appendix" in second


def test_a_browser_failure_is_reported(chromium: Browser) -> None:
    with pytest.raises(ShpeftError, match=r"The browser failed \(.*invalid URL\)\. Try again\."):
        run_in_browser(lambda page: page.goto("nowhere"))
