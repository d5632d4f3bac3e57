"""The training loop learns, is reproducible, and restores the backbone however it ends."""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, replace
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from shpeft.backbones import Backbone
from shpeft.config.schema import TrainingConfig
from shpeft.datasets import Dataset
from shpeft.delta.file import save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import Cancelled, CheckpointMismatch, NonFiniteLoss
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import predict
from shpeft.evaluation.temperature import refinement_loss
from shpeft.forward.cached import BackboneSplit, CachedForward
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.selection.top_k import select
from shpeft.training.checkpoint import Checkpoint
from shpeft.training.loop import EpochReport, finetune, rate_at
from tests.conftest import assert_unchanged, state, tiny

Prepared = tuple[Backbone, SparseDelta]


@pytest.fixture
def prepared(data: Dataset) -> Prepared:
    backbone = tiny()
    head = fit_linear_probe(backbone, data.train, data.val)
    support = select(estimate_importance(backbone, data.train, scope="matrices", head=head), 0.01)
    return backbone, SparseDelta.zeros(backbone, support, head)


def test_it_learns_and_keeps_the_best_epoch(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    before = state(backbone)
    reports = list(finetune(backbone, delta, data, epochs=6, lr=5e-3, average="none"))
    assert_unchanged(backbone, before)
    assert [r.epoch for r in reports] == [0, 1, 2, 3, 4, 5, 6]
    assert math.isnan(reports[0].loss)
    assert reports[-1].loss < reports[1].loss
    best = [r for r in reports if r.best][-1]
    assert best.val_loss == min(r.val_loss for r in reports)
    with delta.applied(backbone):
        actual = evaluate(predict(backbone, data.val), resamples=0)
    assert actual.macro_auroc.value == best.val_auroc
    assert bool(delta.values.any())


def test_the_same_seed_gives_the_same_file(data: Dataset, tmp_path: Path) -> None:
    files = []
    for run in range(2):
        backbone = tiny()
        head = fit_linear_probe(backbone, data.train, data.val)
        support = select(estimate_importance(backbone, data.train, head=head), 50)
        delta = SparseDelta.zeros(backbone, support, head)
        for _ in finetune(backbone, delta, data, epochs=2, seed=7, augment="flip"):
            torch.rand(run + 3)  # other draws of random numbers do not matter
        files.append(save_delta(delta, tmp_path / f"{run}").read_bytes())
    assert files[0] == files[1]


def started(data: Dataset) -> Prepared:
    """Return a backbone and a zero delta in its last two blocks, the same on each call; its random head can improve."""
    backbone = tiny()
    support = select(estimate_importance(backbone, data.train, scope="last:2"), 60)
    return backbone, SparseDelta.zeros(backbone, support)


def numbers(reports: Iterable[EpochReport]) -> list[EpochReport]:
    """Return the reports without their seconds, and without the start's training loss, which is NaN."""
    return [replace(report, seconds=0, loss=report.loss if report.epoch else 0) for report in reports]


VARIED = {"augment": "medium", "modality": "ultrasound", "mixup": 0.3, "label_smoothing": 0.1, "balance": "sampling"}


@pytest.mark.parametrize(
    ("cached", "scaled", "average", "variation"),
    [
        (False, True, 3, {"augment": "flip"}),
        (True, False, 2, {"augment": "flip"}),
        (False, False, "none", {"augment": "flip"}),
        (False, False, "none", VARIED),
        (True, False, "none", VARIED | {"balance": "loss"}),
    ],
)
def test_resuming_after_any_epoch_gives_the_same_bits(
    data: Dataset, tmp_path: Path, cached: bool, scaled: bool, average: Any, variation: dict[str, Any]
) -> None:
    def training(**more: Any) -> tuple[SparseDelta, Iterator[EpochReport]]:
        backbone, delta = started(data)
        more["forward_pass"] = CachedForward(BackboneSplit(backbone, "blocks.4")) if cached else None
        more["lr_scale"] = torch.linspace(0.2, 1.8, delta.k) if scaled else None
        options: dict[str, Any] = {
            "epochs": 4,
            "lr": 2e-2,
            "head_lr": 1e-2,
            "batch_size": 8,
            **variation,
            "average": average,
            "seed": 3,
        }
        return delta, finetune(backbone, delta, data, **options, **more)

    checkpoints: list[Checkpoint] = []
    delta, whole = training(on_checkpoint=checkpoints.append)
    history = numbers(whole)
    expected = save_delta(delta, tmp_path / "whole").read_bytes()
    assert [checkpoint.history[-1].epoch for checkpoint in checkpoints] == [1, 2, 3, 4]
    assert any(report.best for report in history[2:])
    for epoch, checkpoint in enumerate(checkpoints, start=1):
        delta, rest = training(resume=checkpoint)
        assert numbers(checkpoint.history) + numbers(rest) == history
        assert save_delta(delta, tmp_path / f"after {epoch}").read_bytes() == expected


@pytest.mark.parametrize("average", ["none", "last_quarter"])
def test_a_training_that_gets_worse_ends_with_the_start(prepared: Prepared, data: Dataset, average: Any) -> None:
    backbone, delta = prepared
    probe = delta.head
    reports = list(finetune(backbone, delta, data, epochs=4, lr=1e3, head_lr=1e3, average=average))
    assert [r.epoch for r in reports] == [0, 1, 2, 3, 4]
    assert [r.epoch for r in reports if r.best] == [0]
    assert all(r.val_loss > reports[0].val_loss for r in reports[1:])
    assert not delta.values.any()
    assert delta.head.equals(probe)
    assert reports[0].val_loss == refinement_loss(of_probe(backbone, probe, data), data.val.labels)


def of_probe(backbone: Backbone, probe: Head, data: Dataset) -> Any:
    with probe.applied(backbone):
        return predict(backbone, data.val).probabilities


def test_the_start_may_be_left_out(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    reports = list(finetune(backbone, delta, data, epochs=2, lr=1e3, keep_start=False))
    assert [r.epoch for r in reports] == [1, 2]
    assert delta.values.any()


def test_the_last_epochs_are_averaged_as_by_hand(data: Dataset) -> None:
    backbone, delta = started(data)
    options: dict[str, Any] = {"epochs": 6, "lr": 2e-2, "head_lr": 1e-2, "batch_size": 8}
    checkpoints: list[Checkpoint] = []
    plain = numbers(finetune(backbone, delta, data, average="none", on_checkpoint=checkpoints.append, **options))
    backbone, delta = started(data)
    averaged: list[Checkpoint] = []
    reports = numbers(finetune(backbone, delta, data, average="last_quarter", on_checkpoint=averaged.append, **options))
    assert reports[:5] == plain[:5]
    assert [r.loss for r in reports] == [r.loss for r in plain]  # the mean does not disturb training
    assert [torch.equal(a.values, b.values) for a, b in zip(averaged, checkpoints, strict=True)] == [True] * 6
    values = torch.stack([checkpoint.values for checkpoint in checkpoints[4:]]).mean(0)
    weight = torch.stack([checkpoint.head.weight for checkpoint in checkpoints[4:]]).mean(0)
    assert reports[-1].best
    assert [r.averaged for r in reports] == [0, 0, 0, 0, 0, 1, 2]
    torch.testing.assert_close(delta.values, values, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(delta.head.weight, weight, rtol=1e-5, atol=1e-7)
    with delta.applied(backbone):
        predictions = predict(backbone, data.val)
    assert refinement_loss(predictions.probabilities, predictions.labels) == reports[-1].val_loss


def test_a_checkpoint_without_the_start_goes_on(data: Dataset) -> None:
    """Checkpoints of earlier versions have no start."""
    checkpoints: list[Checkpoint] = []
    backbone, delta = started(data)
    whole = numbers(finetune(backbone, delta, data, epochs=3, keep_start=False, on_checkpoint=checkpoints.append))
    backbone, again = started(data)
    assert numbers(finetune(backbone, again, data, epochs=3, resume=checkpoints[0])) == whole[1:]
    assert torch.equal(again.values, delta.values)


def test_a_checkpoint_is_small(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    actual: list[Checkpoint] = []
    list(finetune(backbone, delta, data, epochs=1, on_checkpoint=actual.append))
    [_] = actual  # the start has none
    moments = [tensor for part in actual[0].moments for tensor in part.values()]
    head = delta.head.weight.numel() + delta.head.bias.numel()
    assert sum(tensor.numel() for tensor in moments) == 2 * (delta.k + head) + 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "0" * 64}, "other base weights"),
        ({"images": ("0", "1", "2")}, "other images"),
        ({"values": torch.zeros(3)}, "another number of selected weights"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    prepared: Prepared, data: Dataset, changes: dict[str, Any], message: str
) -> None:
    backbone, delta = prepared
    before = state(backbone)
    actual: list[Checkpoint] = []
    list(finetune(backbone, delta, data, epochs=1, on_checkpoint=actual.append))
    best_values = delta.values.clone()
    with pytest.raises(CheckpointMismatch, match=message):
        next(finetune(backbone, delta, data, epochs=1, resume=replace(actual[0], **changes)))
    with pytest.raises(CheckpointMismatch, match="another number of epochs"):
        next(finetune(backbone, delta, data, epochs=2, resume=actual[0]))
    assert torch.equal(delta.values, best_values)
    assert_unchanged(backbone, before)


def test_stopping_within_an_epoch_keeps_the_best_earlier_epoch(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    before = state(backbone)
    steps: list[None] = []

    def stop() -> bool:
        steps.append(None)
        return len(steps) == 7  # 4 steps make an epoch

    reports = list(finetune(backbone, delta, data, epochs=3, lr=5e-3, stop=stop))
    assert len(steps) == 7
    assert_unchanged(backbone, before)
    twin, alike = tiny(), replace(delta, values=torch.zeros(delta.k))
    alike.head = fit_linear_probe(twin, data.train, data.val)
    assert numbers(islice(finetune(twin, alike, data, epochs=3, lr=5e-3), 2)) == numbers(reports)
    assert torch.equal(alike.values, delta.values)


def test_another_seed_gives_another_training(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    losses = [next(islice(finetune(backbone, delta, data, epochs=2, seed=seed), 1, 2)).loss for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_closing_cancels_and_restores(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    before = state(backbone)
    training = finetune(backbone, delta, data, epochs=50)
    assert isinstance(training, Generator)
    assert str(next(training)).startswith("start  val loss ")
    report = next(training)
    assert isinstance(report, EpochReport)
    assert str(report).startswith("epoch 1/50  loss ")
    training.close()
    assert_unchanged(backbone, before)
    with delta.applied(backbone):
        pass


def test_a_progress_callback_can_cancel_within_an_epoch(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    before = state(backbone)
    seen: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(finetune(backbone, delta, data, epochs=3, progress=progress))
    assert [part for part in seen if part[0] == "training"] == [("training", step, 12) for step in range(3)]
    assert set(seen) - {("validation", 0, 12)} == {("training", step, 12) for step in range(3)}
    assert_unchanged(backbone, before)
    assert not delta.values.any()


def test_a_non_finite_loss_stops_the_training(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    delta.values.fill_(float("nan"))
    before = state(backbone)
    with pytest.raises(NonFiniteLoss, match="Lower the learning rate"):
        list(finetune(backbone, delta, data, epochs=1))
    assert_unchanged(backbone, before)


def test_weight_decay_pulls_toward_the_pretrained_weights(data: Dataset) -> None:
    sizes = []
    for decay in (0.0, 5.0):
        backbone = tiny()
        support = select(estimate_importance(backbone, data.train, images=16), 200)
        delta = SparseDelta.zeros(backbone, support)
        list(finetune(backbone, delta, data, epochs=3, lr=2e-2, weight_decay=decay, keep_start=False))
        sizes.append(float(delta.values.norm()))
    assert 0 < sizes[1] < 0.9 * sizes[0]


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    assert rate_at(0, 1) == 1.0
    assert [rate_at(step, 100, 0.25) for step in (0, 24, 25)] == [0.04, 1.0, 1.0]
    assert rate_at(0, 100, 0.0) == 1.0


def test_reports_are_plain_numbers(prepared: Prepared, data: Dataset) -> None:
    backbone, delta = prepared
    *_, report = finetune(backbone, delta, data, epochs=1)
    assert EpochReport(**asdict(report)) == report


def test_defaults_equal_the_configuration() -> None:
    defaults = {name: p.default for name, p in signature(finetune).parameters.items() if p.default is not p.empty}
    # finetune takes a forward pass, the factors of the learning rates, and whether activations are recomputed instead
    settings = TrainingConfig().model_dump(exclude={"cache", "lr_scale", "checkpointing"})
    assert settings
    assert {name: defaults[name] for name in settings} == settings
