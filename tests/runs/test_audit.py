"""The audit log: lines are appended whole, by many at once, and a diagnosis that cannot be recorded is not made."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shpeft.errors import ShpeftError
from shpeft.runs.audit import AuditLog, recorder
from shpeft.runs.owner import Account

READER = Account("0" * 16)


def test_lines_are_appended_and_readable_by_the_server_alone(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert list(log.entries()) == []
    log.append(READER, "case-1", "first", "ab")
    before = log.path.read_bytes()
    log.append(READER, "case-2", "first", "ab")
    assert log.path.read_bytes().startswith(before)
    assert [entry.case for entry in log.entries() if entry] == ["case-1", "case-2"]
    assert set(json.loads(before)) == {"time", "account", "case", "run", "model", "action"}
    if os.name == "posix":
        assert log.path.stat().st_mode & 0o777 == 0o600


def test_an_entry_says_what_was_done_and_one_of_an_older_version_is_a_diagnosis(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append(READER, "case-1", "first", "ab")
    fields = json.loads(log.path.read_bytes())
    del fields["action"]
    log.path.write_text(json.dumps(fields) + "\n")
    log.append(READER, "case-2", "first", "ab", "stored")
    assert [entry and entry.action for entry in log.entries()] == ["diagnosed", "stored"]


def test_many_threads_and_processes_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom shpeft.runs.audit import AuditLog\nfrom shpeft.runs.owner import Account\n"
        "for i in range(20): AuditLog(sys.argv[1]).append(Account('1' * 16), f'case-{i}', 'first', 'ab')"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: AuditLog(tmp_path).append(READER, f"case-{i}", "first", "ab"), range(40)))
    assert [process.wait(60) for process in processes] == [0, 0]
    entries = list(AuditLog(tmp_path).entries())
    assert len(entries) == 80
    assert None not in entries


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append(READER, "case-1", "first", "ab")
    log.path.write_bytes(log.path.read_bytes()[:-10])
    log.append(READER, "case-2", "first", "ab")
    entries = list(log.entries())
    assert entries[0] is None
    assert entries[1] is not None
    assert entries[1].case == "case-2"


def test_a_log_that_cannot_be_written_stops_the_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    record = recorder(READER, "first")
    assert record is not None
    AuditLog().path.parent.mkdir()
    AuditLog().path.mkdir()
    with pytest.raises(ShpeftError, match="so nothing is diagnosed"):
        record("case-1", "ab")


def test_without_accounts_nothing_is_recorded() -> None:
    assert recorder(None, "first") is None
