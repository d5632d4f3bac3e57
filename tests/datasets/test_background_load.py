"""A dataset loaded in the background: progress, waiting and cancellation."""

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shpeft.datasets import BackgroundLoad, load_dataset, scan
from shpeft.errors import Cancelled, DatasetError
from shpeft.images import open_image
from tests.helpers.image_folders import build_folder


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block the second image until the event is set."""
    go, once = threading.Event(), threading.Event()

    def slow(*args: Any, original: Any = open_image) -> Any:
        assert not once.is_set() or go.wait(20)
        once.set()
        return original(*args)

    monkeypatch.setattr(scan, "open_image", slow)
    monkeypatch.setattr(scan, "FILES", 1)
    yield go
    go.set()


def test_it_reports_progress_and_then_returns_the_dataset(tmp_path: Path, held: threading.Event) -> None:
    opening = BackgroundLoad(build_folder(tmp_path / "d", {"a": 6, "b": 6}), seed=3, cache=False)
    assert not opening.wait(0.2)
    assert not opening.done
    stage, done, total = opening.progress
    assert (stage, total) == ("Checking images", 12)
    assert done < 12
    held.set()
    assert opening.wait(20)
    assert opening.result().fingerprint == load_dataset(tmp_path / "d", seed=3).fingerprint


def test_full_garbage_collections_wait_until_the_last_load_is_done(tmp_path: Path, held: threading.Event) -> None:
    before, root = gc.get_threshold(), build_folder(tmp_path / "d", {"a": 6, "b": 6})
    openings = [BackgroundLoad(root, cache=False) for _ in range(2)]
    assert not openings[0].wait(0.1)
    assert gc.get_threshold() == (*before[:2], 10**6)
    held.set()
    for opening in openings:
        opening.result()
    assert gc.get_threshold() == before


def test_it_can_be_cancelled(tmp_path: Path, held: threading.Event) -> None:
    opening = BackgroundLoad(build_folder(tmp_path / "d", {"a": 6, "b": 6}), cache=False)
    assert not opening.wait(0.1)
    opening.cancel()
    held.set()
    with pytest.raises(Cancelled):
        opening.result()


def test_result_raises_the_error_of_the_load() -> None:
    opening = BackgroundLoad("/no/such/folder")
    with pytest.raises(DatasetError, match="no such folder"):
        opening.result()
    assert opening.done


def test_process_exit_does_not_wait_for_the_load(tmp_path: Path) -> None:
    build_folder(tmp_path / "d", {"a": 300, "b": 300})
    code = (
        "import time; from shpeft.datasets import BackgroundLoad, scan; original = scan.open_image;"
        "scan.open_image = lambda *a: time.sleep(0.2) or original(*a); scan.FILES = 1;"
        f"opening = BackgroundLoad({str(tmp_path / 'd')!r}, cache=False); print(opening.wait(0.5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")  # all of them would take a minute
