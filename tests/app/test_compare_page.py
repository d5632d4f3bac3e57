"""The Compare page without a browser: complete and incomplete tables, and folders without one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from tests.helpers.app_pages import open_page, page_text
from tests.helpers.comparison_tables import ARMS, CORRECT, made_up, planned


@pytest.fixture(autouse=True)
def project(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the project's own results."""
    from app.views.compare import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    yield tmp_path / "results"
    streamlit.cache_resource.clear()


def open_folder(folder: Path) -> AppTest:
    """Open the page with this folder."""
    return open_page("compare", set_table_folder=str(folder))


def choose(app: AppTest, label: str, value: str) -> AppTest:
    """Set the widget with this label."""
    widgets: list[Any] = [*app.selectbox, *app.segmented_control]
    (widget,) = (widget for widget in widgets if widget.label == label)
    app = widget.set_value(value).run()
    return app


def table(app: AppTest, column: str) -> Any:
    """Return the first table with this column."""
    frames: list[Any] = [*app.dataframe, *app.table]
    return next(frame.value for frame in frames if column in frame.value)


def test_without_a_table_it_asks_for_a_folder(tmp_path: Path) -> None:
    app = open_page("compare")
    assert "Enter the folder of a comparison" in page_text(app)
    assert not app.error
    (tmp_path / "photos").mkdir()
    for folder in (tmp_path / "photos", tmp_path / "nowhere"):
        app = open_folder(folder)
        assert [error.value for error in app.error] == [
            f"The folder '{folder.name}' is not a table of a comparison: plan.yaml or cells.jsonl is missing. Choose a "
            "folder that 'shpeft compare' has written to, such as results/compare."
        ]
    assert not list((tmp_path / "photos").iterdir())
    assert not (tmp_path / "nowhere").exists()


def test_the_project_s_tables_are_listed_largest_first(project: Path) -> None:
    made_up(project / "another", planned(title="The other one"), without=("bad", "same"))
    made_up(project / "mine", planned(title="Which one?"))
    app = open_page("compare")
    assert "**Which one?**" in page_text(app)
    assert "Enter the folder of a comparison" in page_text(choose(app, "Comparison", "Another folder"))


def test_a_complete_table_is_shown_with_its_uncertainty(tmp_path: Path) -> None:
    made_up(tmp_path / "t", planned(arms=ARMS), correct=CORRECT)
    app = open_folder(tmp_path / "t")
    assert not app.error
    text = page_text(app)
    assert "48 of 48 cells are done" in text
    assert "**Better** than the frozen model (probe): +20.0" in text
    assert "good, 0.01 % is **better than** probe in balanced accuracy: **+20.0 [" in text
    assert "with 3 datasets it cannot be below 0.25" in text
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Test cases"] == "600"
    assert shown["Disagreement"] == "20.0%"
    assert shown["False claim"] == "below 0.1 %"
    assert shown["Detectable difference"].endswith(" points")
    assert all(metric.help for metric in app.metric)
    assert str(tmp_path) not in text
    claims = table(app, "evidence")
    assert list(claims["answer"]) == ["no", "yes"]
    against = table(app, "against").set_index("against")
    assert against.loc["full", "verdict"] == "worse"
    assert against.loc["full", "difference"] == pytest.approx(-10)
    assert len(app.get("plotly_chart")) == 5
    text = page_text(choose(app, "Against", "LoRA"))
    assert "**a tie**, neither is shown to be better" in text


def test_any_arm_and_metric_can_be_selected(tmp_path: Path) -> None:
    made_up(tmp_path / "t", planned(), confidence={"good": 0.8, "same": 0.8})
    app = choose(open_folder(tmp_path / "t"), "Arm", "bad, 0.01 %")
    against = table(app, "against").set_index("against")
    assert against.loc["good, 0.01 %", "verdict"] == "worse"
    assert "Answer" not in [header.value for header in app.header]
    app = choose(choose(app, "Metric", "ece"), "Arm", "good, 0.01 %")
    against = table(app, "against").set_index("against")
    assert against.loc["bad, 0.01 %", "verdict"] == "better"  # lower is better
    assert against.loc["bad, 0.01 %", "difference"] < 0
    assert against.loc["same, 0.01 %", "verdict"] == "identical"
    assert "Equivalence cannot be tested" in page_text(choose(app, "Against", "same, 0.01 %"))
    only = table(choose(app, "On", "b"), "against")
    assert "p, Holm" not in only


def test_a_best_rate_at_an_edge_of_the_grid_gives_a_warning(tmp_path: Path) -> None:
    made_up(tmp_path / "t", planned())
    app = open_folder(tmp_path / "t")
    assert any("bad, 0.01 % (3 of 3 datasets)" in warning.value for warning in app.warning)
    assert table(app, "tried").set_index("arm").loc["bad, 0.01 %", "a"] == "0.01 (edge)"


def test_an_incomplete_table_is_called_preliminary(tmp_path: Path) -> None:
    made_up(tmp_path / "t", planned(arms=ARMS), correct=CORRECT, without=("full", "kept", ("random", "b")))
    text = page_text(open_folder(tmp_path / "t"))
    assert "20 cells are missing" in text
    assert "| random, 0.01 % |  | 2 of 2 |  |" in text
    assert "**This is not a result yet**: 28 of 48" in text
    made_up(tmp_path / "begun", planned(), without=("good", "same", "bad"))
    app = open_folder(tmp_path / "begun")
    assert not app.error
    assert "There is no answer yet" in page_text(app) or "No other arm" in page_text(app)
