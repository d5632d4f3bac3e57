"""Tests of MedMNIST. Most replace the package by a fake with the same interface and download nothing."""

import io
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shpeft.datasets import load_dataset, medmnist
from shpeft.errors import DatasetError, Leakage, MissingExtra

INFO = {
    "python_class": "BreastMNIST",
    "label": {"0": "malignant", "1": "normal, benign"},
    "license": "CC BY 4.0",
    "n_channels": 1,
}


class BreastMNIST:
    """A fake of medmnist 3.0.2 that reads a file and whose download writes one."""

    downloads = 0

    def __init__(self, split: str, root: Path, size: int, download: bool) -> None:
        path = Path(root) / ("breastmnist.npz" if size == 28 else f"breastmnist_{size}.npz")
        if download:
            type(self).downloads += 1
            write(path, size)
        if not path.exists():
            raise RuntimeError("Dataset not found.  You can set `download=True` to download it")
        held = np.load(path)
        self.imgs, self.labels = held[f"{split}_images"], held[f"{split}_labels"]


def write(path: Path, size: int, labels: int = 2, shape: tuple[int, ...] = (), most: int = 0) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        count = max(count, most)
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, size, size, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % labels)[:, None].astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package: Any = ModuleType("medmnist")
    package.INFO = {"breastmnist": INFO}
    package.BreastMNIST = BreastMNIST
    monkeypatch.setitem(sys.modules, "medmnist", package)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(BreastMNIST, "downloads", 0)
    return tmp_path / ".medmnist"


def offline(*_: object, **__: object) -> None:
    raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))


def online(*_: object, **__: object) -> io.BytesIO:
    return io.BytesIO()


