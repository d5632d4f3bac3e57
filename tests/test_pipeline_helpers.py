"""Beside a run: previews, overlaps, and the features of frozen blocks."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import json
import time

import pytest

from shpeft import pipeline, prefix
from shpeft.errors import ClassMismatch, ShpeftError
from shpeft.runs import FEATURES, RunFolder
from shpeft.runs.formats import plain
from tests.test_pipeline import carry_out, finished, names, tiny


def test_a_preview_is_what_the_run_selects(finished):
    config, weights = finished.config, finished.metrics()["weights"]
    begin = time.monotonic()
    preview = pipeline.describe_selection(config, classes=3)
    assert time.monotonic() - begin < 5
    for name in ("selected", "eligible", "backbone", "head", "share", "share_with_head"):
        assert getattr(preview, name) == weights[name], name
    assert weights["delta_bytes"] <= preview.delta_bytes <= 3 * weights["delta_bytes"]
    with pytest.raises(ShpeftError, match="more than"):
        pipeline.describe_selection(tiny(selection={"budget": preview.eligible + 1}))


def test_overlap_of_halves_and_of_runs(finished, tmp_path):
    halves = pipeline.overlap_in(finished)
    assert (halves.a, halves.b, halves.eligible) == (40, 40, finished.metrics()["weights"]["eligible"])
    assert pipeline.overlap_between(finished, finished).jaccard == 1
    other = carry_out(tmp_path / "run", tiny(selection={"scope": "all"}, training={"epochs": 1}))
    with pytest.raises(ShpeftError, match="cannot be compared"):
        pipeline.overlap_between(finished, other)


def test_another_dataset_must_have_the_same_classes(finished):
    with pytest.raises(ClassMismatch):
        pipeline.evaluate_run(finished, "phantom:ultrasound?n=30&size=32", device="cpu")
    _, found = pipeline.evaluate_run(finished, "phantom:fundus?n=30&size=32", device="cpu")
    assert found["finetuned"]["cases"] == 10
    json.dumps(plain(found))


@pytest.mark.parametrize(
    ("training", "block"), [({}, "blocks.4"), ({"cache": False}, None), ({"checkpointing": True}, None)]
)
@pytest.mark.parametrize("memory", [2**30, 0])
def test_frozen_blocks_are_cached_and_their_features_deleted(tmp_path, monkeypatch, training, block, memory):
    monkeypatch.setattr(prefix, "MEMORY", memory)
    config = tiny(selection={"scope": "last:2"}, training=training)
    seen = []
    folder = RunFolder.create(tmp_path / "run", config)
    pipeline.run(folder.config, folder, on_epoch=lambda _: seen.append(FEATURES in names(folder)))
    assert json.loads((folder.path / "metrics.json").read_text())["training"]["cached_below"] == block
    assert seen == [block is not None and memory == 0] * 2
    assert FEATURES not in names(folder)


def test_features_of_a_crashed_run_leave_with_its_successor(tmp_path):
    folder = carry_out(tmp_path / "run")
    (folder.path / FEATURES).mkdir()
    (folder.path / FEATURES / "left").write_bytes(b"0")
    folder.release()
    again = RunFolder.create(folder.path, tiny(), overwrite=True)
    assert FEATURES not in names(again)
