"""A finished run with a threshold, a folder of images, and the CSV of a batch over it."""

from pathlib import Path

import pytest

from shpeft.batch import diagnose_batch, open_source
from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.pipeline import LoadedRun, load_run, set_decision_rules
from shpeft.runs import RunFolder
from tests.helpers.batch_files import FILES


@pytest.fixture(scope="module")
def folder(tiny_run: Path) -> RunFolder:
    run = RunFolder.open(tiny_run)
    set_decision_rules(run, DecisionRules(ThresholdRule("exudates")))
    return run


@pytest.fixture(scope="module")
def loaded(folder: RunFolder) -> LoadedRun:
    return load_run(folder, "cpu")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image_folder = tmp_path_factory.mktemp("Ward 7")
    for name, data in FILES.items():
        (image_folder / name).parent.mkdir(exist_ok=True)
        (image_folder / name).write_bytes(data)
    return image_folder


@pytest.fixture(scope="module")
def whole(loaded: LoadedRun, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The CSV of a batch that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "results.csv"
    with open_source([image_folder]) as source:
        diagnose_batch(loaded, source, out)
    assert [path.name for path in out.parent.iterdir()] == ["results.csv"]
    return out.read_bytes()
