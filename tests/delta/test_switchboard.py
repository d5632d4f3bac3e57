"""After any switches the backbone equals a fresh one with the current delta, bit for bit."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import FlatEntries, SparseDelta
from shpeft.delta.switchboard import Switchboard
from shpeft.delta.trainable import Trainable
from shpeft.errors import BackboneError, BaseMismatch, DeltaError
from shpeft.linear_probe import Head
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS, random_delta
from tests.helpers.present import present

FIVE = ("v", "w", "x", "y", "z")


def several(backbone: Backbone) -> dict[str, SparseDelta]:
    """Return deltas that share all, some or few of their weights, one of them with other classes."""
    generator = torch.Generator().manual_seed(3)
    first, two = random_delta(backbone, 200, "all", seed=1), random_delta(backbone, 300, seed=2)
    width = backbone.head.in_features
    five = Head(torch.randn(5, width, generator=generator), torch.randn(5, generator=generator))
    three = Head(torch.randn(3, width, generator=generator), torch.randn(3, generator=generator))
    return {
        "one": first,
        "two": replace(two, head=three),
        "same weights": replace(first, values=torch.randn(first.k, generator=generator)),
        "many": random_delta(backbone, backbone.weight_count // 3, "all", seed=4),
        "five": replace(two, values=3 * two.values, head=five, classes=FIVE),
    }


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the bytes of each tensor, so that the sign of zero counts."""
    return {name: tensor.contiguous().reshape(-1).view(torch.uint8).clone() for name, tensor in tensors.items()}


def assert_same(actual: Backbone, expected: Backbone, images: torch.Tensor) -> None:
    a, b = bits(actual.module.state_dict()), bits(expected.module.state_dict())
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert actual.classes == expected.classes
    with torch.no_grad():
        assert torch.equal(actual(images), expected(images))


def fresh(backbone: Backbone, classes: tuple[str, ...]) -> Backbone:
    """Return a copy of the backbone, with a new head if the classes differ."""
    twin = backbone.copy()
    if classes != twin.classes:
        weight = twin.head.weight
        twin.replace_head(nn.Linear(weight.shape[1], len(classes), dtype=weight.dtype), classes)
    return twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_any_switches_equal_applying_to_a_fresh_copy(name: str, dtype: torch.dtype) -> None:
    backbone = tiny(name, dtype=dtype)
    if name == "test_resnet":
        backbone.module.to(memory_format=torch.channels_last)
    for p in backbone.module.parameters():  # negative zeros, which adding and subtracting would lose
        p.data[..., ::3] = -0.0
    deltas, pristine, before = several(backbone), backbone.copy(), state(backbone)
    head, parameters = backbone.head, dict(backbone.parameters)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    rng = np.random.default_rng(0)
    random = [(str(rng.choice(list(deltas))), float(rng.choice([1, 0.5, -2, 0, 1 / 3]))) for _ in range(15)]
    with Switchboard(backbone, deltas) as board:
        assert_same(backbone, pristine, images)
        for key, strength in [*((key, 1.0) for key in deltas), (None, 1.0), *random, (None, 0.5)]:
            assert board.switch(key, strength) is backbone
            twin = fresh(pristine, CLASSES if key is None else deltas[key].classes)
            with nullcontext() if key is None else deltas[key].applied(twin, strength):
                assert_same(backbone, twin, images)
            assert (backbone.head is head) == (key is None)
        board.switch("five")
    assert backbone.head is head
    assert (backbone.classes, backbone.occupied) == (CLASSES, False)
    assert backbone.parameters.keys() == parameters.keys()
    assert all(backbone.parameters[key] is p for key, p in parameters.items())
    assert backbone.fingerprint == pristine.fingerprint
    assert_unchanged(backbone, before)


