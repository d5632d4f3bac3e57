"""Fixtures of the datasets' tests: a cache and a folder of images of their own."""

from pathlib import Path

import pytest

from shpeft.datasets import cache, pixel_batches
from tests.helpers.image_folders import build_folder


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, on disk and in memory."""
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_batches, "CACHE", pixel_batches.PixelCache())
    return tmp_path / "cache"


@pytest.fixture
def trusted_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the dates of new files, as if they had been written a while ago."""
    monkeypatch.setattr(cache.index, "SETTLED", -(10**15))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nine images of each of two classes."""
    return build_folder(tmp_path / "images", {"a": 9, "b": 9})
