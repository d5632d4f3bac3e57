"""The configurations in examples/: each one runs, with a tiny backbone, few images and one epoch."""

from pathlib import Path

import pytest

from shpeft.config import RunConfig
from shpeft.config.sweep import Sweep
from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "sweep")

TINY = [
    *("--backbone", "test_vit", "--weights", "random", "--image-size", 32),
    *("--data", "phantom:fundus?n=36&size=32", "--budget", 40, "--score-images", 16),
    *("--epochs", 1, "--device", "cpu"),
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    shpeft("finetune", "--config", path, *TINY, "--out", tmp_path / "run")
    run, example = RunFolder.open(tmp_path / "run"), RunConfig.from_yaml(path)
    assert run.state.status == "finished"
    assert run.config.selection.score == example.selection.score
    assert run.config.training.augment == example.training.augment


def test_the_sweep_is_one() -> None:
    assert len(Sweep.from_yaml(FOLDER / "sweep.yaml").members()) == 6
