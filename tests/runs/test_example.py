"""The example run that ships with shpeft: it works, it cannot be changed, and it is never among one's own runs."""

import hashlib
import shutil
from pathlib import Path

import pytest

from shpeft.batch import list_batches, new_batch
from shpeft.config import EMBEDDED
from shpeft.datasets import load_dataset
from shpeft.diagnosis import diagnose
from shpeft.errors import RunError
from shpeft.pipeline import load_run
from shpeft.runs import RunFolder, delete_run, example_run, find_run, list_runs, rename_run
from shpeft.runs.example import EXAMPLE


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The example, beside an empty folder of runs."""
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    run = example_run()
    assert run is not None
    return run


def contents(run: RunFolder) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in run.path.iterdir()}


def test_it_is_small_and_shows_no_patient(example: RunFolder) -> None:
    assert sum(file.stat().st_size for file in example.path.iterdir()) < 700_000
    assert example.config.dataset.source.startswith("phantom:")
    assert example.config.backbone.name == EMBEDDED


def test_it_is_found_by_name_and_not_listed(example: RunFolder, tmp_path: Path) -> None:
    assert list_runs() == []
    assert find_run(EXAMPLE).is_example
    RunFolder.create(tmp_path / EXAMPLE, example.config)
    own = find_run(EXAMPLE)
    assert not own.is_example
    assert [run.name for run in list_runs()] == [EXAMPLE]


def test_it_diagnoses_its_test_images(example: RunFolder) -> None:
    data = load_dataset(example.config.dataset.source, seed=example.config.seed)
    before = contents(example)
    with load_run(example, "cpu") as loaded:
        diagnosis = diagnose(loaded.backbone, data.test.image(0), reliability=loaded.reliability)
    stored = example.predictions.test().probabilities[0]
    assert diagnosis.probabilities == pytest.approx(stored.tolist(), abs=1e-3)
    assert contents(example) == before


def test_nothing_changes_it(example: RunFolder) -> None:
    before, reliability = contents(example), example.reliability.read()
    assert reliability is not None
    for change in (
        lambda: example.notes.write("mine"),
        lambda: example.notes.write(""),
        lambda: example.reliability.write(reliability),
        lambda: delete_run(example),
        lambda: rename_run(example, "mine"),
    ):
        with pytest.raises(RunError, match="cannot be changed"):
            change()
    assert contents(example) == before


def test_its_batches_are_among_ones_own_files(example: RunFolder, tmp_path: Path) -> None:
    batch = new_batch(example)
    assert batch.path.is_relative_to(tmp_path)
    assert [folder.path for folder in list_batches(example)] == [batch.path]
    assert list_runs() == []
    shutil.rmtree(batch.path)
