"""The verb that shows the cache, and the flags that do without it."""

import json

import pytest
import yaml

from shpeft.datasets import loading
from shpeft.datasets.cache import usage

from .commands import shpeft
from .test_datasets_folder import build


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_shown_and_cleared(tmp_path, place):
    images = build(tmp_path / "images", {"a": 8, "b": 8})
    shpeft("datasets", images, "--no-image-cache")
    assert not place.exists()
    shpeft("datasets", images)
    before = usage().bytes
    told = shpeft("cache").stdout
    assert told.splitlines()[0] == str(place)
    assert "at most 8 GiB" in told
    found = json.loads(shpeft("cache", "--clear", "--json").stdout)
    assert (found["folder"], found["files"], found["images"]) == (str(place), 0, None)
    assert found["index_bytes"] + found["pixel_bytes"] <= before


def test_a_cache_that_is_turned_off(monkeypatch):
    monkeypatch.setenv("SHPEFT_CACHE", "off")
    assert "turned off" in shpeft("cache").stdout
    assert "turned off" in shpeft("cache", "--clear", code=2).stderr


def test_a_run_without_it_keeps_nothing(tmp_path, place):
    images = build(tmp_path / "images", {"a": 12, "b": 12})
    flags = ["--backbone", "test_vit", "--weights", "random", "--image-size", 32, "--epochs", 1, "--score", "magnitude"]
    shpeft("finetune", "--data", images, "--no-image-cache", *flags, "--out", tmp_path / "without")
    assert not place.exists()
    loading.CACHE.clear()
    shpeft("finetune", "--data", images, *flags, "--out", tmp_path / "with")
    assert usage(count=True).images == 24
    names = ("predictions.csv", "support.safetensors")
    assert [(tmp_path / "with" / n).read_bytes() for n in names] == [
        (tmp_path / "without" / n).read_bytes() for n in names
    ]
    kept = [yaml.safe_load((tmp_path / n / "config.yaml").read_text())["dataset"]["cache"] for n in ("with", "without")]
    assert kept == [True, False]


def test_damaged_files_are_named_but_a_run_stores_their_number_and_content(tmp_path):
    images = build(tmp_path / "images", {"a": 12, "b": 12})
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
