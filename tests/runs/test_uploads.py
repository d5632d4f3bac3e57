"""Uploaded images: a private folder that goes with the last run that uses it; nothing half-written."""

import io
import os
import time
import zipfile
from pathlib import Path

import pytest

from shpeft.config.schema import RunConfig
from shpeft.errors import DatasetError
from shpeft.jobs import JobManager
from shpeft.runs import RunFolder, delete_run, empty_trash, restore_run
from shpeft.runs.owner import Account
from shpeft.runs.uploads import FORGOTTEN, check_may_see, delete_unused_uploads, save_upload
from shpeft.support.allowed_folders import UPLOADS


def zipped(*names: str) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name.encode())
    return buffer


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("eyes/ill/1.png", "eyes/well/1.png"), "eyes"),
        (("ill/1.png", "well/1.png"), "upload"),
        (("a/eyes/train/ill/1.png", "a/eyes/test/ill/1.png", "__MACOSX/a", ".DS_Store"), "eyes"),
        (("eyes/images/1.png", "eyes/labels.csv"), "eyes"),
        (("eyes/1.png", "eyes/labels.csv"), "eyes"),
    ],
)
def test_a_zip_becomes_the_folder_of_classes_or_of_the_table(
    names: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    folder = save_upload([("upload.zip", zipped(*names))], tmp_path)
    assert folder.name == expected
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert len(files) == len([name for name in names if "__MACOSX" not in name and ".DS" not in name])
    assert all(names[0].endswith(name) or any(other.endswith(name) for other in names) for name in files)


def test_files_of_a_folder_are_private_to_their_owner(tmp_path: Path) -> None:
    files = [("eyes/ill/1.png", io.BytesIO(b"1")), ("eyes/well/1.png", io.BytesIO(b"2"))]
    folder = save_upload(files, tmp_path)
    assert (folder / "ill" / "1.png").read_bytes() == b"1"
    if os.name == "posix":
        for path in (folder / "ill" / "1.png", tmp_path / UPLOADS, folder.parent):
            assert path.stat().st_mode & 0o077 == 0


def test_one_file_is_returned_itself(tmp_path: Path) -> None:
    assert save_upload([("weights.safetensors", io.BytesIO(b"w"))], tmp_path).name == "weights.safetensors"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", io.BytesIO(b"no zip"), "not a zip file"),
        ("a.zip", zipped("../up.png"), "lead out"),
        ("../up.png", io.BytesIO(b""), "leads out"),
        ("a.zip", zipped("__MACOSX/a"), "no files"),
    ],
)
def test_a_refused_upload_leaves_nothing(name: str, content: io.BytesIO, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        save_upload([(name, content)], tmp_path / "runs")
    assert list((tmp_path / "runs" / UPLOADS).iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_images_go_with_the_last_run_that_uses_them(tmp_path: Path) -> None:
    folder = save_upload([("upload.zip", zipped("ill/1.png", "well/1.png"))], tmp_path)
    config = RunConfig.parse({"dataset": {"source": str(folder)}})
    first, second = (RunFolder.create(tmp_path / name, config) for name in ("first", "second"))
    for run in (first, second):
        run.state.unlock()
    delete_run(first)
    empty_trash(tmp_path)
    assert folder.exists()
    deleted = delete_run(second)
    delete_unused_uploads(tmp_path)
    assert folder.exists()
    restore_run(deleted)
    delete_run(RunFolder.open(tmp_path / "second"))
    empty_trash(tmp_path)
    assert not folder.exists()


def test_an_upload_that_no_run_uses_is_deleted_after_a_day(tmp_path: Path) -> None:
    folder = save_upload([("upload.zip", zipped("ill/1.png", "well/1.png"))], tmp_path)
    delete_unused_uploads(tmp_path)
    assert folder.exists()
    os.utime(folder.parents[1], (time.time() - FORGOTTEN - 1,) * 2)
    delete_unused_uploads(tmp_path)
    assert not folder.parents[1].exists()


def test_images_of_one_account_are_not_another_s_to_see(tmp_path: Path) -> None:
    reader, other, chief = Account("0" * 16), Account("1" * 16), Account("2" * 16, is_admin=True)
    folder = save_upload([("upload.zip", zipped("ill/1.png", "well/1.png"))], tmp_path, reader)
    (tmp_path / "link").symlink_to(folder)
    inside = f"{folder}/ill/../ill/1.png"
    sources = [str(folder), f"recipe:oct2017={folder}", inside, str(tmp_path / "link"), str(folder.parents[1])]
    for source in (*sources, str(tmp_path / UPLOADS)):
        with pytest.raises(DatasetError, match="Another account dropped these images"):
            check_may_see(source, other)
        check_may_see(source, chief)
        check_may_see(source, None)
    for source in sources:
        check_may_see(source, reader)
    assert {path.name for path in folder.rglob("*")} == {"ill", "well", "1.png"}


def test_no_run_is_made_or_resumed_on_images_of_another_account(tmp_path: Path) -> None:
    folder = save_upload([("upload.zip", zipped("ill/1.png", "well/1.png"))], tmp_path, Account("0" * 16))
    config = RunConfig.parse({"dataset": {"source": str(folder)}, "device": "cpu"})
    jobs = JobManager(tmp_path)
    with pytest.raises(DatasetError, match="Another account dropped these images"):
        jobs.submit(config, "first", Account("1" * 16))
    RunFolder.create(tmp_path / "imported", config).state.unlock()
    with pytest.raises(DatasetError, match="Another account dropped these images"):
        jobs.resume("imported", Account("1" * 16))
    assert not (tmp_path / "first").exists()
