"""Cells that the processes of an engine share."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from shpeft.compare import Table
from tests.helpers.command_line import shpeft
from tests.helpers.comparison_tables import SETTING


class Recorder:
    """An engine whose first command is carried out at once; the others end with the reasons given."""

    waiting = ""
    schedules = False

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        self.commands: list[list[str]] = []
        self.killed: list[int] = []

    def submit(self, command: Sequence[str], device: str) -> int:
        if not self.commands:
            shpeft(*command[1:])
        self.commands.append(list(command))
        return len(self.commands) - 1

    def outcome(self, ticket: int) -> str | None:
        return self.reasons[ticket]

    def kill(self, ticket: int) -> None:
        self.killed.append(ticket)


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    path = tmp_path / "probes.yaml"
    path.write_text(yaml.safe_dump(SETTING | {"arms": {"probe": {"kind": "probe"}}, "seeds": [0]}))
    return path


def share(path: Path, engine: Recorder, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> str:
    monkeypatch.setattr("shpeft.cli.compare.engine_named", lambda name: engine if name == "process" else None)
    options = ["--engine", "process", "--workers", 2, "--only", "fundus/*"]
    return shpeft("compare", path, *options, code=code).output


def test_all_workers_get_the_command_and_the_table_is_filled(probes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Recorder("", "")
    assert "1 cells in" in share(probes, engine, monkeypatch)
    assert engine.commands[0] == engine.commands[1]
    assert engine.commands[0][:3] == ["shpeft", "compare", str(probes)]
    assert len(Table.existing(probes.with_suffix("")).cells()) == 1
    assert engine.killed == [0, 1]


def test_a_worker_that_ends_early_is_named(probes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = share(probes, Recorder("", "killed by signal 9"), monkeypatch, code=2)
    assert "1 of 2 processes ended early (killed by signal 9). Run the command again" in printed
    assert len(Table.existing(probes.with_suffix("")).cells()) == 1


def test_a_thread_has_no_workers(probes: Path) -> None:
    assert "The engine thread works alone" in shpeft("compare", probes, "--workers", 2, code=2).stderr
