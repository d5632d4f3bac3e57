"""The time left weighs cells by their cost and moves inside a cell."""

from pathlib import Path
from typing import Any

import pytest

from shpeft import compare
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.cost import CostEstimate, TableProgress, image_passes
from shpeft.compare.running import estimate
from tests.helpers.command_line import shpeft
from tests.helpers.comparison_tables import plan_of

CASES = {"train": 100, "val": 20, "test": 40}


def record(seconds: float) -> dict[str, Any]:
    return {"cases": CASES, "seconds": seconds}


def cell_of(arm: str, seed: int = 1, dataset: str = "fundus") -> Cell:
    return next(c for c in list_cells(plan_of()) if (c.arm, c.seed, c.dataset) == (arm, seed, dataset))


def test_a_cell_costs_what_cells_of_its_arm_took() -> None:
    costs = CostEstimate()
    assert costs.seconds(cell_of("full")) is None
    costs.add(cell_of("probe", 0), record(2.0))
    assert costs.seconds(cell_of("probe")) == pytest.approx(2.0)
    full = costs.seconds(cell_of("full"))
    assert full is not None
    assert full > 8  # two epochs of training images, forward and backward
    costs.add(cell_of("full", 0), record(300.0))  # two learning rates, tuned by the first seed
    assert costs.seconds(cell_of("full")) == pytest.approx(150, rel=0.1)
    assert costs.seconds(cell_of("probe")) == pytest.approx(2.0)
    assert costs.total([cell_of("probe"), cell_of("full")]) == pytest.approx(152, rel=0.1)


def test_larger_images_cost_by_their_area() -> None:
    wide = plan_of(image_sizes={"fundus": "64x96"})
    cells = {cell.dataset: cell for cell in list_cells(wide) if (cell.arm, cell.seed) == ("product", 1)}
    same = image_passes(cells["ultrasound"], CASES)
    assert image_passes(cells["fundus"], CASES) == pytest.approx(6 * same)  # the plan's images have 32 x 32 pixels


def test_progress_moves_inside_a_cell_by_its_weight() -> None:
    seen: list[tuple[str, int, int]] = []
    costs, cells = CostEstimate(), [cell_of("probe", 0), cell_of("full", 0)]
    costs.add(cells[0], record(10.0))
    costs.add(cells[1], record(90.0))
    progress = TableProgress(lambda *args: seen.append(args), cells, costs)
    progress.begin(cells[1], {cells[0].key})
    for training in range(2):
        for step in range(3):
            progress("training", step, 2)
        progress("validation", 2, 2)
        assert seen[-1][1] == 1000 + 4500 * (training + 1)
    assert {total for _, _, total in seen} == {10_000}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[0][0] == "fundus, seed 0, full: training"


def test_a_dry_run_counts_the_cells_that_are_left_in_hours(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = shpeft("compare", plan_file, "--dry-run", "--only", "fundus/probe").stdout
    assert printed.splitlines()[0].split()[-1] == "hours"
    assert [line.split()[0] for line in printed.splitlines()[1:]] == ["probe", "all"]
    assert float(printed.split()[-1]) >= 0
    assert not plan_file.with_suffix("").exists()
    shpeft("compare", plan_file, "--only", "fundus/probe")
    printed = shpeft("compare", plan_file, "--dry-run", "--only", "*/probe").stdout
    assert printed.splitlines()[1].split()[:2] == ["probe", "2"]
    assert "Cells that the table has are not counted." in printed
    shpeft("compare", plan_file, "--dry-run", "--only", "none", code=2)
    assert "wait" not in shpeft("compare", plan_file, "--only", "fundus/probe").stdout


def test_cells_that_cannot_run_alone_are_counted(tmp_path: Path) -> None:
    arms = {
        "probe": {"kind": "probe"},
        "head": {"kind": "head"},
        "auto": {"kind": "choice", "among": ["probe", "head"]},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(plan_of(arms).to_yaml())
    assert "4 cells wait for others that --only leaves out." in shpeft("compare", path, "--only", "*/auto").stdout


def test_a_precision_that_is_slower_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(training={"precision": "bfloat16"})
    monkeypatch.setattr(estimate, "has_bfloat16", lambda _: False)
    monkeypatch.setattr(
        estimate, "seconds_a_pass", lambda _, precision, device: {"float32": 1.0, "bfloat16": 4.0}[precision]
    )
    assert "4.0 times as long as float32" in str(compare.slow_precision(plan))
    assert compare.slow_precision(plan_of()) is None
    with monkeypatch.context() as patched:
        patched.setattr(estimate, "has_bfloat16", lambda _: True)
        assert compare.slow_precision(plan) is None
    monkeypatch.setattr(estimate, "seconds_a_pass", lambda *_: 1.0)
    assert compare.slow_precision(plan) is None


def test_a_part_of_a_plan_leaves_the_table_its_plan(tmp_path: Path) -> None:
    probe = {"probe": {"kind": "probe"}}
    whole = plan_of(probe | {"head": {"kind": "head"}})
    compare.run(whole, tmp_path, only=["fundus/probe"])
    stored = (tmp_path / "plan.yaml").read_text()
    compare.run(plan_of(probe), tmp_path, only=["fundus/probe"])
    assert (tmp_path / "plan.yaml").read_text() == stored
    compare.run(plan_of(probe, seeds=[0, 1, 2]), tmp_path, only=["fundus/probe"])
    assert (tmp_path / "plan.yaml").read_text() != stored
