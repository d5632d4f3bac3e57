"""Browser sessions beside a training: each gets its own answer, and not much later than alone."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shpeft.config import RunConfig
from shpeft.pipeline import run
from shpeft.runs import RunFolder
from tests.helpers.image_folders import write_picture
from tests.reliability.figures import record
from tests.reliability.processes import FULL

pytest.importorskip("playwright.sync_api")
from tests.browser.driver import Server, new_context
from tests.browser.steps import A_WHILE, ready, start_on_phantoms

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not FULL, reason="make reliability runs it")]

SESSIONS, ACTS = 20, 2
PAUSE = 1.5
"""Seconds between the acts of two sessions."""

DONE = """() => document.body.innerText.includes('Your finding') &&
    !!document.querySelector('[data-test-script-state=notRunning]')"""


@pytest.fixture(scope="module")
def server(chromium: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a finished run, and one that trains for as long as the test lasts."""
    running = Server(tmp_path_factory.mktemp("sessions"))
    raw = {
        "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        "dataset": {"source": "phantom:fundus?n=60&size=64"},
        "selection": {"budget": 40, "images": 8},
        "training": {"epochs": 1},
        "device": "cpu",
    }
    config = RunConfig.parse(raw)
    run(config, RunFolder.create(running.runs / "finished", config))
    try:
        running.launch()
        yield running
    finally:
        running.stop()
    assert not running.outside.exists(), running.outside.read_text()


def act(page: "Page", image: Path) -> tuple[float, str]:
    """Remove the last image, drop another one, wait for its answer; return the seconds and the id in its JSON."""
    menu = page.get_by_role("button", name="Model and images")
    if menu.count():
        menu.click()
        page.get_by_role("button", name="Remove the images").click()
    page.locator("input[type=file]").first.wait_for(state="attached")
    ready(page)
    began = time.monotonic()
    page.locator("input[type=file]").first.set_input_files(image)
    page.wait_for_function(DONE, timeout=A_WHILE)
    seconds = time.monotonic() - began
    return seconds, downloaded_id(page)


def downloaded_id(page: "Page") -> str:
    """Return the id in the JSON of the answer; its map may arrive meanwhile, which replaces the file."""
    for _ in range(5):
        with page.expect_download() as download:
            page.get_by_role("button", name="Diagnosis (JSON)").click()
        if download.value.failure() is None:
            return str(json.loads(Path(download.value.path()).read_text())["id"])
        page.wait_for_timeout(500)
    raise AssertionError("the JSON cannot be downloaded")


@pytest.mark.timeout(900)
def test_sessions_get_their_own_answers_in_time(server: Server, chromium: "Browser", tmp_path: Path) -> None:
    context = new_context(chromium, server.address)
    trainer = context.new_page()
    trainer.goto(f"{server.address}/train")
    start_on_phantoms(trainer, "endless", 1000)
    images = [write_picture(tmp_path / f"{n}.png", n, (96, 96)) for n in range(SESSIONS * ACTS + 6)]
    ids = [hashlib.sha256(image.read_bytes()).hexdigest()[:12] for image in images]
    pages = [new_context(chromium, server.address, accept_downloads=True).new_page() for _ in range(SESSIONS)]
    pages[0].goto(f"{server.address}/diagnose?run=finished")
    alone = [act(pages[0], images[n]) for n in range(6)]
    assert [answer for _, answer in alone] == ids[:6]
    for page in pages[1:]:
        page.goto(f"{server.address}/diagnose?run=finished")
        ready(page)
    together = []
    for n in range(SESSIONS * ACTS):
        together.append(act(pages[n % SESSIONS], images[6 + n]))
        time.sleep(PAUSE)
    wrong = sum(answer != own for (_, answer), own in zip(together, ids[6:], strict=True))
    single, many = (float(np.percentile([seconds for seconds, _ in times], 95)) for times in (alone[1:], together))
    record(
        "sessions",
        sessions=SESSIONS,
        answers=len(together),
        wrong=wrong,
        p95_alone=round(single, 2),
        p95=round(many, 2),
    )
    assert wrong == 0
    assert many <= 3 * max(single, 0.5)
    for page in pages:
        page.context.close()
    context.close()
