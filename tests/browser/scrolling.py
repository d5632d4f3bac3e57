"""A CT series of many slices, and how fast the viewer goes through it; also for benchmarks/series_viewer.py."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, expect

from tests.browser.driver import A_WHILE
from tests.helpers.dicom_files import dicom_bytes, dicom_of
from tests.helpers.dicom_studies import GEOMETRY, STUDY

SLICES, SIDE = 300, 512

SCROLL = """async (viewer, [key, steps]) => {
    const canvas = viewer.querySelector("canvas"), number = viewer.querySelector(".number");
    const drawn = () => new Promise(done => requestAnimationFrame(done));
    canvas.focus();
    const began = performance.now();
    for (let i = 0; i < steps; i++) {
        const before = number.textContent;
        canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        while (number.textContent === before) await drawn();
    }
    return steps / (performance.now() - began) * 1000;
}"""
"""Goes on by a slice as soon as the one before is drawn; returns the slices a second."""


def write_ct(folder: Path) -> None:
    """Write a CT of 300 slices of 512 by 512 pixels: a body of soft tissue in air, with the noise of a thin slice."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    body = np.where((y / 0.35) ** 2 + (x / 0.45) ** 2 < 1, 1024.0, 24.0)
    values = (body + np.random.default_rng(0).normal(0, 15, body.shape)).clip(0).astype(np.uint16)
    for number in range(SLICES):
        tags: dict[str, Any] = {
            **STUDY,
            **GEOMETRY,
            "SOPInstanceUID": f"2.25.9{number:04}",
            "InstanceNumber": number + 1,
        }
        tags |= {"ImagePositionPatient": [0, 0, number], "RescaleSlope": 1, "RescaleIntercept": -1024}
        tags |= {"WindowCenter": 40, "WindowWidth": 400}
        (folder / f"{number:03}").write_bytes(dicom_bytes(dicom_of(np.roll(values, number, axis=1), **tags)))


def opened(page: Page, address: str, run: str, folder: Path) -> float:
    """Open a folder of one series on the Diagnose page; return the seconds until the viewer shows its middle slice."""
    page.goto(f"{address}/diagnose?run={run}")
    page.get_by_text("Folder or zip", exact=True).click()
    field = page.get_by_placeholder("/home/me/images")
    began = time.monotonic()
    field.fill(str(folder))
    expect(page.locator(".viewer").first.get_by_label("Frame is")).to_have_text(f"151 of {SLICES}", timeout=A_WHILE)
    return time.monotonic() - began


def scrolled(page: Page, steps: int = 100) -> float:
    """Go through the slices from the one that is shown; return how many are shown in a second."""
    viewer = page.locator(".viewer").first
    shown = int((viewer.get_by_label("Frame is").text_content() or "").split()[0])
    key, by = ("PageDown", 1) if shown + steps <= SLICES else ("PageUp", -1)
    speed: float = viewer.evaluate(SCROLL, [key, steps])
    expect(viewer.get_by_label("Frame is")).to_have_text(f"{shown + by * steps} of {SLICES}")
    return speed
