"""Cached features of frozen blocks, in memory and in the run folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from shpeft import pipeline
from shpeft.forward import cached
from shpeft.runs import FEATURES, RunFolder
from tests.pipeline.conftest import carry_out, names, tiny


@pytest.mark.parametrize(
    ("training", "block"), [({}, "blocks.4"), ({"cache": False}, None), ({"checkpointing": "always"}, None)]
)
@pytest.mark.parametrize("memory", [2**30, 0])
def test_frozen_blocks_are_cached_and_their_features_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], block: str | None, memory: int
) -> None:
    monkeypatch.setattr(cached, "MEMORY", memory)
    config = tiny(selection={"scope": "last:2"}, training=training)
    seen: list[bool] = []
    folder = RunFolder.create(tmp_path / "run", config)
    pipeline.run(folder.config, folder, on_epoch=lambda _: seen.append(FEATURES in names(folder)))
    assert json.loads((folder.path / "metrics.json").read_text())["training"]["cached_below"] == block
    assert seen == [block is not None and memory == 0] * 3  # the start and two epochs
    assert FEATURES not in names(folder)


def test_overwriting_a_crashed_run_deletes_its_features(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "run")
    (folder.path / FEATURES).mkdir()
    (folder.path / FEATURES / "left").write_bytes(b"0")
    folder.state.unlock()
    again = RunFolder.create(folder.path, tiny(), overwrite=True)
    assert FEATURES not in names(again)
