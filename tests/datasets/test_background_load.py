"""A dataset that is opened in the background: looked at, waited for and stopped."""

import gc
import subprocess
import sys
import threading

import pytest

from shpeft.datasets import Opening, checking, load_dataset
from shpeft.errors import Cancelled, DatasetError

from .test_datasets_folder import build


@pytest.fixture
def held(monkeypatch):
    """Lets a second image be read only once it is set."""
    go, once = threading.Event(), threading.Event()

    def slow(*args, original=checking.open_image):
        assert not once.is_set() or go.wait(20)
        once.set()
        return original(*args)

    monkeypatch.setattr(checking, "open_image", slow)
    monkeypatch.setattr(checking, "FILES", 1)
    yield go
    go.set()


def test_it_tells_how_far_it_is_and_then_has_the_dataset(tmp_path, held):
    opening = Opening(build(tmp_path / "d", {"a": 6, "b": 6}), seed=3, cache=False)
    assert not opening.wait(0.2)
    assert not opening.done
    stage, done, total = opening.progress
    assert (stage, total) == ("Checking images", 12)
    assert done < 12
    held.set()
    assert opening.wait(20)
    assert opening.result().fingerprint == load_dataset(tmp_path / "d", seed=3).fingerprint


def test_full_collections_wait_until_the_last_opening_is_done(tmp_path, held):
    before, place = gc.get_threshold(), build(tmp_path / "d", {"a": 6, "b": 6})
    openings = [Opening(place, cache=False) for _ in range(2)]
    assert not openings[0].wait(0.1)
    assert gc.get_threshold() == (*before[:2], 10**6)
    held.set()
    for opening in openings:
        opening.result()
    assert gc.get_threshold() == before


def test_it_can_be_stopped(tmp_path, held):
    opening = Opening(build(tmp_path / "d", {"a": 6, "b": 6}), cache=False)
    assert not opening.wait(0.1)
    opening.cancel()
    held.set()
    with pytest.raises(Cancelled):
        opening.result()


def test_what_goes_wrong_is_raised_where_the_result_is_asked_for():
    opening = Opening("/no/such/folder")
    with pytest.raises(DatasetError, match="no such folder"):
        opening.result()
    assert opening.done


def test_a_process_that_ends_does_not_wait_for_the_rest(tmp_path):
    build(tmp_path / "d", {"a": 300, "b": 300})
    code = (
        "import time; from shpeft.datasets import Opening, checking; original = checking.open_image;"
        "checking.open_image = lambda *a: time.sleep(0.2) or original(*a); checking.FILES = 1;"
        f"opening = Opening({str(tmp_path / 'd')!r}, cache=False); print(opening.wait(0.5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")  # all of them would take a minute
