"""A finished run, and DICOM files of a study with planted identifiers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shpeft.diagnosis import Diagnosis
from shpeft.pipeline import LoadedRun, load_run
from shpeft.runs import RunFolder
from tests.helpers.report_pages import diagnosed


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> RunFolder:
    return RunFolder.open(tiny_run)


@pytest.fixture(scope="module")
def model(run: RunFolder) -> LoadedRun:
    return load_run(run, "cpu")


@pytest.fixture(scope="module")
def answered(model: LoadedRun) -> Callable[[bytes], Diagnosis]:
    """Diagnose a file as if it looked like the training images."""

    def diagnose(data: bytes) -> Diagnosis:
        diagnosis = replace(diagnosed(model, data, "saliency"), ood=None)
        assert diagnosis.answer.given
        return diagnosis

    return diagnose
