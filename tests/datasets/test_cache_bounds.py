"""The cache of images: bounded, shared, expendable."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.datasets import cache, load_dataset
from shpeft.datasets.cache import FileIndex, PixelFile, Reading, clear_cache, usage
from shpeft.datasets.cache import pixels as on_disk
from shpeft.datasets.cache.index import KEPT, SETTLED, identity
from tests.helpers.cached_datasets import SHOWN, everything, file_index, pixel_file, rows, same

pytestmark = pytest.mark.usefixtures("cache_home", "trusted_dates")


@pytest.mark.slow
def test_processes_share_it(folder: Path, cache_home: Path) -> None:
    code = (
        "from shpeft.datasets import batches, load_dataset; from shpeft.images import InputTransform;"
        f"data = load_dataset({str(folder)!r});"
        "print(data.fingerprint);"
        "[list(batches(split, InputTransform(16, (0,) * 3, (1,) * 3), 4)) for split in data.splits]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    fingerprints = {process.communicate()[0] for process in running}
    assert len(fingerprints) == 1
    assert fingerprints == {load_dataset(folder, cache=False).fingerprint + "\n"}
    assert len(pixel_file()) == 18


@pytest.mark.parametrize("damage", [b"no database at all", None])
def test_a_damaged_cache_costs_time_only(folder: Path, cache_home: Path, damage: bytes | None) -> None:
    plain = everything(folder, cache=False)
    everything(folder)
    part: Any
    for part in (file_index(), pixel_file()):
        part.database.close()
        data = bytearray(part.database.path.read_bytes())
        data[4096 if damage is None else 0 :] = damage or bytes(len(data) - 4096)
        part.database.path.write_bytes(data)
    for _ in range(2):
        assert same(plain, everything(folder))
    assert len(pixel_file()) == 18  # a new one


def test_damaged_pixels_are_made_again(folder: Path) -> None:
    plain = everything(folder, cache=False)
    everything(folder)
    with sqlite3.connect(pixel_file().database.path) as connection:
        first, second = [row[0] for row in connection.execute("SELECT rowid FROM pixels LIMIT 2")]
        connection.execute("UPDATE pixels SET data = zeroblob(length(data)) WHERE rowid = ?", (first,))
        swap = (
            "UPDATE pixels SET (data, checksum) = (SELECT data, checksum FROM pixels WHERE rowid = ?) WHERE rowid = ?"
        )
        connection.execute(swap, (second + 1, second))
    assert same(plain, everything(folder))


def test_an_unwritable_folder_disables_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "file" / "cache"))
    assert same(everything(folder), everything(folder, cache=False))
    assert usage(count=True).bytes == 0


def test_it_is_bounded_and_evicts_the_least_recently_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000]
    monkeypatch.setattr("shpeft.datasets.cache.pixels.time.time", lambda: clock[0])
    limit = 400_000
    store = PixelFile(tmp_path / "small", limit)
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    for number in range(60):
        clock[0] += 2 * on_disk.RECENT
        store.put(b"key%d" % number, image)
        store.flush()
        assert store.get(b"key0", 64) is not None  # used all the time
        assert store.database.path.stat().st_size <= limit
    left = [number for number in range(60) if store.get(b"key%d" % number, 64) is not None]
    assert left == [0, *range(60 - len(left) + 1, 60)]
    assert len(left) > 10
    store.put(b"too large", np.zeros((3, 400, 400), np.uint8))
    store.flush()
    assert store.get(b"too large", 400) is None


def test_pixels_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PixelFile(tmp_path / "new")
    image = np.zeros((3, 8, 8), np.uint8)
    store.put(b"key", image)
    assert not store.database.path.exists()
    assert store.get(b"key", 8) is not None
    monkeypatch.setattr(on_disk, "PENDING", 300)
    store.put(b"other", image)
    assert len(PixelFile(tmp_path / "new")) == 2


def test_files_unused_for_long_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, day = FileIndex(tmp_path), [20_000]
    monkeypatch.setattr("shpeft.datasets.cache.index._today", lambda: day[0])
    known = {}
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
        known[str(tmp_path / name)] = identity(str(tmp_path / name))
        index.keep([(str(tmp_path / name), identity(str(tmp_path / name)), Reading(name.encode(), name))], SHOWN)
    new = {str(tmp_path / "new"): known[str(tmp_path / "new")]}
    for later, left in ((KEPT, 2), (1, 1)):
        day[0] += later
        assert set(index.by_file(new, SHOWN)) == set(new)
        assert len(index) == left
    assert [row[0] for row in rows(index, "readings")] == [b"new"]


def test_it_reports_its_usage_and_can_be_cleared(folder: Path, cache_home: Path) -> None:
    everything(folder)
    full = usage(count=True)
    assert (full.folder, full.files, full.images) == (cache_home, 18, 18)
    assert full.bytes == sum(path.stat().st_size for path in cache_home.glob("*.sqlite")) > 18 * 16 * 16 * 3
    clear_cache()
    left = usage(count=True)
    assert (left.files, left.images) == (0, 0)
    assert left.bytes < full.bytes
    assert len(everything(folder)[1]) > 0


def test_changes_within_the_resolution_of_the_clock_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.index, "SETTLED", SETTLED)
    (tmp_path / "x").write_text("x")
    known, now = identity(str(tmp_path / "x")), (tmp_path / "x").stat().st_mtime_ns
    assert not cache.index.settled(known, now + SETTLED)
    assert cache.index.settled(known, now + SETTLED + 10**9)
