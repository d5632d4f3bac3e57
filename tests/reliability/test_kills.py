"""Killed at any instant, a command repeated or resumed ends with the bytes of one that was never killed."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from shpeft.errors import RunError
from shpeft.runs import RunFolder, list_runs
from tests.helpers.command_line import TINY
from tests.helpers.comparison_tables import SETTING
from tests.helpers.image_folders import write_picture
from tests.reliability.figures import record
from tests.reliability.processes import FULL, command, finished

KILLS = 25 if FULL else 1
"""For each command: most of them before a change to files, the others at any instant."""

PLAN = SETTING | {
    "datasets": {"fundus": {"source": "phantom:fundus?n=36&size=32"}},
    "seeds": [0],
    "training": {"epochs": 1, "batch_size": 8},
    "arms": {"probe": {"kind": "probe"}, "head": {"kind": "head"}, "product": {"kind": "sparse", "images": 8}},
}

RESULTS = ("delta.safetensors", "predictions.csv", "predictions_val.csv", "probe.safetensors", "support.safetensors")
"""Files of a run without times in them."""


@dataclass(frozen=True)
class Deed:
    """A command to kill.

    Attributes:
        arguments: of the command, in a folder.
        again: of the command that a user enters after a kill.
        result: the bytes that it is for.
    """

    arguments: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    result: Callable[[Path], dict[str, bytes]]


def _finetune(root: Path) -> list[str]:
    return ["finetune", "--config", str(root / "tiny.yaml"), "--out", str(root / "runs" / "one")]


def _finetune_again(root: Path) -> list[str]:
    folder = root / "runs" / "one"
    try:
        status = RunFolder.open(folder).state.status
    except RunError:  # killed before there was a run
        return [*_finetune(root), "--overwrite"] if folder.exists() else _finetune(root)
    return ["runs", "list"] if status == "finished" else ["finetune", "--resume", str(folder)]


def _batch(root: Path) -> list[str]:
    return ["diagnose", str(root / "trained"), str(root / "images"), "--csv", str(root / "out" / "answers.csv")]


def _compare(root: Path) -> list[str]:
    return ["compare", str(root / "plan.yaml"), "--out", str(root / "table")]


def _import(root: Path) -> list[str]:
    return ["runs", "import", str(root / "export.zip")]


def _import_again(root: Path) -> list[str]:
    return ["runs", "list"] if list_runs(root / "runs") else _import(root)


def _imported(root: Path) -> dict[str, bytes]:
    list_runs(root / "runs")
    names = [path.name for path in (root / "runs").iterdir()]
    assert names == ["trained"], names  # nothing half-imported is left
    return {name: (root / "runs" / "trained" / name).read_bytes() for name in RESULTS}


def _cells(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "table").rglob("*.npz")}


DEEDS = {
    "finetune": Deed(
        _finetune, _finetune_again, lambda root: {n: (root / "runs" / "one" / n).read_bytes() for n in RESULTS}
    ),
    "batch": Deed(_batch, _batch, lambda root: {"csv": (root / "out" / "answers.csv").read_bytes()}),
    "compare": Deed(_compare, _compare, _cells),
    "import": Deed(_import, _import_again, _imported),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands need: a trained run and its export, images, a plan and a configuration."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "tiny.yaml").write_text(TINY)
    (root / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    (root / "out").mkdir()
    for index in range(12):
        write_picture(root / "images" / f"{index}.png", index, (32, 32))
    finished(["finetune", "--config", str(root / "tiny.yaml"), "--out", str(root / "trained")], root / "log", root)
    finished(["runs", "export", str(root / "trained"), "--out", str(root / "export.zip")], root / "log", root)
    return root


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", DEEDS if FULL else ["finetune", "import"])
def test_a_killed_command_ends_with_the_same_bytes(name: str, prepared: Path, tmp_path: Path) -> None:
    deed, rng = DEEDS[name], random.Random(name)

    def folder(number: int) -> Path:
        return Path(shutil.copytree(prepared, tmp_path / str(number)))

    reference = folder(0)
    changes = finished(deed.arguments(reference), tmp_path / "log", reference)
    expected = deed.result(reference)
    assert expected
    identical, killed = 0, 0
    for number in range(1, KILLS + 1):
        root, log = folder(number), tmp_path / f"log{number}"
        at = None if number % 3 == 0 else 1 + (number * changes) // (KILLS + 1)
        child = command(deed.arguments(root), log, root, at)
        if at is None:
            child.join(rng.uniform(0, 2.0))
            child.kill()
        child.join()
        killed += child.exitcode == -9
        while True:
            following = deed.again(root)
            if following == ["runs", "list"]:
                break
            finished(following, log, root)
            if following == deed.again(root) or deed.again(root) == ["runs", "list"]:
                break
        identical += deed.result(root) == expected
        shutil.rmtree(root)
    record("kills", command=name, kills=killed, runs=KILLS, identical=identical, changes=changes)
    assert identical == KILLS
    assert killed >= KILLS // 2
    assert not list(tmp_path.rglob("*.outside"))  # nothing was looked up or connected to
