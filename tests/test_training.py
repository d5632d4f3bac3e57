"""The training loop: it learns, repeats itself exactly, and leaves the backbone alone however it ends."""

from dataclasses import asdict, replace
from inspect import signature

import pytest
import torch

from shpeft.config import TrainingConfig
from shpeft.delta import SparseDelta
from shpeft.deltafile import save_delta
from shpeft.errors import Cancelled, CheckpointMismatch, NonFiniteLoss
from shpeft.evaluation import evaluate, predict
from shpeft.importance import estimate_importance
from shpeft.prefix import CachedFeed, Cut
from shpeft.probe import fit_head
from shpeft.selection import select
from shpeft.training import EpochReport, _rate, finetune

from .conftest import assert_unchanged, state, tiny


@pytest.fixture
def prepared(data):
    backbone = tiny()
    head = fit_head(backbone, data.train, data.val)
    support = select(estimate_importance(backbone, data.train, head=head), 0.01)
    return backbone, SparseDelta.zeros(backbone, support, head)


def test_it_learns_and_keeps_the_best_epoch(prepared, data):
    backbone, delta = prepared
    before = state(backbone)
    reports = list(finetune(backbone, delta, data, epochs=6, lr=5e-3))
    assert_unchanged(backbone, before)
    assert [r.epoch for r in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].loss < reports[0].loss
    best = [r for r in reports if r.best][-1]
    assert best.val_loss == min(r.val_loss for r in reports)
    with delta.applied(backbone):
        found = evaluate(predict(backbone, data.val), resamples=0)
    assert found.macro_auroc.value == best.val_auroc
    assert bool(delta.values.any())


def test_the_same_seed_gives_the_same_file(data, tmp_path):
    files = []
    for run in range(2):
        backbone = tiny()
        head = fit_head(backbone, data.train, data.val)
        support = select(estimate_importance(backbone, data.train, head=head), 50)
        delta = SparseDelta.zeros(backbone, support, head)
        for _ in finetune(backbone, delta, data, epochs=2, seed=7, augment="flip"):
            torch.rand(run + 3)  # what else draws random numbers does not matter
        files.append(save_delta(delta, tmp_path / f"{run}").read_bytes())
    assert files[0] == files[1]


def started(data):
    """A backbone and a delta in its last two blocks that moves nothing yet: the same each time."""
    backbone = tiny()
    head = fit_head(backbone, data.train, data.val)
    support = select(estimate_importance(backbone, data.train, head=head, scope="last:2"), 60)
    return backbone, SparseDelta.zeros(backbone, support, head)


def numbers(reports):
    """Reports without their seconds."""
    return [replace(report, seconds=0) for report in reports]


@pytest.mark.parametrize(("cached", "scaled"), [(False, True), (True, False)])
def test_resumed_after_any_epoch_it_ends_at_the_same_bits(data, tmp_path, cached, scaled):
    def training(**more):
        backbone, delta = started(data)
        more["feed"] = CachedFeed(Cut(backbone, "blocks.4")) if cached else None
        more["lr_scale"] = torch.linspace(0.2, 1.8, delta.k) if scaled else None
        options = {"epochs": 4, "lr": 2e-2, "head_lr": 1e-2, "batch_size": 8, "augment": "flip", "seed": 3}
        return delta, finetune(backbone, delta, data, **options, **more)

    checkpoints = []
    delta, whole = training(on_checkpoint=checkpoints.append)
    history = numbers(whole)
    expected = save_delta(delta, tmp_path / "whole").read_bytes()
    assert any(report.best for report in history[1:])
    for epoch, checkpoint in enumerate(checkpoints, start=1):
        delta, rest = training(resume=checkpoint)
        assert numbers(checkpoint.history) + numbers(rest) == history
        assert save_delta(delta, tmp_path / f"after {epoch}").read_bytes() == expected


