"""Activations are recomputed where the memory would not do, with the same bytes, and the run says so."""

from pathlib import Path

import pytest
import torch

from shpeft.config import RunConfig
from shpeft.pipeline import setup
from shpeft.pipeline.memory import free_bytes
from tests.pipeline.conftest import carry_out, tiny


def carried_out(path: Path, expectation: str, checkpointing: str = "auto") -> tuple[bytes, str]:
    """Carry out a run; return the delta's bytes and the message of its end."""
    folder = carry_out(path, tiny(selection={"expectation": expectation}, training={"checkpointing": checkpointing}))
    return folder.delta_path.read_bytes(), folder.state.read().message


@pytest.mark.parametrize("expectation", ["all", "batch", "image"])
def test_a_run_short_of_memory_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: str
) -> None:
    monkeypatch.setattr(setup, "free_bytes", lambda _: 2**50)
    plain, message = carried_out(tmp_path / "plain", expectation)
    assert "Memory was short" not in message
    monkeypatch.setattr(setup, "free_bytes", lambda _: 0)
    short, message = carried_out(tmp_path / "short", expectation)
    assert "Memory was short: activations were recomputed" in message
    assert short == plain
    _, message = carried_out(tmp_path / "never", expectation, "never")
    assert "Memory was short" not in message


def test_a_model_that_cannot_recompute_is_trained_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shpeft.backbones.Backbone.can_checkpoint", False)
    monkeypatch.setattr(setup, "free_bytes", lambda _: 0)
    _, message = carried_out(tmp_path / "run", "all")
    assert "Memory was short" not in message


@pytest.mark.parametrize(("written", "read"), [(True, "always"), (False, "never"), ("auto", "auto")])
def test_older_files_say_whether(written: object, read: str) -> None:
    assert RunConfig.parse({"training": {"checkpointing": written}}).training.checkpointing == read


def test_other_devices_do_not_say_how_much_is_free() -> None:
    assert free_bytes(torch.device("mps")) is None
