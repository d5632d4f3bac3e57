"""The page of a report: one table, what follows from it, and the limits that the records show."""

from pathlib import Path
from typing import Any

import pytest

from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results
from shpeft.compare.report.page import page
from shpeft.errors import ConfigError
from tests.helpers.comparison_tables import made_up, planned

PROSE: dict[str, Any] = {
    "question": "Which weights?",
    "claim": "The paper states something.",
    "rows": ("probe", "bad", "good"),
    "meaning": ("It is small.",),
    "limits": ("It is a test.",),
    "names": {"bad": "other weights", "good": "our weights"},
}


def page_of(folder: Path, changes: dict[str, Any] | None = None, without: Any = ()) -> str:
    plan = planned()
    plan = plan.model_copy(update={"report": plan.report.model_copy(update=PROSE)})
    results = Results(plan, made_up(folder, plan, without=without))
    for record in results.records:
        record |= changes or {}
    return page(Bootstrap(results, 200))


def test_the_page_has_a_row_for_each_named_arm_and_its_prose(tmp_path: Path) -> None:
    text = page_of(tmp_path, {"temperature": 1.0})
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert sorted(rows) == ["**our weights**", "other weights", "the frozen model"]
    for part in ("Which weights?", "The paper states something.", "- It is small.", "- It is a test."):
        assert part in text
    assert "at the temperature that each training's validation images fit" in text
    assert "our weights has better probabilities than each of" in text
    assert "This is not a result yet" not in text
    assert len(text.split()) < 600


def test_older_cells_are_named_and_all_arms_cross_fitted(tmp_path: Path) -> None:
    text = page_of(tmp_path)
    assert "because 24 of 24 cells stored neither" in text


def test_trainings_that_ended_early_are_counted(tmp_path: Path) -> None:
    text = page_of(tmp_path, {"epochs": 1})
    assert "24 of 24 trainings, of the method's 6 of 6, ended before their last epoch" in text
    assert "ended before" not in page_of(tmp_path / "b", {"epochs": 8})


def test_an_unfinished_dataset_hides_no_mean(tmp_path: Path) -> None:
    text = page_of(tmp_path, without=[("good", "c"), ("bad", "c"), ("same", "c"), ("probe", "c")])
    assert "**This is not a result yet**: 16 of 24 cells" in text
    assert "Mean over 2 datasets" in text
    assert "| – | – | – | –" not in text


def test_an_arm_with_fewer_runs_stands_beside_none_with_all(tmp_path: Path) -> None:
    text = page_of(tmp_path, without=[("bad", "c")])
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert sorted(rows) == ["**our weights**", "the frozen model"]
    assert "22 of 24 cells are finished. Without other weights, which have fewer runs so far." in text


def test_rows_are_arms_of_the_plan() -> None:
    with pytest.raises(ConfigError, match="rows name 'none'"):
        planned(rows=["none"])
