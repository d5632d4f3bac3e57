"""Arms that choose one of several trained arms by its validation images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from shpeft import compare
from shpeft.compare.cells import list_cells
from shpeft.compare.cost import CostEstimate
from shpeft.compare.running import training
from shpeft.compare.running.choice import choose
from shpeft.errors import ConfigError, NonFiniteLoss, RunError
from shpeft.evaluation.by_task import validation_loss
from shpeft.evaluation.predict import Predictions
from tests.helpers.comparison_tables import plan_of, predicted

ARMS: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "sparse": {"kind": "sparse", "images": 8, "budgets": [40, 400]},
    "auto": {"kind": "choice", "among": ["probe", "sparse"]},
}


def validated(share: float, n: int = 200) -> Predictions:
    """Predictions of which this share is right, each time for other cases."""
    return predicted(np.random.default_rng(round(100 * share)).permutation(n) < share * n)


def test_the_lowest_loss_is_chosen_or_the_first_that_cannot_be_told_from_it() -> None:
    models = [validated(share) for share in (0.5, 0.78, 0.8, 0.6)]
    assert choose(models) == 2
    assert choose(models, "first") == 1  # 0.5 is worse beyond doubt, 0.78 is not
    assert choose([models[2], models[2]]) == 0
    assert choose([models[2], models[0]], "first") == 0


def test_a_choice_has_the_results_of_the_arm_that_it_takes(tmp_path: Path) -> None:
    plan = plan_of(ARMS, seeds=[0, 1], shifts={"noise": {"corruption": "gaussian_noise", "severity": 3}})
    table = compare.run(plan, tmp_path)
    finished = table.cells()
    assert len(finished) == len(list_cells(plan)) == 16
    for cell in list_cells(plan):
        if cell.arm != "auto":
            continue
        own, candidates = finished[cell.key], [finished[c.key] for c in cell.candidates]
        assert [(c["arm"], c["budget"]) for c in candidates] == [("probe", None), ("sparse", 40), ("sparse", 400)]
        losses = [validation_loss(table.validation(c["key"])) for c in candidates]
        taken = candidates[losses.index(min(losses))]
        assert (own["chosen"], own["chosen_budget"], own["kind"]) == (taken["arm"], taken["budget"], "choice")
        for name in ("log_loss", "balanced_accuracy", "temperature", "trained", "bytes", "shifts"):
            assert own[name] == taken[name]
        for read in (table.predictions, table.validation):
            np.testing.assert_array_equal(read(own["key"]).probabilities, read(taken["key"]).probabilities)
        np.testing.assert_array_equal(
            table.shifted(own, "noise").probabilities, table.shifted(taken, "noise").probabilities
        )
        assert own["seconds"] == pytest.approx(sum(c["seconds"] for c in candidates), abs=0.02)
        assert "lr" not in own
    compare.write_report(plan, tmp_path, resamples=50)


def test_a_choice_waits_for_its_candidates(tmp_path: Path) -> None:
    plan = plan_of(ARMS)
    table = compare.run(plan, tmp_path, only=["fundus/auto"])
    assert not table.cells()
    compare.run(plan, tmp_path, only=["fundus/probe", "fundus/auto"])
    assert {record["arm"] for record in table.cells().values()} == {"probe"}


def test_a_table_s_plan_with_a_choice_can_be_read_again() -> None:
    plan = plan_of(ARMS)
    assert compare.Plan.parse(yaml.safe_load(plan.to_yaml())) == plan


def test_a_choice_follows_its_candidates_key() -> None:
    cells = {cell.arm: cell for cell in list_cells(plan_of(ARMS))}
    more = ARMS | {"sparse": ARMS["sparse"] | {"images": 4}}
    changed = {cell.arm: cell for cell in list_cells(plan_of(more))}
    assert cells["auto"].key != changed["auto"].key
    assert cells["probe"].key == changed["probe"].key
    assert replace(cells["auto"], seed=5).candidates[0].seed == 5


@pytest.mark.parametrize(
    ("auto", "message"),
    [
        ({"kind": "choice"}, "need each other"),
        ({"kind": "probe", "among": ["probe"]}, "need each other"),
        ({"kind": "sparse", "rule": "first"}, "need each other"),
        ({"kind": "choice", "among": ["probe", "other"]}, "cannot choose 'other'"),
        ({"kind": "choice", "among": ["probe", "auto"]}, "cannot choose 'auto'"),
        ({"kind": "choice", "among": ["probe"]}, "nothing to choose from"),
        ({"kind": "choice", "among": ["probe", "probe"]}, "nothing to choose from"),
        ({"kind": "choice", "among": ["probe", "sparse"], "masks": 3}, "masks has no effect"),
    ],
)
def test_choices_that_make_no_sense_are_refused(auto: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(ARMS | {"auto": auto})


def failing(*args: Any, **options: Any) -> Any:
    raise NonFiniteLoss("The loss became nan.")


def test_a_choice_among_failed_arms_fails_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"sparse": ARMS["sparse"], "auto": {"kind": "choice", "among": ["sparse"]}}
    monkeypatch.setattr(training, "finetune", failing)
    table = compare.run(plan_of(arms, seeds=[0]), tmp_path, only=["fundus/*"])
    (own,) = [record for record in table.cells().values() if record["arm"] == "auto"]
    assert (own["status"], own["failure"]) == ("failed", "every training that it chooses among failed")


def test_cells_without_validation_predictions_are_refused(tmp_path: Path) -> None:
    plan = plan_of(ARMS, seeds=[0])
    table = compare.run(plan, tmp_path, only=["fundus/probe", "fundus/sparse"])
    for path in (tmp_path / "predictions").glob("*-validation.npz"):
        path.unlink()
    with pytest.raises(RunError, match="has no validation predictions"):
        compare.run(plan, tmp_path, only=["fundus/auto"])
    assert {record["arm"] for record in table.cells().values()} == {"probe", "sparse"}


def test_the_candidates_seconds_count_once(tmp_path: Path) -> None:
    plan = plan_of(ARMS, seeds=[0], datasets={"fundus": {"source": "phantom:fundus?n=36&size=32"}})
    table = compare.run(plan, tmp_path)
    lines = [
        record | {"seconds": 1800.0 * (1 + 2 * (r == "auto"))}
        for record in table.cells().values()
        for r in [record["arm"]]
    ]
    (tmp_path / "cells.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    appendix = compare.write_report(plan, tmp_path, resamples=50).with_name("APPENDIX.md").read_text()
    assert "4 cells took **1.5 hours**" in appendix
    assert "## Choices" in appendix
    costs, cells = CostEstimate(), {(cell.arm, cell.budget): cell for cell in list_cells(plan)}
    for record in lines:
        if record["arm"] != "sparse":
            costs.add(cells[record["arm"], record["budget"]], record)
    alone = CostEstimate()
    alone.add(cells["probe", None], next(record for record in lines if record["arm"] == "probe"))
    assert costs.seconds(cells["sparse", 40]) == alone.seconds(cells["sparse", 40])
