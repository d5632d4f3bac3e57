"""The cache on disk: pixels and readings come back to the bit, or not at all; it is bounded, private and expendable."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shpeft.datasets import batches, cache, checking, load_dataset, loading
from shpeft.datasets.cache import FileIndex, clear_cache, usage
from shpeft.errors import Cancelled, ShpeftError, UnreadableImage
from shpeft.images import Decoding, InputTransform

from .test_datasets_folder import build, picture

TRANSFORM = InputTransform(16, (0.5,) * 3, (0.25,) * 3)
SHOWN = b"shown"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A cache of one's own, on disk and in memory."""
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "CACHE", loading.PixelCache())
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path) -> Path:
    return build(tmp_path / "images", {"a": 9, "b": 9})


@pytest.fixture(autouse=True)
def _trusted(monkeypatch):
    """As if the files had been there for a while: the date of a new one is not trusted."""
    monkeypatch.setattr(cache.index, "SETTLED", -(10**15))


@pytest.fixture
def opened(monkeypatch):
    """How often images were decoded: when a folder was opened, and afterwards."""
    counts = {"checked": 0, "read": 0}
    for module, name in ((checking, "checked"), (sys.modules["shpeft.datasets.folder"], "read")):

        def count(*args, name=name, original=module.open_image):
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(module, "open_image", count)
    return counts


def everything(root: Path, **options) -> tuple[dict, list[torch.Tensor]]:
    """The card and all pixels, as a process sees them that has just begun."""
    loading.CACHE.clear()
    data = load_dataset(root, **options)
    return data.card, [images for split in data.splits for images, _ in batches(split, TRANSFORM, 4)]


def rows(index: FileIndex, table: str) -> list[tuple]:
    return index.database.attempt(lambda connection: connection.execute(f"SELECT * FROM {table}").fetchall(), [])


def same(a, b) -> bool:
    return a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))


def test_the_bits_are_those_of_reading_without_and_nothing_is_decoded_again(folder, opened, place):
    without = everything(folder, cache=False)
    assert not place.exists()
    first = everything(folder)
    before = dict(opened)
    assert before == {"checked": 36, "read": 36}
    again = everything(folder)
    assert opened == before
    assert same(without, first)
    assert same(without, again)
    assert (len(cache.file_index()), len(cache.pixel_file())) == (18, 18)


def test_a_setting_and_the_environment_turn_it_off(folder, place, monkeypatch):
    monkeypatch.setenv("SHPEFT_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    everything(folder)
    assert not place.exists()
    assert usage().folder is None
    with pytest.raises(ShpeftError, match="turned off"):
        clear_cache()
    monkeypatch.delenv("SHPEFT_CACHE")
    assert cache.cache_folder() == place / "shpeft"


def test_only_the_owner_may_read_it_and_no_name_is_kept(folder, place):
    picture(folder / "a" / "miller_anna.png", 77)
    everything(folder)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()] == [0o600] * 4
    assert not any(word in path.read_bytes() for path in place.iterdir() for word in (b"miller", b"images"))


def test_changed_new_and_removed_files_are_noticed(folder, opened):
    card, _ = everything(folder)
    os.remove(folder / "a" / "0.png")
    picture(folder / "a" / "1.png", 500)
    picture(folder / "b" / "new.png", 501)
    (folder / "b" / "2.png").write_bytes(b"damaged")
    before = opened["checked"]
    changed, _ = everything(folder)
    assert opened["checked"] - before == 3
    assert changed["fingerprint"] != card["fingerprint"]
    assert [name for name, _ in changed["unreadable"]] == ["b/2.png"]
    assert changed == load_dataset(folder, cache=False).card
    everything(folder)
    assert opened["checked"] - before == 3 + 18  # those of the reading without


def test_a_damaged_file_stays_known_as_damaged(folder, opened):
    (folder / "a" / "cut.png").write_bytes((folder / "a" / "1.png").read_bytes()[:60])
    first = load_dataset(folder).card["unreadable"]
    before = opened["checked"]
    assert load_dataset(folder).card["unreadable"] == first
    assert opened["checked"] == before
    assert first[0][0] == "a/cut.png"
    assert "damaged" in first[0][1]


