"""The report's PDF from the Diagnose page."""

from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser

from tests.browser.steps import A_WHILE, OpenPage, open_test_image, ready

pytestmark = pytest.mark.browser


def test_the_app_downloads_the_pdf(chromium: Browser, trained: str, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(f"/diagnose?run={trained}")
    ready(page)
    open_test_image(page)
    ready(page)
    with page.expect_download(timeout=A_WHILE) as download:
        page.get_by_role("button", name="Report (PDF)").click()
    printed: Any = PdfReader(download.value.path())
    assert download.value.suggested_filename.removesuffix(".pdf") == printed.metadata.title.replace(
        "Diagnosis report case-", "report_"
    )