@pytest.mark.parametrize(("spec", "file", "size"), [("@28", "breastmnist", 28), ("@64", "breastmnist_64", 64)])
def test_a_file_that_is_there_needs_no_network(
    home: Path, monkeypatch: pytest.MonkeyPatch, spec: str, file: str, size: int
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    write(home / f"{file}.npz", size)
    data = load_dataset(f"medmnist:breastmnist{spec}")
    assert data.classes == ("malignant", "normal, benign")
    assert [len(split) for split in data.splits] == [8, 4, 6]
    assert data.card["counts"]["test"] == {"malignant": 3, "normal, benign": 3}
    assert data.card["modality"] == "ultrasound"
    assert "CC BY 4.0" in data.card["notice"]
    held = np.load(home / f"{file}.npz")["test_images"]
    image = data.test.image(2)
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert np.array_equal(np.asarray(image)[..., 1], held[2])
    assert data.test.mask(2) is None
    assert len({id for split in data.splits for id in split.ids}) == 18


def test_the_largest_size_is_the_default_and_color_is_preserved(home: Path) -> None:
    write(home / "breastmnist_224.npz", 224, shape=(3,))
    data = load_dataset("medmnist:breastmnist")
    assert data.name == "medmnist:breastmnist@224"
    assert np.asarray(data.train.image(0)).std(axis=2).max() > 0


def test_without_a_network_loading_fails_within_seconds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(DatasetError, match=r"cannot be reached.*copy breastmnist_64\.npz into"):
        load_dataset("medmnist:breastmnist@64")
    assert BreastMNIST.downloads == 0
    assert not home.exists()


def test_a_hanging_network_times_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def hang(*_: object, **__: object) -> io.BytesIO:
        time.sleep(15)
        return online()

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    monkeypatch.setattr("shpeft.support.network.TIMEOUT", 0.2)
    started = time.monotonic()
    with pytest.raises(DatasetError, match="no answer"):
        load_dataset("medmnist:breastmnist")
    assert time.monotonic() - started < 10


def test_it_downloads_once_and_leaves_only_the_complete_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", online)
    load_dataset("medmnist:breastmnist@28")
    load_dataset("medmnist:breastmnist@28")
    assert BreastMNIST.downloads == 1
    assert [path.name for path in home.iterdir()] == ["breastmnist.npz"]


def test_a_download_that_breaks_off_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", online)

    def broken(path: Path, size: int) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("\n   Automatic download failed! Please download it manually.\n")

    monkeypatch.setattr(sys.modules[__name__], "write", broken)
    with pytest.raises(DatasetError, match="Automatic download failed"):
        load_dataset("medmnist:breastmnist@28")
    assert list(home.iterdir()) == []


def test_damaged_files_are_explained(home: Path) -> None:
    home.mkdir()
    (home / "breastmnist.npz").write_bytes(b"half a file")
    with pytest.raises(DatasetError, match=r"breastmnist\.npz.*delete it"):
        load_dataset("medmnist:breastmnist@28")
    write(home / "breastmnist_64.npz", 64, labels=3)
    with pytest.raises(DatasetError, match=r"labels outside 0\.\.1"):
        load_dataset("medmnist:breastmnist@64")


def test_without_the_package_the_extra_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(MissingExtra, match=r"shpeft\[medmnist\]"):
        load_dataset("medmnist:breastmnist")


@pytest.mark.parametrize("size", medmnist.SIZES)
@pytest.mark.parametrize("name", medmnist.TITLES)
def test_every_task_and_size_opens_with_the_package_itself(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("medmnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    info = package.INFO[name]
    file = tmp_path / ".medmnist" / f"{name}{'' if size == 28 else f'_{size}'}.npz"
    write(file, size, labels=len(info["label"]), shape=(3,) if info["n_channels"] == 3 else (), most=len(info["label"]))
    data = load_dataset(f"medmnist:{name}@{size}")
    assert data.classes == tuple(info["label"].values())
    assert data.test.image(0).size == (size, size)
    assert info["license"] in data.card["notice"]
    assert len(data.test) == max(6, len(info["label"]))
    assert any("one lesion" in warning for warning in data.card["warnings"]) == (name == "dermamnist")


def test_every_set_of_two_dimensions_is_known() -> None:
    package = pytest.importorskip("medmnist")
    assert set(medmnist.TITLES) == {name for name in package.INFO if "3d" not in name}


def test_several_findings_are_read_as_published(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = sys.modules["medmnist"]
    info = {"python_class": "ChestMNIST", "label": {"0": "mass", "1": "edema"}, "license": "CC BY 4.0"}
    monkeypatch.setitem(package.INFO, "chestmnist", info | {"task": "multi-label, binary-class"})
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = np.random.default_rng(count).integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.stack([np.arange(count) % 2, np.arange(count) // 2 % 2], axis=1)
    for folder in (home, home / ".medmnist"):
        folder.mkdir(exist_ok=True)
        for name in ("breastmnist", "chestmnist"):
            np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    monkeypatch.setattr(package, "ChestMNIST", BreastMNIST, raising=False)
    for source in ("medmnist:chestmnist@28", str(home / "chestmnist.npz")):
        data = load_dataset(source)
        assert data.task.name == "multi-label"
        assert data.train.labels[:4] == ((0, 0), (1, 0), (0, 1), (1, 1))
    assert data.classes == ("0", "1")


def test_copies_across_the_published_splits_are_reported_or_dropped(home: Path) -> None:
    write(home / "breastmnist.npz", 28)
    arrays = dict(np.load(home / "breastmnist.npz"))
    arrays["train_images"][2] = arrays["test_images"][4]
    np.savez(home / "breastmnist.npz", **arrays)
    data = load_dataset("medmnist:breastmnist@28")
    assert data.card["leakage"]["pairs"] == [["copy", "train", "test", data.train.ids[2], data.test.ids[4]]]
    assert any("1 image stands in both train and test" in warning for warning in data.card["warnings"])
    clean = load_dataset("medmnist:breastmnist@28", leakage="drop")
    assert clean.train.ids == data.train.ids[:2] + data.train.ids[3:]
    assert clean.test.fingerprint == data.test.fingerprint
    with pytest.raises(Leakage, match="are the same image, but belong to train and test") as caught:
        load_dataset("medmnist:breastmnist@28", leakage="refuse")
    assert "image 2 of train" in " ".join(caught.value.__notes__)


def test_a_file_larger_than_the_memory_is_refused_before_it_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "breastmnist_64.npz", 64)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 2, "SC_PAGE_SIZE": 4096}[name])
    with pytest.raises(DatasetError, match=r"unpacks to 0\.0 GiB, and this machine has 0\.0 GiB.*smaller size"):
        load_dataset("medmnist:breastmnist@64")
