"""An arm of several members: trainings that differ in the seed of order, whose mean predicts."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.cost import trainings
from shpeft.compare.running import training
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.errors import ConfigError, NonFiniteLoss
from shpeft.evaluation.temperature import refinement_loss
from tests.helpers.comparison_tables import plan_of

ONE: dict[str, Any] = {"kind": "sparse", "images": 8}


def test_members_differ_in_order_alone_and_are_averaged(tmp_path: Path) -> None:
    plan = plan_of({"one": ONE, "few": ONE | {"members": 3}}, seeds=[0])
    table = compare.run(plan, tmp_path)
    cells = {cell.arm: cell for cell in list_cells(plan) if cell.dataset == "fundus"}
    records = {arm: table.cells()[cell.key] for arm, cell in cells.items()}
    assert records["few"]["trained"] == 3 * records["one"]["trained"] == 120
    assert records["few"]["bytes"] == pytest.approx(3 * records["one"]["bytes"], rel=0.01)
    assert 0 < records["few"]["disagreement"] < np.log(3)
    assert "disagreement" not in records["one"]
    assert [trainings(cell) for cell in cells.values()] == [2, 6]
    tasks = Tasks(plan, ".")
    task, cache = tasks.get("fundus", 0), ScoreCache(tasks, table)
    rate = Rate(records["few"]["lr"])
    trial, fitted = training.Trainings(cells["few"], task, cache).run(rate)
    assert fitted is not None
    assert len(fitted.members) == 3
    each = [member.predict(task.data.test).probabilities for member in fitted.members]
    mean = fitted.predict(task.data.test).probabilities
    np.testing.assert_allclose(mean, sum(each) / 3, atol=1e-12)
    assert np.array_equal(mean.astype(np.float32), table.predictions(cells["few"].key).probabilities)
    assert all(np.abs(a - b).max() > 1e-7 for a, b in pairwise(each))
    assert trial.val_loss == refinement_loss(fitted.predict(task.data.val).probabilities, task.data.val.labels)
    _, single = training.Trainings(cells["one"], task, cache).run(rate)
    assert single is not None
    assert np.array_equal(each[0], single.predict(task.data.test).probabilities)  # the first member is the single one


def test_one_member_that_diverges_fails_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of({"few": ONE | {"members": 2}}, seeds=[0])
    tasks, runs = Tasks(plan, "."), list[int]()
    train = training.Trainings._sparse

    def second_fails(self: training.Trainings, *arguments: Any) -> training.FittedModel:
        runs.append(self._seed)
        if len(runs) == 2:
            raise NonFiniteLoss("as if")
        return train(self, *arguments)

    monkeypatch.setattr(training.Trainings, "_sparse", second_fails)
    cell, cache = Cell(plan, "fundus", "few", 40, 0), ScoreCache(tasks, compare.Table(tmp_path))
    trial, fitted = training.Trainings(cell, tasks.get("fundus", 0), cache).run(Rate(1e-2))
    assert runs == [0, training.MEMBERS]
    assert trial.diverged
    assert fitted is None


def test_dense_arms_have_no_members() -> None:
    with pytest.raises(ConfigError, match="has 2 members, which is for kind sparse"):
        plan_of({"a": {"kind": "full", "members": 2}})
