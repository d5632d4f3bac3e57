"""Automatic precision: bfloat16 where the hardware multiplies in it, float32 elsewhere."""

import pytest
import torch

from shpeft.config.schema import RunConfig
from shpeft.forward.precision import resolve_precision
from shpeft.pipeline.setup import set_up

TINY = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "dataset": {"source": "phantom:fundus?n=36&size=32"},
    "selection": {"budget": 40},
    "device": "cpu",
}


@pytest.mark.parametrize(
    ("avx512", "amx", "precision"),
    [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")],
)
def test_a_processor_needs_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", "cpu") == precision
    assert resolve_precision("float32", "cpu") == "float32"


def test_a_torch_that_cannot_be_asked_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert resolve_precision("auto", "cpu") == "float32"


@pytest.mark.parametrize("supported", [True, False])
def test_a_card_is_asked_without_emulation(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    asked: list[bool] = []

    def answer(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert resolve_precision("auto", "cuda:1") == ("bfloat16" if supported else "float32")
    assert asked == [False]


@pytest.mark.parametrize("has", [True, False])
def test_a_run_computes_in_what_auto_stands_for(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr("shpeft.forward.precision.has_bfloat16", lambda device: has)
    setup = set_up(RunConfig.parse({**TINY, "precision": "auto"}))
    assert setup.forward_pass.precision == ("bfloat16" if has else "float32")
    setup.forward_pass.close()