def test_a_checkpoint_is_small(prepared, data):
    backbone, delta = prepared
    found = []
    list(finetune(backbone, delta, data, epochs=1, on_checkpoint=found.append))
    moments = [tensor for part in found[0].moments for tensor in part.values()]
    head = delta.head.weight.numel() + delta.head.bias.numel()
    assert sum(tensor.numel() for tensor in moments) == 2 * (delta.k + head) + 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "0" * 64}, "other base weights"),
        ({"images": ("0", "1", "2")}, "other images"),
        ({"values": torch.zeros(3)}, "another number of selected weights"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(prepared, data, changes, said):
    backbone, delta = prepared
    before, found = state(backbone), []
    list(finetune(backbone, delta, data, epochs=1, on_checkpoint=found.append))
    kept = delta.values.clone()
    with pytest.raises(CheckpointMismatch, match=said):
        next(finetune(backbone, delta, data, epochs=1, resume=replace(found[0], **changes)))
    with pytest.raises(CheckpointMismatch, match="another number of epochs"):
        next(finetune(backbone, delta, data, epochs=2, resume=found[0]))
    assert torch.equal(delta.values, kept)
    assert_unchanged(backbone, before)


def test_stopped_in_an_epoch_it_keeps_the_best_of_those_before(prepared, data):
    backbone, delta = prepared
    before, steps = state(backbone), []

    def stop() -> bool:
        steps.append(None)
        return len(steps) == 7  # 4 steps make an epoch

    [report] = finetune(backbone, delta, data, epochs=3, lr=5e-3, stop=stop)
    assert len(steps) == 7
    assert_unchanged(backbone, before)
    twin, alike = tiny(), replace(delta, values=torch.zeros(delta.k))
    alike.head = fit_head(twin, data.train, data.val)
    assert numbers([next(finetune(twin, alike, data, epochs=3, lr=5e-3))]) == numbers([report])
    assert torch.equal(alike.values, delta.values)


def test_another_seed_trains_otherwise(prepared, data):
    backbone, delta = prepared
    losses = [next(finetune(backbone, delta, data, epochs=2, seed=seed)).loss for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_closing_cancels_and_restores(prepared, data):
    backbone, delta = prepared
    before = state(backbone)
    training = finetune(backbone, delta, data, epochs=50)
    report = next(training)
    assert isinstance(report, EpochReport)
    assert str(report).startswith("epoch 1/50  loss ")
    training.close()
    assert_unchanged(backbone, before)
    with delta.applied(backbone):
        pass


def test_a_progress_callback_can_cancel_within_an_epoch(prepared, data):
    backbone, delta = prepared
    before = state(backbone)
    seen = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(finetune(backbone, delta, data, epochs=3, progress=progress))
    assert seen == [("training", 0, 12), ("training", 1, 12), ("training", 2, 12)]
    assert_unchanged(backbone, before)
    assert not delta.values.any()


def test_a_loss_that_is_not_finite_stops_with_a_sentence(prepared, data):
    backbone, delta = prepared
    delta.values.fill_(float("nan"))
    before = state(backbone)
    with pytest.raises(NonFiniteLoss, match="Lower the learning rate"):
        list(finetune(backbone, delta, data, epochs=1))
    assert_unchanged(backbone, before)


def test_weight_decay_pulls_towards_the_pretrained_weights(data):
    sizes = []
    for decay in (0.0, 5.0):
        backbone = tiny()
        support = select(estimate_importance(backbone, data.train, images=16), 200)
        delta = SparseDelta.zeros(backbone, support)
        list(finetune(backbone, delta, data, epochs=3, lr=2e-2, weight_decay=decay))
        sizes.append(float(delta.values.norm()))
    assert 0 < sizes[1] < 0.9 * sizes[0]


def test_the_rate_warms_up_and_falls_to_zero():
    rates = [_rate(step, 100) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    assert _rate(0, 1) == 1.0


def test_reports_are_plain_numbers(prepared, data):
    backbone, delta = prepared
    report = next(finetune(backbone, delta, data, epochs=1))
    assert EpochReport(**asdict(report)) == report


def test_defaults_are_the_configuration_s():
    defaults = {name: p.default for name, p in signature(finetune).parameters.items() if p.default is not p.empty}
    wanted = TrainingConfig().model_dump(exclude={"cache"})  # which finetune is given as a feed
    assert {name: defaults[name] for name in wanted} == wanted
