"""``budget: auto``: three trainings, and the lowest validation loss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shpeft.config import RunConfig
from shpeft.delta.file import read_header
from shpeft.errors import Cancelled, SelectionError
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import refinement_loss
from shpeft.pipeline import run, score_and_select, set_up
from shpeft.pipeline.budget_choice import SHARES, describe, excess_loss
from shpeft.runs import RunFolder
from shpeft.training.loop import EpochReport

RAW: dict[str, Any] = {
    "dataset": {"source": "phantom:fundus?n=36&size=64"},
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "selection": {"budget": "auto", "images": 8},
    "training": {"epochs": 2},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = RunConfig.parse(RAW)
    folder = RunFolder.create(tmp_path_factory.mktemp("auto") / "run", config)
    run(config, folder)
    return folder


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    metrics = folder.metrics.read()
    assert metrics is not None
    choice: list[dict[str, Any]] = metrics["budgets"]
    return choice


def test_every_budget_is_trained_and_the_lowest_validation_loss_wins(finished: RunFolder) -> None:
    choice = rows(finished)
    assert [round(row["share"], 4) for row in choice] == [0, *SHARES]
    assert choice[0]["val_loss"] == finished.history.read()[0].val_loss
    best = min(choice, key=lambda row: row["val_loss"])
    assert best["selected"]
    assert [row["excess"] is None for row in choice] == [row is best for row in choice]
    assert all(row["excess"]["value"] >= -1e-6 for row in choice if row is not best)
    assert read_header(finished.delta_path)["k"] == best["selected"]
    assert finished.scores.support().k == best["selected"]
    assert min(report.val_loss for report in finished.history.read()) == best["val_loss"]
    assert "had the lowest validation loss" in finished.state.read().message


def test_learning_rates_fall_with_the_square_root_of_the_weights(finished: RunFolder) -> None:
    probe, first, *others = rows(finished)
    assert probe["lr"] is None
    assert first["lr"] == RunConfig().training.lr
    assert all(row["lr"] == pytest.approx(first["lr"] * (first["selected"] / row["selected"]) ** 0.5) for row in others)


def test_an_interrupted_choice_ends_with_the_same_bits(finished: RunFolder, tmp_path: Path) -> None:
    config, seen = RunConfig.parse(RAW), list[Any]()

    def interrupt(report: EpochReport) -> None:
        seen.append(report.epoch)
        if len(seen) == 5:  # the start and the first epoch of the second budget
            raise Cancelled

    folder = RunFolder.create(tmp_path / "run", config)
    with pytest.raises(Cancelled):
        run(config, folder, on_epoch=interrupt)
    assert seen == [0, 1, 2, 0, 1]
    assert folder.checkpoint.exists
    run(config, folder)
    assert folder.delta_path.read_bytes() == finished.delta_path.read_bytes()
    assert rows(folder) == rows(finished)


def test_stopping_tests_the_best_budget_so_far(tmp_path: Path) -> None:
    config, seen = RunConfig.parse(RAW), list[Any]()
    folder = RunFolder.create(tmp_path / "run", config)
    run(config, folder, on_epoch=seen.append, stop=lambda: len(seen) >= 2)
    assert [row["selected"] > 0 for row in rows(folder)] == [False, True]
    assert "Stopped after epoch 1 of 2." in folder.state.read().message


def test_where_no_budget_is_better_the_linear_probe_is_the_choice(tmp_path: Path) -> None:
    config = RunConfig.parse(RAW | {"training": {"epochs": 1, "lr": 1e-12, "head_lr": 1e2}})
    folder = RunFolder.create(tmp_path / "run", config)
    run(config, folder)
    choice = rows(folder)
    assert [row["excess"] is None for row in choice] == [True, False, False, False]
    assert {row["val_loss"] for row in choice} == {choice[0]["val_loss"]}
    assert all(row["excess"] == {"value": 0.0, "low": 0.0, "high": 0.0} for row in choice[1:])
    message = folder.state.read().message
    assert "this model is the linear probe" in message
    assert "lowest validation loss (" not in message


def test_nothing_is_chosen_without_training() -> None:
    config = RunConfig.parse(RAW)
    with pytest.raises(SelectionError, match="nothing is trained"):
        score_and_select(config, set_up(config))


def test_excess_is_the_difference_of_calibrated_losses() -> None:
    generator = np.random.default_rng(0)
    labels = tuple(generator.integers(0, 3, 40).tolist())

    def predictions() -> Predictions:
        p = torch.from_numpy(generator.normal(size=(40, 3))).softmax(1).numpy()
        ids = tuple(map(str, range(40)))
        return Predictions(ids, labels, ids, ("a", "b", "c"), p)

    first, second = predictions(), predictions()
    excess = excess_loss(first, second)
    expected = refinement_loss(first.probabilities, labels) - refinement_loss(second.probabilities, labels)
    assert excess.value == pytest.approx(expected, abs=1e-12)
    assert excess.low < excess.value < excess.high
    assert excess_loss(first, first) == type(excess)(0.0, 0.0, 0.0)


def test_the_probe_is_named_where_it_is_too_close() -> None:
    def row(share: float, loss: float, low: float | None, best_epoch: int) -> dict[str, Any]:
        excess = None if low is None else {"value": 0.1, "low": low, "high": 0.2}
        return {"share": share, "val_loss": loss, "best_epoch": best_epoch, "excess": excess}

    chosen, at_start = row(1e-3, 0.5, None, 3), row(1e-2, 0.6, -0.1, 0)
    close = "Too close to tell apart: the linear probe (0.600), 0.010 % (0.550)."
    assert describe([row(0, 0.6, -0.1, 0), row(1e-4, 0.55, 0.0, 2), chosen, at_start]).endswith(close)
    clear = describe([row(0, 0.6, 0.01, 0), row(1e-4, 0.55, 0.01, 2), chosen])
    assert clear == "0.100 % of the weights had the lowest validation loss (0.500)."
