"""The verb that shows the cache, and the options that turn it off."""

import json
from pathlib import Path

import pytest
import yaml

from shpeft.datasets import pixel_batches
from shpeft.datasets.cache import usage
from tests.helpers.command_line import shpeft
from tests.helpers.image_folders import build_folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_shown_and_cleared(tmp_path: Path, cache_folder: Path) -> None:
    images = build_folder(tmp_path / "images", {"a": 8, "b": 8})
    shpeft("datasets", images, "--no-image-cache")
    assert not cache_folder.exists()
    shpeft("datasets", images)
    before = usage().bytes
    shown = shpeft("cache").stdout
    assert shown.splitlines()[0] == str(cache_folder)
    assert "at most 8 GiB" in shown
    used = json.loads(shpeft("cache", "--clear", "--json").stdout)
    assert (used["folder"], used["files"], used["images"]) == (str(cache_folder), 0, None)
    assert used["index_bytes"] + used["pixel_bytes"] <= before


def test_a_disabled_cache_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_CACHE", "off")
    assert "turned off" in shpeft("cache").stdout
    assert "turned off" in shpeft("cache", "--clear", code=2).stderr


def test_a_run_without_the_cache_stores_no_pixels(tmp_path: Path, cache_folder: Path) -> None:
    images = build_folder(tmp_path / "images", {"a": 12, "b": 12})
    flags = ["--backbone", "test_vit", "--weights", "random", "--image-size", 32, "--epochs", 1, "--score", "magnitude"]
    shpeft("finetune", "--data", images, "--no-image-cache", *flags, "--out", tmp_path / "without")
    assert not cache_folder.exists()
    pixel_batches.CACHE.clear()
    shpeft("finetune", "--data", images, *flags, "--out", tmp_path / "with")
    assert usage(count=True).images == 24
    names = ("predictions.csv", "support.safetensors")
    assert [(tmp_path / "with" / n).read_bytes() for n in names] == [
        (tmp_path / "without" / n).read_bytes() for n in names
    ]
    stored = [
        yaml.safe_load((tmp_path / n / "config.yaml").read_text())["dataset"]["cache"] for n in ("with", "without")
    ]
    assert stored == [True, False]


def test_damaged_files_are_named_but_a_run_stores_their_number_and_content(tmp_path: Path) -> None:
    images = build_folder(tmp_path / "images", {"a": 12, "b": 12})
    (images / "a" / "miller_anna.png").write_text("no image")
    flags = ["--backbone", "test_vit", "--weights", "random", "--image-size", 32, "--epochs", 1, "--score", "magnitude"]
    refused = shpeft(
        "finetune", "--data", images, "--on-unreadable", "refuse", *flags, "--out", tmp_path / "no", code=2
    )
    assert "1 image file of 'images' cannot be read" in refused.stderr
    assert "a/miller_anna.png: " in refused.stderr
    assert "Left out: a/miller_anna.png" in shpeft("datasets", images).stdout
    shpeft("finetune", "--data", images, *flags, "--out", tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["dataset"]
    assert stored["unreadable"] == len(stored["unreadable_ids"]) == 1
    assert not any(b"miller" in path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
