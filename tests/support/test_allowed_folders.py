"""Paths outside the allowed folders are refused wherever a visitor may name one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shpeft.backbones import create_backbone
from shpeft.batch import open_source
from shpeft.datasets import load_dataset
from shpeft.errors import ShpeftError
from shpeft.support.allowed_folders import VARIABLE, is_allowed
from tests.helpers.image_folders import build_folder

COUNTS = {"ill": 12, "well": 12}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images beside the only allowed one, which has a link to it and a table that lists its files."""
    build_folder(tmp_path / "outside", COUNTS)
    build_folder(tmp_path / "inside", COUNTS)
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    rows = [f"{tmp_path}/outside/{name}/{n}.png,{name}" for name in COUNTS for n in range(12)]
    (tmp_path / "inside" / "table.csv").write_text("\n".join(["path,label", *rows]))
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path / "inside"), str(tmp_path / "runs")]))
    return tmp_path / "outside"


READERS: dict[str, Callable[[Path], object]] = {
    "dataset": lambda path: load_dataset(str(path)),
    "dots": lambda path: load_dataset(f"{path.parent}/inside/../outside"),
    "link": lambda path: load_dataset(f"{path.parent}/inside/link"),
    "table": lambda path: load_dataset(f"{path.parent}/inside/table.csv"),
    "recipe": lambda path: load_dataset(f"recipe:oct2017={path}"),
    "list": lambda path: open_source([path]).__enter__(),
    "weights": lambda path: create_backbone("test_vit", classes=("a", "b"), weights=str(path / "a.safetensors")),
    "backbone": lambda path: create_backbone(f"local-dir:{path}", classes=("a", "b")),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_path_outside_is_refused(outside: Path, reader: str) -> None:
    with pytest.raises(ShpeftError, match="outside the folders that this server may read"):
        READERS[reader](outside)


def test_paths_inside_and_built_in_data_are_read(outside: Path) -> None:
    inside = outside.parent / "inside"
    (inside / "link").unlink()
    (inside / "table.csv").unlink()
    assert load_dataset(str(inside)).classes == ("ill", "well")
    assert load_dataset("phantom:fundus?n=36&size=32").train
    assert not is_allowed("~nobody-of-this-name/x")
    assert not is_allowed("a\0b")


def test_the_folder_of_accounts_is_never_read(outside: Path) -> None:
    private = outside.parent / "runs" / ".accounts"
    private.mkdir(parents=True)
    assert not is_allowed(private)
    assert not is_allowed(private / "key")
    assert is_allowed(private.parent / "first")


def test_a_table_names_files_of_its_own_upload_alone(outside: Path) -> None:
    uploads = outside.parent / "runs" / ".uploads"
    first, second = uploads / "0123456789ab" / "images", uploads / "ba9876543210" / "images"
    for folder in (first, second):
        build_folder(folder, COUNTS)
    rows = [f"{name}/{n}.png,{name}" for name in COUNTS for n in range(12)]
    (first / "own.csv").write_text("\n".join(["path,label", *rows]))
    assert load_dataset(str(first / "own.csv")).classes == ("ill", "well")
    for table in (first / "other.csv", outside.parent / "inside" / "other.csv"):
        table.write_text("\n".join(["path,label", *(f"{second}/{row}" for row in rows)]))
        with pytest.raises(ShpeftError, match="outside the folders that this server may read"):
            load_dataset(str(table))


def test_a_folder_around_the_uploads_does_not_hold_them(tmp_path: Path) -> None:
    build_folder(tmp_path, COUNTS)
    build_folder(tmp_path / "ill" / ".uploads" / "0123456789ab" / "images", COUNTS)
    assert sum(load_dataset(str(tmp_path)).card["counts"]["train"].values()) < 24


def test_without_the_variable_every_path_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert is_allowed("/")