def test_a_change_that_keeps_the_size_and_the_date_is_noticed(folder):
    path = folder / "a" / "1.png"
    data, dates = bytearray(path.read_bytes()), path.stat()
    before = load_dataset(folder).fingerprint
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert load_dataset(folder).fingerprint != before


def test_a_file_that_changed_a_moment_ago_is_read_again_but_not_decoded(folder, opened, monkeypatch):
    monkeypatch.setattr(cache.index, "SETTLED", 10**15)
    load_dataset(folder)
    assert len(cache.file_index()) == 0
    before = opened["checked"]
    monkeypatch.setattr(cache.index, "SETTLED", -(10**15))
    load_dataset(folder)
    assert opened["checked"] == before
    assert len(cache.file_index()) == 18
    load_dataset(folder)
    assert opened["checked"] == before


def test_another_window_frame_or_reader_is_another_reading(folder, monkeypatch):
    shown = {checking.shown_as(Decoding(*how)) for how in (("auto", None), ("full", None), ("0:90", None), ("auto", 1))}
    assert len(shown) == 4
    everything(folder)
    load_dataset(folder, window="full")
    assert len(rows(cache.file_index(), "readings")) == 36
    monkeypatch.setattr(checking, "reader", lambda: b"another version")
    everything(folder)
    assert len(rows(cache.file_index(), "readings")) == 54
    assert len(cache.pixel_file()) == 36
    assert len(cache.place.reader()) == 16


def test_other_sizes_are_other_pixels(folder):
    data = load_dataset(folder)
    for transform in (
        TRANSFORM,
        InputTransform(8, (0,) * 3, (1,) * 3),
        InputTransform(16, (0,) * 3, (1,) * 3, "nearest"),
    ):
        for _ in range(2):
            loading.CACHE.clear()
            (images, _), *_ = batches(data.test, transform, 8)
            assert torch.equal(images[0], transform.pixels(data.test.image(0)))
    normalised_otherwise = InputTransform(16, (0.1,) * 3, (0.9,) * 3)
    before = len(cache.pixel_file())
    list(batches(data.test, normalised_otherwise, 8))
    assert len(cache.pixel_file()) == before == 3 * len(data.test)


def test_a_file_that_changes_after_opening_is_refused_not_read(folder):
    data = load_dataset(folder)
    for path in folder.rglob("*.png"):
        picture(path, 900)
    with pytest.raises(UnreadableImage, match="has changed since the dataset was opened") as caught:
        list(batches(data.train, TRANSFORM, 4))
    assert str(folder) not in str(caught.value)
    assert len(cache.pixel_file()) == 0
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        data.train.image(0)


def test_interrupted_work_goes_on_where_it_stopped(folder, opened, monkeypatch):
    monkeypatch.setattr(checking, "FILES", 2)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Checking images" and done >= 6:
            raise Cancelled

    with pytest.raises(Cancelled):
        load_dataset(folder, progress=stop)
    known = len(cache.file_index())
    assert 6 <= known < 18
    before, seen = opened["checked"], []
    load_dataset(folder, progress=lambda *call: seen.append(call))
    assert opened["checked"] - before == 18 - known
    assert next(call for call in seen if call[0] == "Checking images") == ("Checking images", known, 18)


def test_work_that_is_killed_loses_nothing_that_was_written(folder, place):
    code = (
        "import os, sys; from shpeft.datasets import checking, load_dataset; checking.SAVE = -1; checking.FILES = 1;"
        "stop = lambda stage, done, total: os._exit(9) if stage.startswith('Checking') and done > 8 else None;"
        f"load_dataset({str(folder)!r}, progress=stop)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    known = len(rows(cache.file_index(), "readings"))
    assert 8 <= known < 18
    assert load_dataset(folder).card == load_dataset(folder, cache=False).card
