"""Arms whose prediction is averaged over a Laplace posterior of the trained values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare.cells import list_cells
from shpeft.compare.cost import image_passes
from shpeft.errors import ConfigError
from tests.helpers.comparison_tables import plan_of


def test_an_arm_predicts_by_its_posterior(tmp_path: Path) -> None:
    """The same training as without: what differs is how it predicts, and that its rate is chosen by that."""
    usual = {"kind": "sparse", "images": 8}
    arms = {
        "usual": usual,
        "averaged": usual | {"posterior": "laplace"},
        "few": usual | {"posterior": "laplace", "members": 2},
    }
    plan = plan_of(arms, seeds=[0], training={"epochs": 2, "batch_size": 8})
    table = compare.run(plan, tmp_path, only=["fundus/*"])
    cells = {cell.arm: cell for cell in list_cells(plan) if cell.dataset == "fundus"}
    records = {arm: table.cells()[cell.key] for arm, cell in cells.items()}
    assert {record["status"] for record in records.values()} == {"finished"}
    assert records["averaged"]["trained"] == 40
    cost = {arm: image_passes(cell, {"train": 18, "val": 12, "test": 12}) for arm, cell in cells.items()}
    assert cost["usual"] < cost["averaged"] < cost["few"]
    trials = {trial["cell"] + f" {trial['lr']}": trial for trial in table.trials().values()}
    usual_trial, averaged_trial = (trials[f"fundus, seed 0, {arm} 40 0.01"] for arm in ("usual", "averaged"))
    assert usual_trial["history"] == averaged_trial["history"]
    assert usual_trial["val_loss"] != averaged_trial["val_loss"]
    p, q = (table.predictions(cells[arm].key).probabilities for arm in ("usual", "averaged"))
    assert np.abs(p - q).max() > 1e-4
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("arm", [{"kind": "full"}, {"kind": "sparse", "views": 2}])
def test_posteriors_that_are_not_offered_are_refused(arm: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a posterior is for kind sparse, with a single view"):
        plan_of({"a": arm | {"posterior": "laplace"}})
