"""One, two or three processes score, select and train the same, and exchange what the k values and the head need."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import Cancelled, NonFiniteLoss
from shpeft.evaluation.predict import predict
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import fit_linear_probe
from shpeft.selection.top_k import select
from shpeft.support.team import ALONE, Team
from shpeft.training.checkpoint import Checkpoint, EpochReport
from shpeft.training.loop import finetune
from tests.conftest import tiny
from tests.helpers.teams import in_team

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def small(data: Dataset, images: int = 22) -> Dataset:
    """Return a dataset whose last batch is smaller, of 8 as of 3."""
    return replace(data, train=data.train.subset(range(images)))


def members(size: int, work: Callable[[Team], Any]) -> list[Any]:
    return [work(ALONE)] if size == 1 else in_team(size, work)


@pytest.mark.parametrize("expectation", ["batch", "image", "all"])
@pytest.mark.parametrize("score", ["hybrid", "fisher", "wanda"])
def test_scores_and_selection_are_those_of_one_process(data: Dataset, score: str, expectation: Any) -> None:
    if score == "wanda" and expectation != "all":
        pytest.skip("its score has no expectation")

    def work(team: Team) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        backbone = tiny(dtype=torch.float64)
        scores = estimate_importance(
            backbone,
            data.train,
            score,
            expectation=expectation,
            images=14,
            batch_size=6,
            forward_pass=ForwardPass(backbone, team=team),
        )
        return dict(scores.values), select(scores, 80).indices

    [(alone, support)] = members(1, work)
    for size in (2, 3):
        for values, indices in members(size, work):
            for name, expected in alone.items():
                torch.testing.assert_close(values[name], expected, rtol=1e-5 if score == "wanda" else 1e-12, atol=1e-15)
            assert {name: index.tolist() for name, index in indices.items()} == {
                name: index.tolist() for name, index in support.items()
            }


def test_more_processes_than_images_score_the_same(data: Dataset) -> None:
    def work(team: Team) -> dict[str, Tensor]:
        backbone = tiny(dtype=torch.float64)
        forward_pass = ForwardPass(backbone, team=team)
        scores = [
            estimate_importance(backbone, data.train, score, images=2, batch_size=1, forward_pass=forward_pass)
            for score in ("gradient", "wanda")
        ]
        return {f"{score.name} {name}": value for score in scores for name, value in score.values.items()}

    [alone] = members(1, work)
    for values in members(3, work):
        for name, expected in alone.items():
            torch.testing.assert_close(values[name], expected, rtol=1e-5, atol=0)


def training(
    data: Dataset, dtype: torch.dtype, **options: Any
) -> Callable[[Team], tuple[SparseDelta, list[EpochReport]]]:
    """Return training by one process of a team: its delta and its reports."""
    cached = options.pop("cached", False)

    def work(team: Team) -> tuple[SparseDelta, list[EpochReport]]:
        backbone = tiny(dtype=dtype)
        whole = ForwardPass(backbone)
        support = select(
            estimate_importance(backbone, data.train, scope="last:2", images=9, batch_size=3, forward_pass=whole), 70
        )
        delta = SparseDelta.zeros(backbone, support)
        forward_pass = (
            CachedForward(BackboneSplit(backbone, "blocks.4"), team=team)
            if cached
            else ForwardPass(backbone, team=team)
        )
        settings: dict[str, Any] = {
            "epochs": 3,
            "lr": 2e-2,
            "head_lr": 1e-2,
            "batch_size": 8,
            "augment": "flip",
            "seed": 3,
        } | options
        return delta, list(finetune(backbone, delta, data, forward_pass=forward_pass, **settings))

    return work


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cached": True},
        {"batch_size": 2, "average": "last_quarter"},
        {"augment": "medium", "mixup": 0.4, "batch_size": 7},
        {"balance": "sampling", "cached": True},
        {"balance": "loss", "label_smoothing": 0.1},
    ],
)
def test_values_are_those_of_one_process_and_equal_in_all(
    data: Dataset, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    few = small(data)
    [(alone, history)] = members(1, training(few, dtype, **options))
    assert bool(alone.values.any())
    for size in (2, 3):
        results = members(size, training(few, dtype, **options))
        for delta, reports in results:
            torch.testing.assert_close(delta.values, alone.values, rtol=0, atol=TOLERANCE[dtype])
            torch.testing.assert_close(delta.head.weight, alone.head.weight, rtol=0, atol=TOLERANCE[dtype])
            assert torch.equal(delta.values, results[0][0].values)
            assert delta.head.equals(results[0][0].head)
            assert [r.best for r in reports] == [r.best for r in history]
            assert [r.val_loss for r in reports] == [r.val_loss for r in results[0][1]]
            for report, expected in zip(reports, history, strict=True):
                assert report.val_loss == pytest.approx(expected.val_loss, abs=1e-6)
                assert math.isnan(report.loss) or report.loss == pytest.approx(expected.loss, abs=1e-6)


def test_a_step_exchanges_the_values_the_head_and_two_numbers(data: Dataset) -> None:
    few = small(data, 24)

    def work(team: Team) -> tuple[int, list[int]]:
        backbone = tiny()
        support = select(estimate_importance(backbone, data.train, "magnitude"), 70)
        delta = SparseDelta.zeros(backbone, support)
        seen: list[int] = []

        def progress(stage: str, done: int, total: int) -> None:
            if stage == "training":
                seen.append(team.bytes_summed)

        list(
            finetune(
                backbone,
                delta,
                few,
                epochs=1,
                batch_size=8,
                forward_pass=ForwardPass(backbone, team=team),
                progress=progress,
            )
        )
        return delta.k + delta.head.weight.numel() + delta.head.bias.numel(), seen

    for numbers, seen in in_team(2, work):
        assert [after - before for before, after in pairwise(seen[:3])] == [4 * (numbers + 2)] * 2


def test_a_checkpoint_of_any_team_resumes_in_any_other(data: Dataset) -> None:
    few, checkpoints = small(data), list[Checkpoint]()

    def note(team: Team) -> Any:
        return training(few, torch.float64, on_checkpoint=checkpoints.append if team.leads else None)(team)

    [whole, _] = in_team(2, note)
    assert [checkpoint.history[-1].epoch for checkpoint in checkpoints] == [1, 2, 3]
    for size in (1, 2, 3):
        for delta, reports in members(size, training(few, torch.float64, resume=checkpoints[0])):
            assert [report.epoch for report in reports] == [2, 3]
            torch.testing.assert_close(delta.values, whole[0].values, rtol=0, atol=1e-12)
    [again, _] = members(2, training(few, torch.float64, resume=checkpoints[0]))
    assert torch.equal(again[0].values, whole[0].values)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_in_one_process_ends_all_at_the_same_step(data: Dataset, rank: int) -> None:
    def work(team: Team) -> tuple[SparseDelta, int]:
        steps = [0]

        def stop() -> bool:
            steps[0] += 1
            return team.rank == rank and steps[0] == 5

        delta, reports = training(small(data), torch.float32, stop=stop)(team)
        assert [report.epoch for report in reports] == [0, 1]
        return delta, steps[0]

    (first, steps), (second, others) = in_team(2, work)
    assert steps == others == 5
    assert torch.equal(first.values, second.values)


def test_cancelling_one_process_cancels_all_at_the_same_step(data: Dataset) -> None:
    steps = [0, 0]

    def work(team: Team) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if stage == "training":
                steps[team.rank] += 1
                if team.leads and done == 4:
                    raise Cancelled

        training(small(data), torch.float32, progress=progress)(team)

    with pytest.raises(ExceptionGroup) as group:
        in_team(2, work)
    assert [type(error) for error in group.value.exceptions] == [Cancelled, Cancelled]
    assert steps == [5, 5]


def test_a_loss_that_is_not_finite_ends_all(data: Dataset) -> None:
    with pytest.raises(ExceptionGroup) as group:
        in_team(2, training(small(data), torch.float32, lr=1e30, head_lr=1e30, keep_start=False))
    assert {type(error) for error in group.value.exceptions} == {NonFiniteLoss}


@pytest.mark.slow
def test_predictions_and_the_probe_have_the_bits_of_one_process(data: Dataset) -> None:
    def work(team: Team) -> Any:
        backbone = tiny()
        forward_pass = ForwardPass(backbone, team=team)
        head = fit_linear_probe(backbone, data.train, data.val, forward_pass=forward_pass)
        return head, predict(backbone, data.test, batch_size=8, views=2, forward_pass=forward_pass).probabilities

    [(head, probabilities)] = members(1, work)
    for other, own in in_team(3, work):
        assert head.equals(other)
        assert (own == probabilities).all()