def test_a_switch_writes_only_what_the_two_deltas_move(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny()
    deltas, write = several(backbone), FlatEntries.write
    written: list[int] = []

    def counting(self: FlatEntries, values: torch.Tensor) -> None:
        written.append(values.numel())
        write(self, values)

    monkeypatch.setattr(FlatEntries, "write", counting)
    with Switchboard(backbone, deltas) as board:
        assert not written
        for key, expected in {"one": 200, "two": 500, "five": 600, None: 300}.items():
            board.switch(key)
            assert sum(written) == expected
            written.clear()


def test_an_error_in_the_block_restores_the_base() -> None:
    backbone = tiny()
    before, board = state(backbone), Switchboard(backbone, several(backbone))

    def work() -> None:
        with board:
            board.switch("five")
            raise RuntimeError("mine")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            work()
        assert (backbone.classes, backbone.occupied) == (CLASSES, False)
        assert_unchanged(backbone, before)


@pytest.mark.parametrize("at", [0, 3, 30])
def test_an_error_in_the_middle_of_a_switch_restores_the_base(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny()
    before, deltas, head, write = state(backbone), several(backbone), backbone.head, FlatEntries.write
    calls = []

    def failing(self: FlatEntries, values: torch.Tensor) -> None:
        calls.append(self)
        if len(calls) == at + 1:
            raise RuntimeError("mine")
        write(self, values)

    with Switchboard(backbone, deltas) as board:
        board.switch("one")
        assert len(deltas["one"].support.indices) <= 30 < sum(len(deltas[x].support.indices) for x in ("one", "two"))
        monkeypatch.setattr(FlatEntries, "write", failing)
        with pytest.raises(RuntimeError, match="mine"):
            board.switch("two")
    assert len(calls) > at + 1
    assert (backbone.head, backbone.classes, backbone.occupied) == (head, CLASSES, False)
    assert_unchanged(backbone, before)


def test_flags_modes_and_the_random_state_are_preserved() -> None:
    backbone = tiny()
    backbone.module.requires_grad_(False)
    torch.manual_seed(0)
    numbers = torch.get_rng_state()
    with Switchboard(backbone, several(backbone)) as board:
        head = board.switch("five").head
        assert not head.training
        assert not any(p.requires_grad for p in backbone.module.parameters())
        assert (head.in_features, head.out_features) == (64, 5)
    assert torch.equal(torch.get_rng_state(), numbers)


def test_deltas_are_copied_on_entry() -> None:
    backbone = tiny()
    delta = random_delta(backbone, 50)
    board, twin = Switchboard(backbone, {"a": delta}), delta.merge(backbone)
    with board:
        delta.values.add_(1)
        delta.head.weight.add_(1)
        assert_same(board.switch("a"), twin, torch.zeros(1, 3, 32, 32))
    with board:  # a board can be opened again
        assert_same(board.switch("a"), delta.merge(tiny()), torch.zeros(1, 3, 32, 32))


def test_deltas_of_other_bases_are_refused_by_name() -> None:
    backbone, other = tiny(), tiny("test_convnext")
    with pytest.raises(BaseMismatch, match=r"The delta 'skin' does not fit .* belongs to test_convnext"):
        Switchboard(backbone, {"breast": random_delta(backbone, 5), "skin": random_delta(other, 5)})
    assert not backbone.occupied


def test_unknown_names_offer_the_nearest_and_change_nothing() -> None:
    backbone = tiny()
    with Switchboard(backbone, several(backbone)) as board:
        board.switch("five")
        present = state(backbone)
        with pytest.raises(DeltaError, match=r"has no delta 'fives'\. Did you mean five\?"):
            board.switch("fives")
        assert backbone.classes == FIVE
        assert_unchanged(backbone, present)
    with pytest.raises(DeltaError, match="not open"):
        board.switch("one")


def test_the_backbone_is_occupied_while_a_board_is_open() -> None:
    backbone = tiny()
    delta = random_delta(backbone, 5)
    with Switchboard(backbone, {"a": delta}):
        for other in (delta.applied(backbone), Trainable(backbone, delta), Switchboard(backbone, {})):
            with pytest.raises(DeltaError, match="Another delta"), other:
                pass
    with delta.applied(backbone), pytest.raises(DeltaError, match="Another delta"), Switchboard(backbone, {"a": delta}):
        pass
    with delta.applied(backbone):
        pass


def test_a_head_that_does_not_fit_its_classes_is_refused() -> None:
    backbone = tiny()
    before = state(backbone)
    with Switchboard(backbone, {"a": replace(random_delta(backbone, 5), classes=FIVE)}) as board:
        with pytest.raises(BackboneError, match=r"shape \(5, 64\); found \(3, 64\)"):
            board.switch("a")
        assert_unchanged(backbone, before)
    assert backbone.classes == CLASSES


def test_every_tensor_follows_the_backbone_to_another_device() -> None:
    """Meta tensors hold no numbers, but refuse to be mixed with the CPU's."""
    backbone = tiny()
    deltas = several(backbone)
    backbone.to("meta")
    with Switchboard(backbone, deltas) as board:
        for key in (*deltas, None):
            board.switch(key, 0.5)
            assert {p.device.type for p in backbone.module.parameters()} == {"meta"}


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no GPU on this machine")
def test_switches_on_a_gpu_equal_applying() -> None:
    backbone = tiny().to(present(torch.accelerator.current_accelerator()))
    deltas, pristine, before = several(backbone), backbone.copy(), state(backbone)
    with Switchboard(backbone, deltas) as board:
        for key in ("one", "many", "two", "one"):
            with deltas[key].applied(pristine, 0.3):
                assert_same(board.switch(key, 0.3), pristine, torch.zeros(1, 3, 32, 32, device=backbone.device))
    assert_unchanged(backbone, before)
