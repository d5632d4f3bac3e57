import os
import subprocess
import sys
from pathlib import Path

import pytest

from shpeft.errors import ShpeftError
from shpeft.files import FileLock, is_locked, write_atomic


def test_writes_bytes_and_text_and_replaces(tmp_path: Path):
    path = tmp_path / "a.json"
    assert write_atomic(path, "é") == path
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ShpeftError, match="No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_interruption_leaves_no_temporary(tmp_path: Path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_sentence(tmp_path: Path):
    with pytest.raises(ShpeftError, match="cannot be written"):
        write_atomic(tmp_path / "none" / "a", "x")


def test_files_follow_the_umask(tmp_path: Path):
    reference = tmp_path / "reference"
    reference.write_text("x")
    assert write_atomic(tmp_path / "a", "x").stat().st_mode == reference.stat().st_mode


def test_locks_exclude_each_other_inside_a_process(tmp_path: Path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    one, two = FileLock(path), FileLock(path)
    assert one.acquire()
    assert one.acquire()  # again: still its own
    assert is_locked(path)
    assert not two.acquire(patience=0)
    one.release()
    assert not is_locked(path)
    assert two.acquire(patience=0)
    two.release()


def test_a_killed_process_loses_its_lock(tmp_path: Path):
    path = tmp_path / "lock"
    code = (
        "import sys; from shpeft.files import FileLock as L; l = L(sys.argv[1]); print(l.acquire(), flush=1); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    assert is_locked(path)
    process.kill()
    process.communicate()
    assert not is_locked(path)
