"""A pass through a backbone can be stopped in its midst, and listening changes no bit of it."""

import pytest
import torch

from shpeft.errors import Cancelled
from shpeft.pipeline import Meter
from shpeft.pipeline.hearing import attentive
from tests.conftest import tiny


def gradients(backbone) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = backbone(images)
    return [logits, *torch.autograd.grad(logits.square().sum(), list(backbone.parameters.values()))]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_it_is_asked_after_each_block_on_both_ways_and_changes_nothing(name):
    backbone, asked = tiny(name), []
    before = gradients(backbone)
    attentive(backbone, lambda: asked.append(1))
    assert all(map(torch.equal, before, gradients(backbone)))
    blocks = {info.block for info in backbone.weight_infos("matrices")}
    assert len(asked) == 2 * len(blocks) > 2


@pytest.mark.parametrize("at", [1, -1])
def test_what_is_raised_ends_the_pass(at):
    backbone, asked = tiny(), []
    blocks = len({info.block for info in backbone.weight_infos("matrices")})

    def ask() -> None:
        asked.append(1)
        if len(asked) == at % (2 * blocks + 1):
            raise Cancelled

    attentive(backbone, ask)
    with pytest.raises(Cancelled):
        gradients(backbone)
    assert len(asked) == at % (2 * blocks + 1)


def test_what_was_said_last_is_said_again_after_a_while_only(monkeypatch):
    heard, now = [], [0.0]
    monkeypatch.setattr("shpeft.pipeline.meter.time.monotonic", lambda: now[0])
    meter = Meter(lambda *step: heard.append(step))
    meter.part("Reading")
    meter.again()
    assert len(heard) == 1
    now[0] = Meter.SILENCE + 0.1
    meter.again()
    meter.again()
    assert heard == [("Reading", 0, 0)] * 2
