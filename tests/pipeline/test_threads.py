"""The number of threads: with the same one every file has the same bytes, with others the last digits may differ."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.reports.provenance_section import provenance
from shpeft.runs import RunFolder
from tests.helpers.app_pages import TINY

CLOSE = 1e-4
"""How far probabilities may be from those with another number of threads."""


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(folder: Path, count: int) -> RunFolder:
    """Train with this number of threads."""
    torch.set_num_threads(count)
    run = RunFolder.create(folder, RunConfig.parse(TINY))
    pipeline.run(run.config, run)
    return run


@pytest.mark.usefixtures("_threads")
def test_what_depends_on_the_number_of_threads(tmp_path: Path) -> None:
    first, again, two, four = (trained(tmp_path / f"run-{i}", count) for i, count in enumerate((1, 1, 2, 4)))
    files = {path.name for path in first.path.iterdir() if path.is_file()}
    for name in files - {"state.json", "metrics.json", "metrics.jsonl", ".lock"}:  # these hold times
        assert (first.path / name).read_bytes() == (again.path / name).read_bytes(), name
    assert json.loads((two.path / "environment.json").read_text())["threads"] == 2
    for other in (two, four):
        difference = np.abs(other.predictions.test().probabilities - first.predictions.test().probabilities)
        assert difference.max() <= CLOSE
        assert other.predictions.test().ids == first.predictions.test().ids


@pytest.mark.usefixtures("_threads")
def test_a_report_says_if_the_number_differs(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    delta = tmp_path / "delta.safetensors"
    delta.write_bytes(b"")
    header = {"base": "ab", "versions": {}}
    assert "at reporting: the last" not in str(provenance(header, delta, 0))
    (tmp_path / "environment.json").write_text('{"threads": 4}')
    assert "4 at training, 2 at reporting: the last digits of numbers may differ" in str(provenance(header, delta, 0))
    (tmp_path / "environment.json").write_text('{"threads": 2}')
    assert "at reporting: the last" not in str(provenance(header, delta, 0))
