"""Memory that runs out is said in a sentence, by a run and by a command."""

from pathlib import Path

import pytest

from shpeft.config import RunConfig
from shpeft.errors import OutOfMemory
from shpeft.runs import RunFolder
from shpeft.support import memory
from shpeft.support.memory import as_out_of_memory, free_memory_bytes, memory_bytes
from tests.helpers.command_line import shpeft as command

ERRORS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["python", "processor", "card"])
def test_a_run_says_what_to_lower(tmp_path: Path, error: Exception) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    with pytest.raises(OutOfMemory, match="smaller batch size"), folder.state.recording():
        raise error
    state = folder.state.read()
    assert state.status == "failed"
    assert "smaller batch size" in state.message
    assert not (folder.path / "error.log").exists()


def test_other_errors_stay_what_they_are() -> None:
    assert as_out_of_memory(RuntimeError("shapes differ")) is None
    assert as_out_of_memory(ValueError("out of memory")) is None


def test_a_command_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("shpeft.cli.runs.list_runs", starve)
    assert "memory ran out" in command("runs", "list", code=2).stderr


def test_a_container_has_what_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, limit = memory_bytes(), tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUPS", (str(limit), str(tmp_path / "missing")))
    limit.write_text("4096\n")
    assert memory_bytes() == 4096
    limit.write_text("max\n")
    assert (memory_bytes() or 0) >= (whole or 0)


def test_what_is_free_is_what_the_system_and_the_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, usage, system = tmp_path / "memory.max", tmp_path / "memory.stat", tmp_path / "meminfo"
    monkeypatch.setattr(memory, "CGROUPS", (str(limit), str(tmp_path / "missing")))
    monkeypatch.setattr(memory, "USAGE", (str(usage), str(tmp_path / "missing")))
    monkeypatch.setattr(memory, "MEMINFO", str(system))
    assert free_memory_bytes() is None
    system.write_text("MemTotal: 9 kB\nMemAvailable:       8 kB\n")
    assert free_memory_bytes() == 8192
    limit.write_text("9000\n")
    usage.write_text("anon 5000\nfile 100000\n")
    assert free_memory_bytes() == 4000
    usage.write_text("anon 10000\n")
    assert free_memory_bytes() == 0
    limit.write_text("max\n")
    assert free_memory_bytes() == 8192
