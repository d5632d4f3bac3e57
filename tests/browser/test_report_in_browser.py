"""The report in a browser: it asks nobody for anything, fits the window, and prints with the notice on every sheet."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import io
import re

import pytest
from pypdf import PdfReader

from shpeft import NOTICE
from tests.test_report import everything, folder, loaded

pytestmark = pytest.mark.browser


def test_every_printed_page_begins_and_ends_with_the_notice(chromium, everything, tmp_path):
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
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    page.close()
    assert len(printed.pages) >= 3
    for sheet in printed.pages:
        words = " ".join(sheet.extract_text().split())
        assert words.startswith(NOTICE)
        assert re.search(rf"{re.escape(NOTICE)} case-\w+, [\d-]+ [\d:]+ UTC\+00:00$", words)
