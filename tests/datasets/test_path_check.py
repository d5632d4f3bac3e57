"""What a typed path holds: classes and counts, names that it may go on with, or what is wrong with it."""

import os
import zipfile
from pathlib import Path

import pytest

from shpeft.datasets import path_check
from shpeft.datasets.path_check import check_path
from shpeft.support.allowed_folders import VARIABLE
from tests.helpers.image_folders import build_folder, write_picture


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return build_folder(tmp_path / "images", {"train/ill": 3, "train/well": 4, "test/ill": 1, "test/well": 1})


def test_a_folder_has_its_classes_counts_and_splits(images: Path) -> None:
    check = check_path(str(images))
    assert check.state == "ready"
    assert check.sentence == "9 images of 2 classes: ill (4), well (5). 7 train, 2 test."


def test_names_that_begin_as_typed_are_offered(images: Path) -> None:
    check = check_path(str(images.parent / "ima"))
    assert check.state == "incomplete"
    assert check.sentence == f"In {images.parent} begin so: images."


@pytest.mark.parametrize("typed", ["imgaes", "imagse", "imgaes/train"])
def test_a_typing_error_gets_the_nearest_name(images: Path, typed: str) -> None:
    check = check_path(str(images.parent / typed))
    assert check.state == "wrong"
    assert check.sentence.startswith(f"There is no file or folder {images.parent / typed}")
    assert check.sentence.endswith(f"Similar in {images.parent}: images.")


def test_a_path_like_nothing_says_up_to_where_it_exists(tmp_path: Path) -> None:
    assert check_path(str(tmp_path / "xyz" / "a")).sentence.endswith(f"{tmp_path} exists, and has no xyz.")


def test_a_folder_of_one_class_names_its_folders(tmp_path: Path) -> None:
    check = check_path(str(build_folder(tmp_path, {"only": 2})))
    assert check.state == "wrong"
    assert "only the class 'only'" in check.sentence
    assert check.sentence.endswith("Its folders: only.")


def test_files_are_judged_by_what_is_needed(tmp_path: Path) -> None:
    names = {name: tmp_path / name for name in ("a.csv", "a.safetensors", "a.zip", "a.xlsx")}
    for path in names.values():
        path.write_bytes(b"x")
    picture = write_picture(tmp_path / "a.png", 0)
    ready = {
        ("a.csv", "dataset"),
        ("a.safetensors", "weights"),
        ("a.zip", "images"),
    }
    for name, path in names.items():
        for kind in ("dataset", "weights", "images", "folder"):
            expected = "ready" if (name, kind) in ready else "wrong"
            assert check_path(str(path), kind).state == expected, (name, kind)
    assert check_path(str(picture), "images").state == "ready"
    assert "CSV UTF-8" in check_path(str(names["a.xlsx"])).sentence
    assert "Unpack it first" in check_path(str(names["a.zip"])).sentence


def test_images_to_diagnose_are_counted(images: Path, tmp_path: Path) -> None:
    assert check_path(str(images), "images").sentence == "A folder with 9 images."
    (tmp_path / "empty").mkdir()
    assert check_path(str(tmp_path / "empty"), "images").state == "wrong"
    assert check_path(str(tmp_path / "empty"), "folder").state == "ready"


def test_a_large_folder_is_not_counted_to_the_end(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_check, "SECONDS", -1.0)
    assert "more than" in check_path(str(images)).sentence
    assert check_path(str(images)).state == "ready"
    assert "at least" in check_path(str(images), "images").sentence


def test_a_folder_with_a_table_is_ready(images: Path) -> None:
    (images / "metadata.csv").write_text("file_name,label\ntrain/ill/0.png,a\n")
    assert "table" in check_path(str(images)).sentence


def test_other_folders_are_not_looked_at(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(images / "train"))
    check = check_path(str(images))
    assert (check.state, "outside" in check.sentence) == ("wrong", True)
    assert "images" not in check_path(str(images.parent / "im")).sentence.partition("/im")[2]


@pytest.mark.parametrize("text", ["a\0b", "~nobody-at-all/x", "/" + "x" * 5000])
def test_impossible_paths_are_wrong(text: str) -> None:
    assert check_path(text).state == "wrong"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission_is_wrong(images: Path) -> None:
    images.chmod(0)
    assert "may not read" in check_path(str(images)).sentence
    images.chmod(0o755)


def test_a_zip_is_named_as_such(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    assert check_path(str(tmp_path / "some.zip"), "images").sentence.startswith("A zip")
