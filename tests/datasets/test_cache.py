"""The cache on disk returns exact pixels and readings, and is bounded, private and expendable."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shpeft.datasets import batches, cache, load_dataset, pixel_batches, scan
from shpeft.datasets.cache import clear_cache, usage
from shpeft.datasets.cache.location import decoder_digest
from shpeft.errors import Cancelled, ShpeftError, UnreadableImage
from shpeft.images import Decoding, InputTransform
from tests.helpers.cached_datasets import TRANSFORM, everything, file_index, pixel_file, rows, same
from tests.helpers.image_folders import write_picture

pytestmark = pytest.mark.usefixtures("cache_home", "trusted_dates")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often images are decoded while a folder is opened, and afterwards."""
    counts = {"checked": 0, "read": 0}
    for module, name in ((scan, "checked"), (sys.modules["shpeft.datasets.folder"], "read")):

        def count(*args: Any, name: str = name, original: Any = module.open_image) -> Any:
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(module, "open_image", count)
    return counts


def test_cached_pixels_equal_decoded_ones_and_nothing_is_decoded_twice(
    folder: Path, opened: dict[str, int], cache_home: Path
) -> None:
    without = everything(folder, cache=False)
    assert not cache_home.exists()
    first = everything(folder)
    before = dict(opened)
    assert before == {"checked": 36, "read": 36}
    again = everything(folder)
    assert opened == before
    assert same(without, first)
    assert same(without, again)
    assert (len(file_index()), len(pixel_file())) == (18, 18)


def test_a_setting_and_the_environment_turn_it_off(
    folder: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHPEFT_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    everything(folder)
    assert not cache_home.exists()
    assert usage().folder is None
    with pytest.raises(ShpeftError, match="turned off"):
        clear_cache()
    monkeypatch.delenv("SHPEFT_CACHE")
    assert cache.cache_folder() == cache_home / "shpeft"


def test_only_the_owner_may_read_it_and_no_name_is_stored(folder: Path, cache_home: Path) -> None:
    write_picture(folder / "a" / "miller_anna.png", 77)
    everything(folder)
    assert stat.S_IMODE(cache_home.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in cache_home.iterdir()] == [0o600] * 4
    assert not any(word in path.read_bytes() for path in cache_home.iterdir() for word in (b"miller", b"images"))


def test_changed_new_and_removed_files_are_noticed(folder: Path, opened: dict[str, int]) -> None:
    card, _ = everything(folder)
    os.remove(folder / "a" / "0.png")
    write_picture(folder / "a" / "1.png", 500)
    write_picture(folder / "b" / "new.png", 501)
    (folder / "b" / "2.png").write_bytes(b"damaged")
    before = opened["checked"]
    changed, _ = everything(folder)
    assert opened["checked"] - before == 3
    assert changed["fingerprint"] != card["fingerprint"]
    assert [name for name, _ in changed["unreadable"]] == ["b/2.png"]
    assert changed == load_dataset(folder, cache=False).card
    everything(folder)
    assert opened["checked"] - before == 3 + 18  # those of the reading without


def test_a_damaged_file_stays_known_as_damaged(folder: Path, opened: dict[str, int]) -> None:
    (folder / "a" / "cut.png").write_bytes((folder / "a" / "1.png").read_bytes()[:60])
    first = load_dataset(folder).card["unreadable"]
    before = opened["checked"]
    assert load_dataset(folder).card["unreadable"] == first
    assert opened["checked"] == before
    assert first[0][0] == "a/cut.png"
    assert "damaged" in first[0][1]


def test_a_change_that_keeps_the_size_and_the_date_is_noticed(folder: Path) -> None:
    path = folder / "a" / "1.png"
    data, dates = bytearray(path.read_bytes()), path.stat()
    before = load_dataset(folder).fingerprint
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert load_dataset(folder).fingerprint != before


def test_a_file_that_changed_a_moment_ago_is_read_again_but_not_decoded(
    folder: Path, opened: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.index, "SETTLED", 10**15)
    load_dataset(folder)
    assert len(file_index()) == 0
    before = opened["checked"]
    monkeypatch.setattr(cache.index, "SETTLED", -(10**15))
    load_dataset(folder)
    assert opened["checked"] == before
    assert len(file_index()) == 18
    load_dataset(folder)
    assert opened["checked"] == before


def test_window_frame_and_decoder_are_part_of_the_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {scan.shown_as(Decoding(*how)) for how in (("auto", None), ("full", None), ("0:90", None), ("auto", 1))}
    assert len(shown) == 4
    everything(folder)
    load_dataset(folder, window="full")
    assert len(rows(file_index(), "readings")) == 36
    monkeypatch.setattr(scan, "decoder_digest", lambda: b"another version")
    everything(folder)
    assert len(rows(file_index(), "readings")) == 54
    assert len(pixel_file()) == 36
    assert len(decoder_digest()) == 16


def test_size_and_interpolation_are_part_of_the_key(folder: Path) -> None:
    data = load_dataset(folder)
    for transform in (
        TRANSFORM,
        InputTransform(8, (0,) * 3, (1,) * 3),
        InputTransform(16, (0,) * 3, (1,) * 3, "nearest"),
    ):
        for _ in range(2):
            pixel_batches.CACHE.clear()
            (images, _), *_ = batches(data.test, transform, 8)
            assert torch.equal(images[0], transform.pixels(data.test.image(0)))
    normalized_otherwise = InputTransform(16, (0.1,) * 3, (0.9,) * 3)
    before = len(pixel_file())
    list(batches(data.test, normalized_otherwise, 8))
    assert len(pixel_file()) == before == 3 * len(data.test)


def test_a_file_that_changes_after_opening_is_refused_not_read(folder: Path) -> None:
    data = load_dataset(folder)
    for path in folder.rglob("*.png"):
        write_picture(path, 900)
    with pytest.raises(UnreadableImage, match="has changed since the dataset was opened") as caught:
        list(batches(data.train, TRANSFORM, 4))
    assert str(folder) not in str(caught.value)
    assert len(pixel_file()) == 0
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        data.train.image(0)


def test_interrupted_loading_resumes(folder: Path, opened: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "FILES", 2)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Checking images" and done >= 6:
            raise Cancelled

    with pytest.raises(Cancelled):
        load_dataset(folder, progress=stop)
    known = len(file_index())
    assert 6 <= known < 18
    before, seen = opened["checked"], []
    load_dataset(folder, progress=lambda *call: seen.append(call))
    assert opened["checked"] - before == 18 - known
    assert next(call for call in seen if call[0] == "Checking images") == ("Checking images", known, 18)


def test_a_killed_process_loses_nothing_that_was_written(folder: Path, cache_home: Path) -> None:
    code = (
        "import os, sys; from shpeft.datasets import scan, load_dataset; scan.SAVE = -1; scan.FILES = 1;"
        "stop = lambda stage, done, total: os._exit(9) if stage.startswith('Checking') and done > 8 else None;"
        f"load_dataset({str(folder)!r}, progress=stop)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    known = len(rows(file_index(), "readings"))
    assert 8 <= known < 18
    assert load_dataset(folder).card == load_dataset(folder, cache=False).card
