"""Activations are recomputed where the memory would not do, with the same bytes, and the run says so."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from shpeft.config import RunConfig
from shpeft.pipeline import setup
from shpeft.pipeline.memory import free_bytes
from tests.pipeline.conftest import carry_out, tiny


def carried_out(
    path: Path, expectation: str = "all", checkpointing: str = "auto", scope: str = "matrices"
) -> tuple[bytes, str]:
    """Carry out a run; return the delta's bytes and the message of its end."""
    selection, training = {"expectation": expectation, "scope": scope}, {"checkpointing": checkpointing}
    folder = carry_out(path, tiny(selection=selection, training=training))
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


def test_cached_features_are_given_up_where_even_the_last_blocks_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, deltas = "last:50%", list[dict[str, torch.Tensor]]()
    for free in (2**50, 0):
        monkeypatch.setattr(setup, "free_bytes", lambda _, free=free: free)
        written, message = carried_out(tmp_path / str(free), scope=scope)
        assert ("Memory was short" in message) == (free == 0)
        deltas.append(safetensors.torch.load(written))
    cached, recomputed = deltas
    assert cached.keys() == recomputed.keys()
    for name, tensor in cached.items():  # features of another batch are rounded otherwise
        torch.testing.assert_close(recomputed[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_model_that_cannot_recompute_is_trained_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shpeft.backbones.Backbone.can_checkpoint", False)
    monkeypatch.setattr(setup, "free_bytes", lambda _: 0)
    _, message = carried_out(tmp_path / "run")
    assert "Memory was short" not in message


@pytest.mark.parametrize(("written", "read"), [(True, "always"), (False, "never"), ("auto", "auto")])
def test_older_files_say_whether(written: object, read: str) -> None:
    assert RunConfig.parse({"training": {"checkpointing": written}}).training.checkpointing == read


def test_other_devices_do_not_say_how_much_is_free() -> None:
    assert free_bytes(torch.device("mps")) is None
