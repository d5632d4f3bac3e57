"""Overlap of supports, within a run and between runs, and evaluation on other data."""

import json
from pathlib import Path

import pytest

from shpeft import pipeline
from shpeft.errors import ClassMismatch, ShpeftError
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from tests.helpers.run_metrics import metrics_of
from tests.pipeline.conftest import carry_out, tiny


def test_overlap_of_halves_and_of_runs(finished: RunFolder, tmp_path: Path) -> None:
    halves = pipeline.overlap_within(finished)
    assert (halves.a, halves.b, halves.eligible) == (40, 40, metrics_of(finished)["weights"]["eligible"])
    assert pipeline.overlap_between(finished, finished).jaccard == 1
    other = carry_out(tmp_path / "run", tiny(selection={"scope": "all"}, training={"epochs": 1}))
    with pytest.raises(ShpeftError, match="cannot be compared"):
        pipeline.overlap_between(finished, other)


def test_another_dataset_must_have_the_same_classes(finished: RunFolder) -> None:
    with pytest.raises(ClassMismatch):
        pipeline.evaluate_run(finished, "phantom:ultrasound?n=30&size=32", device="cpu")
    _, metrics = pipeline.evaluate_run(finished, "phantom:fundus?n=30&size=32", device="cpu")
    assert metrics["finetuned"]["cases"] == 30
    json.dumps(to_jsonable(metrics))
