"""Cancellation stops a pass between blocks, and the check changes no result."""

import pytest
import torch

from shpeft.backbones import Backbone
from shpeft.errors import Cancelled
from shpeft.pipeline import RunProgress
from shpeft.pipeline.cancellation import call_after_each_block
from tests.conftest import tiny


def gradients(backbone: Backbone) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = backbone(images)
    return [logits, *torch.autograd.grad(logits.square().sum(), list(backbone.parameters.values()))]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_the_check_runs_after_each_block_forward_and_backward(name: str) -> None:
    backbone, calls = tiny(name), list[int]()
    before = gradients(backbone)
    call_after_each_block(backbone, lambda: calls.append(1))
    assert all(map(torch.equal, before, gradients(backbone)))
    blocks = {info.block for info in backbone.weight_infos("matrices")}
    assert len(calls) == 2 * len(blocks) > 2


@pytest.mark.parametrize("at", [1, -1])
def test_an_exception_of_the_check_ends_the_pass(at: int) -> None:
    backbone, calls = tiny(), list[int]()
    blocks = len({info.block for info in backbone.weight_infos("matrices")})

    def check() -> None:
        calls.append(1)
        if len(calls) == at % (2 * blocks + 1):
            raise Cancelled

    call_after_each_block(backbone, check)
    with pytest.raises(Cancelled):
        gradients(backbone)
    assert len(calls) == at % (2 * blocks + 1)


def test_progress_is_repeated_only_after_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, now = list[tuple[str, int, int]](), [0.0]
    monkeypatch.setattr("shpeft.pipeline.progress.time.monotonic", lambda: now[0])
    meter = RunProgress(lambda stage, done, total: steps.append((stage, done, total)))
    meter.part("Reading")
    meter.repeat()
    assert len(steps) == 1
    now[0] = RunProgress.SILENCE + 0.1
    meter.repeat()
    meter.repeat()
    assert steps == [("Reading", 0, 0)] * 2
