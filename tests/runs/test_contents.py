"""The contents of a run folder are read as they were written, and damage is reported."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shpeft.backbones import WeightInfo
from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.evaluation.predict import Predictions
from shpeft.importance.layer_summaries import summarize
from shpeft.importance.scores import Scores
from shpeft.runs import RunFolder, damaged_runs, list_runs
from shpeft.selection.top_k import Support
from shpeft.training.loop import EpochReport

CONFIG = RunConfig()
INFOS = (
    WeightInfo("blocks.0.a.weight", (4, 3), 12, 1, "blocks.0", "a.weight"),
    WeightInfo("b", (5,), 5, 0, "stem", "b"),
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


def test_history_and_metrics_are_read_as_written(folder: RunFolder) -> None:
    report = EpochReport(1, 3, 0.5, 0.6, math.nan, 0.7, 12.5, True)
    folder.history.write([report, EpochReport(2, 3, 0.4, 0.5, 0.8, 0.7, 25.0, False)])
    first, second = folder.history.read()
    assert math.isnan(first.val_auroc)
    assert (first.epoch, first.best, second.val_auroc) == (1, True, 0.8)

    folder.metrics.write({"finetuned": {"accuracy": np.float64(0.5)}, "weights": {"b": (1, math.nan)}})
    assert folder.metrics.read() == {"finetuned": {"accuracy": 0.5}, "weights": {"b": [1, None]}}
    folder.write_environment()
    assert "torch" in json.loads((folder.path / "environment.json").read_text())["libraries"]


def test_supports_and_summaries_are_read_as_written(folder: RunFolder) -> None:
    support = Support({"blocks.0.a.weight": torch.tensor([1, 7, 11])}, {"blocks.0.a.weight": (4, 3)}, total=99)
    other = Support({"b": torch.tensor([4])}, {"b": (5,)}, total=99)
    folder.scores.write_supports({"hybrid": support, "task-agnostic": other}, INFOS)
    stored = folder.scores.support()
    assert stored.indices["blocks.0.a.weight"].tolist() == [1, 7, 11]
    assert (stored.k, stored.total, stored.shapes) == (3, 99, {"blocks.0.a.weight": (4, 3)})
    assert folder.scores.support("task-agnostic").indices["b"].dtype == torch.int64
    assert folder.scores.weight_infos() == INFOS
    with pytest.raises(RunError, match="hybrid, task-agnostic, not task-specific"):
        folder.scores.support("task-specific")

    values = {"blocks.0.a.weight": torch.rand(4, 3), "b": torch.rand(5)}
    summaries = summarize(Scores("magnitude", values, INFOS, 99), support.counts())
    folder.scores.write_summaries({"hybrid": summaries})
    assert folder.scores.summaries() == summaries


def test_predictions_are_exact_and_groups_are_numbered(folder: RunFolder) -> None:
    rng = np.random.default_rng(0)
    made = [
        Predictions(("aa", "bb", "cc"), (0, 1, 1), ("Doe", "Doe", "Roe"), ("no, none", "yes"), rng.random((3, 2)))
        for _ in range(2)
    ]
    folder.predictions.write_test({"finetuned": made[0], "probe": made[1]})
    assert "Doe" not in (folder.path / "predictions.csv").read_text()
    for which, expected in zip(("finetuned", "probe"), made, strict=True):
        stored = folder.predictions.test(which)
        assert np.array_equal(stored.probabilities, expected.probabilities)
        assert (stored.ids, stored.labels, stored.classes) == (expected.ids, expected.labels, expected.classes)
        assert stored.groups == ("000001", "000001", "000002")


# -- listing and damage


def test_listing_is_newest_first(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with RunFolder.create(tmp_path / name, CONFIG).state.recording():
            time.sleep(0.01)
    (tmp_path / "not a run").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", b"{"),
        ("state.json", b'{"status": "dancing"}'),
        ("state.json", None),
        ("config.yaml", b"seed: [1"),
        ("config.yaml", b"sead: 1"),
        ("config.yaml", b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_run_is_reported_and_skipped(
    folder: RunFolder, tmp_path: Path, file: str, content: bytes | None
) -> None:
    RunFolder.create(tmp_path / "good", CONFIG)
    folder.state.unlock()
    (folder.path / file).unlink()
    if content is not None:
        (folder.path / file).write_bytes(content)
    with pytest.raises(RunError, match="run"):
        RunFolder.open(folder.path)
    assert [run.name for run in list_runs(tmp_path)] == ["good"]
    assert list(damaged_runs(tmp_path)) == ["run"]


@pytest.mark.parametrize(
    "content", [None, b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"PK\x03\x04 nonsense", b"[1]\n{", b"id"]
)
@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("support.safetensors", lambda run: run.scores.support()),
        ("support.safetensors", lambda run: run.scores.weight_infos()),
        ("importance.npz", lambda run: run.scores.summaries()),
        ("predictions.csv", lambda run: run.predictions.test()),
        ("metrics.jsonl", lambda run: run.history.read()),
        ("metrics.json", lambda run: run.metrics.read()),
    ],
)
def test_missing_or_damaged_contents_are_reported(
    folder: RunFolder, file: str, read: Callable[[RunFolder], object], content: bytes | None
) -> None:
    if content is not None:
        (folder.path / file).write_bytes(content)
    if (file.startswith("metrics") and content is None) or (file == "metrics.jsonl" and content == b""):
        assert not read(folder)
    else:
        with pytest.raises(RunError, match=file):
            read(folder)


def test_a_pickle_is_never_loaded(folder: RunFolder) -> None:
    np.save(folder.path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder.path / "importance.npz").write_bytes((folder.path / "x.npy").read_bytes())
    with pytest.raises(RunError, match="damaged"):
        folder.scores.summaries()


def test_opening_a_folder_without_a_run_suggests_a_name(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "busi", CONFIG)
    with pytest.raises(RunError, match="Did you mean busi"):
        RunFolder.open(tmp_path / "buzi")
    with pytest.raises(RunError, match="is not a run folder"):
        RunFolder.open(tmp_path)


def test_a_run_without_newer_settings_gets_its_original_defaults(folder: RunFolder) -> None:
    stored = folder.config.to_yaml()
    assert "expectation: all" in stored
    assert "spread: none" in stored
    older = "".join(line for line in stored.splitlines(True) if "expectation" not in line and "spread" not in line)
    (folder.path / "config.yaml").write_text(older)
    selection = type(folder).open(folder.path).config.selection
    assert (selection.expectation, selection.spread) == ("batch", "none")
