"""A comparison is of images with one class; other tasks are refused by their name, and nothing is written."""

from pathlib import Path

import pytest

from shpeft.compare.plan import Plan
from shpeft.compare.running.task import load_splits
from shpeft.errors import DatasetError
from tests.helpers.finding_tables import write_findings


@pytest.mark.parametrize("task", ["multi-label", "ordinal", "regression"])
def test_other_tasks_are_refused(plan_file: Path, tmp_path: Path, task: str) -> None:
    source = {
        "multi-label": str(write_findings(tmp_path / "images", cases=24)) if task == "multi-label" else "",
        "ordinal": "phantom:fundus?n=36&size=32",
        "regression": "phantom:nodule?n=36&size=32",
    }[task]
    text = plan_file.read_text().replace('"phantom:ultrasound?n=36&size=32"', f'"{source}", task: {task}')
    plan_file.write_text(text)
    plan = Plan.from_yaml(plan_file)
    sentence = f"The task of ultrasound is {task}, and a comparison needs one class for each image"
    with pytest.raises(DatasetError, match=sentence) as refused:
        load_splits(plan, tmp_path, "ultrasound", 0)
    assert "shpeft sweep takes every task" in str(refused.value)
    assert load_splits(plan, tmp_path, "fundus", 0).classes
