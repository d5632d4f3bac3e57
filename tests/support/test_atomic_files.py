"""Atomic writes and file locks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shpeft.errors import ShpeftError
from shpeft.support.atomic_files import NO_LOCKS, FileLock, is_locked, write_atomic


def test_writes_bytes_and_text_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert write_atomic(path, "é") == path
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ShpeftError, match="No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_interruption_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ShpeftError, match="cannot be written"):
        write_atomic(tmp_path / "none" / "a", "x")


def test_files_follow_the_umask(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.write_text("x")
    assert write_atomic(tmp_path / "a", "x").stat().st_mode == reference.stat().st_mode


def test_locks_exclude_each_other_inside_a_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert first.acquire()  # a lock may be acquired again by its holder
    assert is_locked(path)
    assert not second.acquire(patience=0)
    first.release()
    assert not is_locked(path)
    assert second.acquire(patience=0)
    second.release()


def test_a_killed_process_loses_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = """
import sys
from shpeft.support.atomic_files import FileLock
lock = FileLock(sys.argv[1])
print(lock.acquire(), flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    assert is_locked(path)
    process.kill()
    process.communicate()
    assert not is_locked(path)


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_a_disk_without_locks_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    import fcntl

    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ShpeftError, match="has no file locks"):
        FileLock(tmp_path / "lock").acquire()
    assert not is_locked(tmp_path / "lock")  # a run whose process is gone is not alive


def test_a_cleanup_that_fails_does_not_hide_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(ShpeftError, match="cannot be written: Read-only file system"):
        write_atomic(tmp_path / "a", "x")
