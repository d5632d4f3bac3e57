"""Datasets with files that are no files, and small files that stand for gigabytes."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shpeft.batch import open_source
from shpeft.datasets import load_dataset
from shpeft.errors import DatasetError, UnreadableImage
from shpeft.images import looks_like_image, open_image, read_facts
from shpeft.support.limits import IMAGE_BYTES

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes with six images each."""
    rng = np.random.default_rng(0)
    for name in ("healthy", "ill"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


@posix
def test_pipes_and_devices_are_no_images_and_a_sparse_giant_is_unreadable(folder: Path) -> None:
    os.mkfifo(folder / "ill" / "pipe.png")
    (folder / "ill" / "zero.png").symlink_to("/dev/zero")
    with (folder / "ill" / "sparse.png").open("wb") as file:
        file.truncate(IMAGE_BYTES + 1)
    began = time.monotonic()
    data = load_dataset(str(folder))
    assert sum(len(split) for split in data.splits) == 12
    assert [name for name, _ in data.card["unreadable"]] == ["ill/sparse.png"]
    with open_source([folder]) as source:
        read = [entry for entry in source.entries if "pipe" in entry.name or "zero" in entry.name]
        assert len(read) == 2
        for entry in read:
            with pytest.raises(UnreadableImage, match="not a regular file"):
                entry.read()
    assert time.monotonic() - began < 10


@posix
def test_one_image_that_is_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnreadableImage, match="not a regular file"):
            open_image(path)
        assert not looks_like_image(path)
        assert not read_facts(path).acquisition.modality


def test_a_class_number_without_images_takes_no_memory(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {f"{split}_images": np.zeros((2, 4, 4), np.uint8) for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": np.array([0, 10**9]) for split in ("train", "val", "test")}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DatasetError, match="class number 1,000,000,000 and 2 training images"):
        load_dataset(str(tmp_path / "set.npz"))


def test_a_small_parquet_of_long_texts_is_refused(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), pa.array(["x" * 50_000]))
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"path": column, "label": column}), path)
    assert path.stat().st_size < 2**20
    with pytest.raises(DatasetError, match="more than a table of images needs"):
        load_dataset(str(path))


def test_a_table_of_too_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",".join(f"c{number}" for number in range(100_000)))
    with pytest.raises(DatasetError, match="100,000 columns"):
        load_dataset(str(tmp_path / "t.csv"))


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na\0b.png,x\nc.png,y\n")
    with pytest.raises(DatasetError, match="no file can be called"):
        load_dataset(str(tmp_path / "t.csv"))


def test_a_jpeg_of_too_many_passes_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "i.jpg", progressive=True)
    open_image(tmp_path / "i.jpg")
    data = (tmp_path / "i.jpg").read_bytes()
    scan = data[data.index(b"\xff\xda") : -2]
    (tmp_path / "i.jpg").write_bytes(data[:-2] + scan * 200 + b"\xff\xd9")
    with pytest.raises(UnreadableImage, match="passes over its pixels"):
        open_image(tmp_path / "i.jpg")
